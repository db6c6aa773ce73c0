"""Plots of a report as SVG, drawn by Matplotlib.

They hold figures and dates, and no names: names are any text in any script, and belong where text
is set.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from offline.analysis.model import DayOfExposures, Interval, SequencePoint
from offline.analysis.wording import short_day

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
PALE = "#c9d1d9"
ACCENT = "#2563a8"
# Of arms, in their order: the control is grey; told apart by people with any colour vision.
ARM_COLOURS = (
    "#7b8794",
    "#2563a8",
    "#d97706",
    "#0f8a6d",
    "#a23b72",
    "#5b5bd6",
    "#8a6d1b",
    "#c2410c",
)
_SIZE = (6.0, 2.9)
# Of Matplotlib's own type, which names each of its settings.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": PALE,
    "axes.unicode_minus": True,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
}
_MOST_TICKS = 5


def effect_over_time(points: Sequence[SequencePoint], time_zone: str) -> str:
    """The effect with its interval as it was known at the end of each day, as SVG text: relative
    where the last point is, else absolute. Early intervals that are far wider than later ones are
    cut off."""
    from matplotlib import rc_context
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    relative = points[-1].effect.relative is not None
    values = [_ends(point.effect, relative) for point in points]
    with rc_context(_STYLE):
        figure, axes = _figure()
        days = list(range(len(values)))
        least, most = _limits(values)
        known = [(d, v) for d, v in zip(days, values, strict=True) if v[1] is not None]
        lower = [least - 1 if v[0] is None else v[0] for _, v in known]
        upper = [most + 1 if v[2] is None else v[2] for _, v in known]
        places = [d for d, _ in known]
        estimates = [v[1] for _, v in known if v[1] is not None]
        axes.fill_between(places, lower, upper, color=ACCENT, alpha=0.16, linewidth=0)
        axes.plot(places, lower, color=ACCENT, linewidth=0.8, alpha=0.5)
        axes.plot(places, upper, color=ACCENT, linewidth=0.8, alpha=0.5)
        axes.plot(places, estimates, color=ACCENT, linewidth=2.2)
        axes.plot(places[-1:], estimates[-1:], "o", color=ACCENT, markersize=6)
        if len(known) == 1:
            axes.vlines(places, lower, upper, color=ACCENT, linewidth=2)
        axes.axhline(0, color=INK, linewidth=1)
        axes.set_ylim(least, most)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if relative:
            axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        _days(axes, [point.day_ms for point in points], time_zone)
        return _svg(figure)


def units_over_time(days: Sequence[DayOfExposures], time_zone: str) -> str:
    """Units exposed for the first time by day, a line an arm in ``ARM_COLOURS``, as SVG text."""
    from matplotlib import rc_context
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    with rc_context(_STYLE):
        figure, axes = _figure()
        places = list(range(len(days)))
        for arm in range(len(days[0].units)):
            units = [day.units[arm] for day in days]
            axes.plot(
                places,
                units,
                color=ARM_COLOURS[arm % len(ARM_COLOURS)],
                linewidth=2,
                marker="o" if len(days) < 3 else None,
            )
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _days(axes, [day.day_ms for day in days], time_zone)
        return _svg(figure)


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE)
    # Room for the widest labels, of which a layout engine would find out at twice the time.
    figure.subplots_adjust(left=0.125, right=0.975, top=0.97, bottom=0.11)
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#e7ebef", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return figure, axes


def _ends(effect: Interval, relative: bool) -> tuple[float | None, float | None, float | None]:
    if relative:
        return effect.relative_lower, effect.relative, effect.relative_upper
    return effect.lower, effect.estimate, effect.upper


def _limits(
    values: Sequence[tuple[float | None, float | None, float | None]],
) -> tuple[float, float]:
    """Ends of the axis: 0, all estimates and the intervals of the later half have room."""
    later = values[len(values) // 2 :]
    last = [end for end in values[-1] if end is not None]
    around = max(last, default=1.0) - min(last, default=-1.0)
    middle = [value[1] for value in values if value[1] is not None]
    shown = [end for value in later for end in value if end is not None]
    # Nor may what was known early leave the last interval a hair's breadth.
    least = max(min(0.0, *middle, *shown, 0.0), min(0.0, *last, 0.0) - 3 * around)
    most = min(max(0.0, *middle, *shown, 0.0), max(0.0, *last, 0.0) + 3 * around)
    room = 0.06 * (most - least) or 0.01
    return least - room, most + room


def _days(axes: Axes, days_ms: Sequence[int], time_zone: str) -> None:
    """Labels of at most ``_MOST_TICKS`` days, as far apart as one another."""
    last = len(days_ms) - 1
    places = range(0, last + 1, max(1, math.ceil(last / (_MOST_TICKS - 1))))
    axes.set_xticks(places, [short_day(days_ms[place], time_zone) for place in places])
    axes.set_xlim(-0.3 - 0.02 * last, last + 0.3 + 0.02 * last)


def _percent(value: float, _: int) -> str:
    text = f"{100 * value:+.3g}%"
    return "0%" if value == 0 else text.replace("-", "−")


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue().replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif")
    return text[text.index("<svg") :]
