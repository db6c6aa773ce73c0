"""Assignment of units to variants: definitions from YAML and the pure function that decides."""
