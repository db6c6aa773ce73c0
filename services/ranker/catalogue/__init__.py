"""The replica of the catalogue: columns in memory, kept by a watch, with a copy on disk."""
