"""The registry of definitions: what may become of an experiment, and what is kept of it."""
