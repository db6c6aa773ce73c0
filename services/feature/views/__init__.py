"""Views, the stores that serve them, and how the next store takes over."""
