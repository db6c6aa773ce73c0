"""What an effect says by itself: better, worse, held, harmed."""

from __future__ import annotations

from offline.analysis.model import Direction, Interval, Verdict


def verdict_of_change(
    effect: Interval, p_adjusted: float | None, direction: Direction, alpha: float
) -> Verdict:
    """Of a metric that is to get better."""
    if effect.estimate is None or p_adjusted is None:
        return "not_measured"
    shown = _shown(effect, p_adjusted, alpha)
    if shown is None:
        return "no_difference_shown"
    return "better" if shown == direction else "worse"


def verdict_of_guardrail(
    effect: Interval,
    p_adjusted: float | None,
    direction: Direction,
    alpha: float,
    margin: float,
) -> Verdict:
    """Of a metric that must not get worse by more than ``margin``, a share of the control's mean.

    It holds where the whole interval is better than the margin (non-inferiority), and is broken
    where the whole interval is worse, and the difference is one after correction. With a margin of
    0 it is broken where it is shown to be worse at all.
    """
    if effect.estimate is None or p_adjusted is None:
        return "not_measured"
    shown = _shown(effect, p_adjusted, alpha)
    harmed = shown is not None and shown != direction
    if margin == 0:
        return "broken" if harmed else "no_harm_shown"
    worst, best = effect.relative_lower, effect.relative_upper
    if direction == "decrease":
        worst, best = _negative(effect.relative_upper), _negative(effect.relative_lower)
    if worst is not None and worst > -margin:
        return "held"
    if harmed and best is not None and best < -margin:
        return "broken"
    return "not_shown_to_hold"


def _shown(effect: Interval, p_adjusted: float, alpha: float) -> Direction | None:
    """Which way the metric is shown to have gone: p is at most ``alpha``, and interval and estimate
    lie on that side of zero. An always-valid p-value is the smallest so far, so that an effect that
    was there and turned keeps it; interval and estimate do not."""
    if effect.estimate is None or p_adjusted > alpha:
        return None
    if effect.lower is not None and min(effect.lower, effect.estimate) > 0:
        return "increase"
    if effect.upper is not None and max(effect.upper, effect.estimate) < 0:
        return "decrease"
    return None


def _negative(number: float | None) -> float | None:
    return None if number is None else -number
