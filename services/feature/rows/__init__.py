"""Rows of features, computed from states at the time of a request."""
