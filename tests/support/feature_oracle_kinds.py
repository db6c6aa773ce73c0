"""What each kind of feature makes of the events that name an entity, by reading all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple

from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.domain import Domain
from services.common.domain_features import DistinctFeature, ExpressionFeature, Feature
from services.common.durations import duration_ms

Value = int | float | str | list[str] | list[float]
Named = Callable[[LoggedEvent], list[tuple[str, str]]]
"""Entities that an event names or leads to."""
Ledger = Callable[[LoggedEvent], list[LoggedEvent]]
"""Refunds of its purchase under the name of a refund, up to and with it."""
Mentions = Callable[[DistinctFeature], list[tuple[int, str]]]
"""(time, id) of what a distinct feature counts."""

HOPS = ("62d12h", "12d12h", "2d12h", "12h", "2h", "1h", "5m", "1m", "5s")
MOST = 2**63 - 1


class Found(NamedTuple):
    """A value of a known entity, its status, and the time of the latest event counted in it."""

    value: Value
    status: str
    event_ms: int = 0

    def absent(self, feature: Feature) -> Value:
        """The default of the feature, given what it makes of no events."""
        return self.value if feature.kind != "expression" else feature.default


def time_ms(event: Event) -> int:
    """Event time as epoch milliseconds."""
    return event.event_time.ToMilliseconds()


def counted_ms(logged: LoggedEvent) -> int:
    """The same of when a record counts: of the catalogue not later than it arrived."""
    happened_ms = time_ms(logged.event)
    of_catalogue = logged.event.type.startswith(("entity_", "room_")) or (
        logged.event.type == "profile"
    )
    if of_catalogue and logged.HasField("arrival_time"):
        return min(happened_ms, logged.arrival_time.ToMilliseconds())
    return happened_ms


def window_start(t_ms: int, window: str) -> int:
    """floor((t - W) / hop) * hop, with the longest hop that is at most W / 12."""
    length = duration_ms(window)
    hop = next(size for size in map(_hop_ms, HOPS) if size * 12 <= length)
    return floor(Fraction(t_ms - length, hop)) * hop


def _hop_ms(text: str) -> int:
    days, _, rest = text.rpartition("d")
    return (int(days) * 86_400_000 if days else 0) + duration_ms(rest)


def from_events(
    domain: Domain,
    feature: Feature,
    known: list[LoggedEvent],
    t_ms: int,
    ledger: Ledger,
    mentions: Mentions,
) -> Found:
    """A feature of an entity that ``known`` events name, as of ``t_ms``."""
    match feature.kind:
        case "count":
            inside = _inside(known, feature.events, feature.window, t_ms)
            total = _count(known, feature.events, feature.window, t_ms, ledger)
            return Found(total, "PRESENT", _latest(inside))
        case "rate":
            inside = _inside(known, feature.events, feature.window, t_ms)
            total = _count(known, feature.events, feature.window, t_ms, ledger)
            rate = total * duration_ms(feature.per) / duration_ms(feature.window)
            return Found(rate, "PRESENT", _latest(inside))
        case "ratio":
            both = [
                (_count(known, events, feature.window, t_ms, ledger), prior)
                for events, prior in (
                    (feature.numerator, feature.prior.numerator),
                    (feature.denominator, feature.prior.denominator),
                )
            ]
            (numerator, above), (denominator, below) = both
            inside = _inside(
                known, [*feature.numerator, *feature.denominator], feature.window, t_ms
            )
            return Found((numerator + above) / (denominator + below), "PRESENT", _latest(inside))
        case "sum" | "mean" | "min" | "max" | "last":
            return _from_values(domain, feature, known, t_ms, ledger)
        case "distinct":
            start = window_start(t_ms, feature.window)
            inside_of = [(at, i) for at, i in mentions(feature) if start <= at <= t_ms]
            number = len({identity for _, identity in inside_of})
            latest_ms = max((at for at, _ in inside_of), default=0)
            return Found(min(number, feature.cap), "PRESENT", latest_ms)
        case "recency":
            times = [counted_ms(logged) for logged in known if logged.event.type in feature.events]
            if not times:
                return Found(feature.default, "NULL")
            return Found((t_ms - max(times)) / 1000, "PRESENT", max(times))
        case "last_n":
            oldest_ms = t_ms - duration_ms(feature.ttl) if feature.ttl else 0
            entries = [
                (counted_ms(logged), logged.arrival, logged.event.type, ref.id)
                for logged in known
                if logged.event.type in feature.events
                for ref in logged.event.entities
                if ref.type == feature.of
            ]
            kept = [e for e in sorted(entries)[-feature.limit :] if e[0] >= oldest_ms]
            listed = [e[3] if feature.emit == "id" else e[2] for e in kept]
            return Found(listed, "PRESENT", kept[-1][0] if kept else 0)
        case _:
            raise ValueError(f"{feature.kind} is not computed from events")


def latest_named(
    known: list[LoggedEvent], events: Sequence[str], of: str, named: Named, limit: int
) -> list[tuple[str, int]]:
    """(id, time) of the entities of a type that were named last; of equal times the greater id
    first."""
    times: dict[str, int] = {}
    for logged in known:
        if logged.event.type in events:
            for identity in named_ids(logged, of, named):
                times[identity] = max(times.get(identity, 0), counted_ms(logged))
    order = sorted(((at, identity) for identity, at in times.items()), reverse=True)
    return [(identity, at) for at, identity in order[:limit]]


def expression(feature: ExpressionFeature, inputs: dict[str, tuple[Value, int]]) -> Found:
    """Arithmetic by Python's own evaluation; NULL where it is not finite."""
    functions = {"min": min, "max": max, "log1p": math.log1p, "abs": abs}
    numbers = {n: float(v) for n, (v, _) in inputs.items() if isinstance(v, int | float)}
    try:
        value = eval(feature.formula, {"__builtins__": {}} | functions, numbers)  # noqa: S307
        finite = math.isfinite(value)
    except (ZeroDivisionError, OverflowError, ValueError):
        finite = False
    if not finite:
        return Found(feature.default, "NULL")
    read = [at for name, (_, at) in inputs.items() if name in _words(feature.formula)]
    return Found(float(value), "PRESENT", max(read))


