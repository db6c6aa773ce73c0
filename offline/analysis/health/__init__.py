"""Whether an experiment's figures may be believed, looked at before the figures."""
