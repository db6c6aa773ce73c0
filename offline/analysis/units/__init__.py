"""Units of an experiment and their outcomes, from the event log."""
