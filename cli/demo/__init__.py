"""``podium demo`` and ``podium up``: the whole loop on a simulated world."""

from cli.demo.command import register

__all__ = ["register"]
