"""Whether exposures are whole: none lost, none missing for a day, nobody in two arms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.analysis.model import DayOfExposures, Finding
from offline.analysis.wording import day

Times = NDArray[np.int64]
CHECK = "exposures"
# So many of the units may have changed arms before it is told as more than a note.
ALARMING_CROSSOVER = 0.01


def days_of_exposures(
    exposed_ms: Times, variant: Times, arms: int, starts_ms: Times
) -> tuple[DayOfExposures, ...]:
    """First exposures by day and arm; days begin at ``starts_ms``, without gaps."""
    place = np.searchsorted(starts_ms, exposed_ms, side="right") - 1
    counts = np.bincount(place * arms + variant, minlength=len(starts_ms) * arms)
    return tuple(
        DayOfExposures(int(start), tuple(row))
        for start, row in zip(starts_ms, counts.reshape(-1, arms).tolist(), strict=True)
    )


def check_days(days: tuple[DayOfExposures, ...], time_zone: str) -> Finding:
    """Days between the first and the last on which nobody was exposed for the first time."""
    if not days:
        return Finding(CHECK, "not_checked", "Nothing was exposed yet.", "days")
    empty = [found.day_ms for found in days if not sum(found.units)]
    if empty:
        named = ", ".join(day(day_ms, time_zone) for day_ms in empty[:3])
        more = f" and {len(empty) - 3} more days" if len(empty) > 3 else ""
        text = f"Nobody was exposed for the first time on {named}{more}: was the experiment off?"
        return Finding(CHECK, "notice", text, "days")
    number = "the one day" if len(days) == 1 else f"each of {len(days)} days"
    return Finding(CHECK, "ok", f"Units were exposed on {number}.", "days")


def check_lost(lost: int, exposures: int) -> Finding:
    """Exposures that were counted as lost on their way to the log, beside those that came."""
    if lost:
        text = (
            f"{lost:,} exposures were lost on their way to the log, beside {exposures:,} that"
            " arrived; the arms' sizes tell whether one arm lost more."
        )
        return Finding(CHECK, "notice", text, "lost")
    return Finding(CHECK, "ok", f"None of {exposures:,} exposures is known to be lost.", "lost")


def check_crossover(crossed: int, units: int) -> Finding:
    """Units that were left out because they were seen in two arms."""
    if not crossed:
        return Finding(CHECK, "ok", "No unit was seen in two arms.", "crossover")
    share = crossed / (crossed + units)
    text = f"{crossed:,} units ({share:.2%}) were seen in two arms and are left out"
    if share > ALARMING_CROSSOVER:
        text += ": what is left may not be alike any more. Are devices shared, or did salts change?"
        return Finding(CHECK, "alarm", text, "crossover")
    return Finding(CHECK, "notice", f"{text}.", "crossover")
