"""``podium explain``: why one slate was what it was, and what came of it."""

from cli.explain.command import register

__all__ = ["register"]
