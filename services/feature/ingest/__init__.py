"""Takes events in: duplicates told, records written, answers when they are on disk."""
