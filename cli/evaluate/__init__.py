"""``podium evaluate``: how well a bundle ranks, and what another policy would have earned."""

from cli.evaluate.command import register

__all__ = ["register"]
