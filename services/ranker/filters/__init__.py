"""Filters: what must not be shown. Each says what it does with a missing value."""
