"""The definitions of experiments that a ranker decides by: watched, with a copy on disk."""
