"""How good is what is served: the ranker's own pipeline over requests of a held-out period."""
