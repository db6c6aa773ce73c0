"""Numbers, chances and times of an analysis in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from offline.analysis.model import Interval

NONE = "–"
_MINOR = " minor units"
# ISO 4217: currencies whose minor unit is not a hundredth.
_EXPONENTS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW"), 0),
    **dict.fromkeys(("PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
_DURATIONS = ((3_600_000.0, "h"), (60_000.0, "min"), (1_000.0, "s"))


def readable(name: str) -> str:
    """The name of a metric, covariate or segment as words."""
    return name.replace("_", " ").strip() or name


def of_unit(number: float | None, unit: str, *, signed: bool = False) -> str:
    """``number`` of a metric's ``unit`` as people write it: shares in percent (differences of
    shares in percentage points), minor units of money in major ones, ms in hours to seconds."""
    if number is None:
        return NONE
    what, _, by = unit.partition(" by ")
    text = _amount(number, what, signed)
    return f"{text} per {_one(by)}" if by else text


def share(number: float | None, *, signed: bool = False) -> str:
    """A share in percent, with as many digits as tell it from 0."""
    if number is None:
        return NONE
    return f"{_percent(100 * number, signed)}%"


def interval(effect: Interval, unit: str) -> str:
    """The interval, relative where there is one, else in the metric's ``unit``."""
    if effect.relative_lower is not None or effect.relative_upper is not None:
        return between(
            share(effect.relative_lower, signed=True), share(effect.relative_upper, signed=True)
        )
    return between(
        of_unit(effect.lower, unit, signed=True), of_unit(effect.upper, unit, signed=True)
    )


def change(effect: Interval, unit: str) -> str:
    """The estimate, relative where there is one, else in the metric's ``unit``."""
    if effect.relative is not None:
        return share(effect.relative, signed=True)
    return of_unit(effect.estimate, unit, signed=True)


def between(lower: str, upper: str) -> str:
    """Two ends; an end that is not there is none."""
    if lower == upper == NONE:
        return NONE
    if lower == NONE:
        return f"up to {upper}"
    return f"{lower} or more" if upper == NONE else f"{lower} to {upper}"


def p_value(number: float | None) -> str:
    """A p-value with two digits, and none smaller than 0.0001."""
    if number is None:
        return NONE
    return "< 0.0001" if number < 0.0001 else f"{number:.2g}"


def probability(number: float) -> str:
    """How often something of that probability is: 0.0004 is "about once in 2,000 times"."""
    if number < 1e-9:
        return "less than once in 1,000,000,000 times"
    if number > 0.1:
        return f"{number:.0%} of the time"
    times = int(1 / number)
    return f"about once in {round(times, 1 - len(str(times))):,} times"


def chance(number: float) -> str:
    """A chance in percent, never all or nothing."""
    if number > 0.999:
        return "over 99.9%"
    return "under 0.1%" if number < 0.001 else f"{number:.1%}"


def loss(number: float, control_mean: float | None) -> str:
    """A loss as a share of the control's mean, none smaller than 0.01%."""
    if not control_mean:
        return NONE
    size = abs(number / control_mean)
    return "under 0.01%" if size < 0.0001 else share(size)


def listed(texts: Sequence[str]) -> str:
    """Texts in a sentence: "a, b and c"."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def day(time_ms: int | None, time_zone: str) -> str:
    """The day of a time, e.g. "5 March 2026"."""
    if time_ms is None:
        return NONE
    then = _local(time_ms, time_zone)
    return f"{then.day} {then:%B %Y}"


def short_day(time_ms: int, time_zone: str) -> str:
    """The day of a time without its year, e.g. "5 Mar"."""
    then = _local(time_ms, time_zone)
    return f"{then.day} {then:%b}"


def moment(time_ms: int, time_zone: str) -> str:
    """A time to the minute, e.g. "5 March 2026, 14:05 (UTC)"."""
    then = _local(time_ms, time_zone)
    return f"{day(time_ms, time_zone)}, {then:%H:%M} ({time_zone})"


def _local(time_ms: int, time_zone: str) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, ZoneInfo(time_zone))


def _amount(number: float, unit: str, signed: bool) -> str:
    if unit == "share of units":
        if not signed:
            return share(number)
        return f"{_percent(100 * number, signed)} percentage points"
    if unit.endswith(_MINOR):
        currency = unit.removesuffix(_MINOR)
        exponent = _EXPONENTS.get(currency, 2)
        major, sign = number / 10**exponent, "+" if signed else ""
        if abs(major) < 1:
            return f"{_figure(major, signed)} {currency}"
        return _minus(f"{major:{sign},.{exponent}f} {currency}")
    if unit == "ms":
        for length, name in _DURATIONS:
            if abs(number) >= length:
                return f"{_figure(number / length, signed)} {name}"
    return f"{_figure(number, signed)} {unit}" if unit else _figure(number, signed)


def _one(unit: str) -> str:
    """The name of one of a unit: "events" are counted, and a ratio is by one "event"."""
    return "event" if unit == "events" else unit


def _percent(number: float, signed: bool) -> str:
    """One digit behind the point, and more where that would be nothing."""
    if round(abs(number), 2) >= 1 or number == 0:
        return _minus(f"{number:{_sign(signed)},.1f}")
    return _minus(f"{number:{_sign(signed)}.2g}")


def _figure(number: float, signed: bool) -> str:
    """Three digits that count, none of them behind the point beyond 1,000."""
    size = round(abs(number), 3)
    if size < 1 and number != 0:
        return _minus(f"{number:{_sign(signed)}.3g}")
    digits = 0 if size >= 1_000 else 1 if size >= 10 else 2
    return _minus(f"{number:{_sign(signed)},.{digits}f}")


def _sign(signed: bool) -> str:
    return "+" if signed else ""


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text
