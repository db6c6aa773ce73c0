"""``podium features``: the views that are served, new ones backfilled, stores made anew."""

from cli.features.command import register

__all__ = ["register"]
