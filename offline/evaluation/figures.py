"""A mean with its interval, as reports keep and show it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from offline.evaluation.bootstrap import Interval


class Figure(BaseModel):
    """A mean over users and its two-sided bootstrap interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    low: float
    high: float


def figure(value: Interval) -> Figure:
    """A figure of an interval."""
    return Figure(mean=value.mean, low=value.low, high=value.high)


def cell(value: Figure) -> str:
    """Two lines of a table."""
    return f"{value.mean:.4f}\n[dim]{value.low:.4f}–{value.high:.4f}[/dim]"
