"""flagd's evaluation interface, which the OpenFeature SDKs' flagd providers speak."""
