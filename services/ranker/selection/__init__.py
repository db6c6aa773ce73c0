"""Selection: which of the scored items are shown, in which order."""
