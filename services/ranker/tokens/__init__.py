"""Tokens: what an answer hands out so that any replica can answer what follows it."""
