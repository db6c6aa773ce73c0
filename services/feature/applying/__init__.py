"""Applies the log to a store, in a process of its own."""