def event_value(event: Event, value: str, dtype: str = "int") -> int | float | str | None:
    """An attribute of an event, as declared; a purchase's or refund's ``amount_minor`` is its
    amount. None for none."""
    if value == "amount_minor" and event.HasField("purchase"):
        return event.purchase.amount.amount_minor
    if value == "amount_minor" and event.HasField("refund"):
        return event.refund.amount.amount_minor
    if value not in event.attributes:
        return None
    said = event.attributes[value]
    match dtype, said.WhichOneof("kind"):
        case "string", "string_value":
            return said.string_value
        case "bool", "bool_value":
            return int(said.bool_value)
        case "int" | "float", "int_value":
            return said.int_value if dtype == "int" else float(said.int_value)
        case "float", "double_value":
            return said.double_value
        case _:
            return None


def _words(formula: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in formula).split())


def _from_values(
    domain: Domain, feature: Feature, known: list[LoggedEvent], t_ms: int, ledger: Ledger
) -> Found:
    assert feature.kind in ("sum", "mean", "min", "max", "last")
    dtype = _dtype(domain, feature.events[0], feature.value)
    inside = [
        (counted_ms(logged), logged.arrival, value)
        for logged in _inside(known, feature.events, feature.window, t_ms)
        if (value := event_value(logged.event, feature.value, dtype)) is not None
    ]
    latest_ms = max((at for at, _, _ in inside), default=0)
    if feature.kind == "last":
        if not inside:
            return Found({"string": "", "float": 0.0}.get(dtype, 0), "NULL")
        return Found(max(inside)[2], "PRESENT", latest_ms)
    numbers = [value for _, _, value in inside if not isinstance(value, str)]
    if feature.kind in ("min", "max"):
        if not numbers:
            default = feature.default if dtype == "float" else int(feature.default)
            return Found(default, "NULL")
        return Found(min(numbers) if feature.kind == "min" else max(numbers), "PRESENT", latest_ms)
    refunded, taken_back = _refunded(known, feature.events, feature.window, t_ms, ledger)
    if feature.value != "amount_minor":
        refunded = taken_back = 0
    total: float = float(sum(map(Fraction, numbers))) if dtype == "float" else sum(numbers)
    total -= taken_back
    if feature.value == "amount_minor" and "purchase" in feature.events:
        total = max(0, total)
    if dtype != "float":
        total = min(total, MOST)
    if feature.kind == "sum":
        return Found(total, "PRESENT", latest_ms)
    if len(numbers) - refunded <= 0:
        return Found(feature.default, "NULL")
    return Found(total / (len(numbers) - refunded), "PRESENT", latest_ms)


def _dtype(domain: Domain, event: str, value: str) -> str:
    if value == "amount_minor" and event in ("purchase", "refund"):
        return "int"
    return domain.events[event].attributes.get(value, "int")


def _inside(
    known: list[LoggedEvent], events: Sequence[str], window: str, t_ms: int
) -> list[LoggedEvent]:
    start = window_start(t_ms, window)
    return [
        logged
        for logged in known
        if logged.event.type in events and start <= counted_ms(logged) <= t_ms
    ]


def _latest(events: list[LoggedEvent]) -> int:
    return max((counted_ms(logged) for logged in events), default=0)


def named_ids(logged: LoggedEvent, of: str, named: Named) -> list[str]:
    """Ids of a type that an event names or leads to; users are who acted."""
    if of == "user":
        actor = logged.event.actor
        user = actor.user_id or (f"device:{actor.device_id}" if actor.device_id else "")
        return [user] if user else []
    return [identity for kind, identity in named(logged) if kind == of]


def _count(
    known: list[LoggedEvent], events: list[str], window: str, t_ms: int, ledger: Ledger
) -> int:
    wholly, _ = _refunded(known, events, window, t_ms, ledger)
    return max(0, len(_inside(known, events, window, t_ms)) - wholly)


def _refunded(
    known: list[LoggedEvent], events: Sequence[str], window: str, t_ms: int, ledger: Ledger
) -> tuple[int, int]:
    """(purchases wholly refunded, amount given back) in the window of the purchases.

    Each refund changes the number by what it adds to those under its name that came before it.
    """
    if "purchase" not in events:
        return 0, 0
    start = window_start(t_ms, window)

    def wholly(refunds: list[LoggedEvent]) -> bool:
        if not refunds:
            return False
        first = refunds[0].event.refund
        total = sum(logged.event.refund.amount.amount_minor for logged in refunds)
        whole = total >= first.purchase_amount.amount_minor
        return whole and start <= first.purchase_time.ToMilliseconds() <= t_ms

    number = given_back = 0
    for logged in known:
        if logged.event.type == "refund":
            refund = logged.event.refund
            *before, last = sorted(ledger(logged), key=lambda other: other.arrival)
            assert last is logged
            number += wholly([*before, last]) - wholly(before)
            if start <= refund.purchase_time.ToMilliseconds() <= t_ms:
                given_back += refund.amount.amount_minor
    return number, given_back
