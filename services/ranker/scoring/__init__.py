"""Scoring: probabilities from the model, one value from probabilities."""
