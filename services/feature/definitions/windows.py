"""When a window starts, and what its total is served as. Pure."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

HOPS_MS: Final = (
    5_000,
    60_000,
    300_000,
    3_600_000,
    7_200_000,
    43_200_000,
    216_000_000,
    1_080_000_000,
    5_400_000_000,
)
"""Sizes of tiles: 5 s, 1 m, 5 m, 1 h, 2 h, 12 h, 2.5 d, 12.5 d, 62.5 d. Each divides the next."""


def hop_ms(window_ms: int) -> int:
    """Steps that the start of a window moves in; also the size of its coarsest tiles."""
    return HOPS_MS[bisect_right(HOPS_MS, window_ms // 12) - 1]


def window_start_ms(t_ms: int, window_ms: int) -> int:
    """First epoch millisecond counted at ``t_ms``: the start of the hop that holds t - W."""
    hop = hop_ms(window_ms)
    return (t_ms - window_ms) // hop * hop


def window_hops_ms(t_ms: int, window_ms: int) -> int:
    """First time after ``t_ms`` at which the window starts elsewhere."""
    return window_start_ms(t_ms, window_ms) + hop_ms(window_ms) + window_ms


MAX_TOTAL: Final = 2**63 - 1
"""Largest total of a window that is served: what an int64 column holds."""


def served_total(total: int, *, reversible: bool = True) -> int:
    """Total of a window as it is served: within an int64, and where refunds reverse it not below
    zero, which a refund known before its purchase would make it."""
    return min(max(total, 0 if reversible else -MAX_TOTAL), MAX_TOTAL)


def smoothed_ratio(
    numerator: int, denominator: int, prior_numerator: float, prior_denominator: float
) -> float:
    """(numerator + prior) / (denominator + prior), each total as it is served."""
    return (served_total(numerator) + prior_numerator) / (
        served_total(denominator) + prior_denominator
    )
