"""What every feature should be, by reading all events each time. Slow, and written to be read.

The online store and the offline tables are both checked against it. It shares with them only the
definitions' schema, not their arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from podium.common.v1.common_pb2 import TrafficClass
from podium.event.v1.event_pb2 import Event, LoggedEvent, RoomState
from services.common.domain import Domain, features_of
from services.common.domain_features import Feature
from services.common.durations import duration_ms

Value = int | float | str | list[str]
ABSENT_DEFAULTS: dict[str, Value] = {"string": "", "int": 0, "bool": 0, "float": 0.0}
LIVE = (TrafficClass.TRAFFIC_CLASS_UNSPECIFIED, TrafficClass.TRAFFIC_CLASS_LIVE)


@dataclass(frozen=True)
class OracleValue:
    """A value and its status: "PRESENT", "NULL" (known entity, no value) or "NOT_FOUND"."""

    value: Value
    status: str


def time_ms(event: Event) -> int:
    """Event time as epoch milliseconds."""
    return event.event_time.ToMilliseconds()


HOPS = ("62d12h", "12d12h", "2d12h", "12h", "2h", "1h", "5m", "1m", "5s")


def window_start(t_ms: int, window: str) -> int:
    """floor((t - W) / hop) * hop, with the longest hop that is at most W / 12."""
    length = duration_ms(window)
    hop = next(size for size in map(_hop_ms, HOPS) if size * 12 <= length)
    return floor(Fraction(t_ms - length, hop)) * hop


def _hop_ms(text: str) -> int:
    days, _, rest = text.rpartition("d")
    return (int(days) * 86_400_000 if days else 0) + duration_ms(rest)


def known_events(
    domain: Domain, log: Sequence[LoggedEvent], t_ms: int, arrival: int
) -> list[LoggedEvent]:
    """Events that count as of (t_ms, arrival): event time <= t_ms, position < arrival, LIVE,
    of a declared type, neither duplicate nor too late."""
    return [
        logged
        for logged in log
        if logged.arrival < arrival
        and time_ms(logged.event) <= t_ms
        and not logged.duplicate
        and not logged.too_late
        and logged.event.traffic_class in LIVE
        and logged.event.type in domain.events
    ]


def names_entity(event: Event, entity: str, identity: str) -> bool:
    """Whether the event is about this entity; a user is the actor."""
    if entity == "user":
        actor = event.actor
        key = actor.user_id or (f"device:{actor.device_id}" if actor.device_id else "")
        return key == identity
    return any(ref.type == entity and ref.id == identity for ref in event.entities)


class Oracle:
    """Features of one domain's entities as of (t_ms, arrival), from the whole log."""

    def __init__(self, domain: Domain, log: Sequence[LoggedEvent], t_ms: int, arrival: int) -> None:
        self.domain = domain
        self.t_ms = t_ms
        self.known = known_events(domain, log, t_ms, arrival)

    def features(self, entity: str, identity: str) -> dict[str, OracleValue]:
        """Every feature of one entity, by name in declared order."""
        naming = [logged for logged in self.known if names_entity(logged.event, entity, identity)]
        values = {}
        for name, feature in features_of(self.domain, entity).items():
            if feature.kind == "attribute":
                attribute = feature.attribute or name
                dtype = self.domain.entities[entity].attributes[attribute]
                found = self.attributes(entity, identity)
                present = attribute in found
                value = found[attribute] if present else ABSENT_DEFAULTS[dtype]
            else:
                value, present = _value(naming, feature, self.t_ms)
            status = "NOT_FOUND" if not naming else "PRESENT" if present else "NULL"
            values[name] = OracleValue(value, status)
        return values

    def attributes(self, entity: str, identity: str) -> dict[str, Value]:
        """Declared catalogue attributes: the last event time wins, then the later arrival.
        Attributes never set are left out."""
        latest: dict[str, tuple[tuple[int, int], Value]] = {}
        for logged in self._about(entity, identity):
            order = (time_ms(logged.event), logged.arrival)
            for name, value in _attribute_changes(logged.event):
                if name in self.domain.entities[entity].attributes and (
                    name not in latest or order > latest[name][0]
                ):
                    latest[name] = order, value
        return {name: value for name, (_, value) in latest.items()}

    def is_withdrawn(self, entity: str, identity: str) -> bool:
        """Whether the last upsert or withdrawal of the entity is a withdrawal."""
        changes = [
            (time_ms(logged.event), logged.arrival, logged.event.type == "entity_withdrawal")
            for logged in self._about(entity, identity)
            if logged.event.type in ("entity_upsert", "entity_withdrawal")
        ]
        return max(changes)[2] if changes else False

    def _about(self, entity: str, identity: str) -> Iterator[LoggedEvent]:
        """Events whose subject, the first entity named, is this one."""
        for logged in self.known:
            entities = logged.event.entities
            if entities and entities[0].type == entity and entities[0].id == identity:
                yield logged


def _attribute_changes(event: Event) -> Iterator[tuple[str, Value]]:
    if event.type == "entity_upsert":
        upsert = event.entity_upsert
        for name, value in upsert.attributes.items():
            kind = value.WhichOneof("kind")
            if kind == "bool_value":
                yield name, int(value.bool_value)
            elif kind in ("string_value", "int_value", "double_value"):
                yield name, getattr(value, kind)
        if upsert.HasField("price"):
            yield "price_minor", upsert.price.amount_minor
            yield "currency", upsert.price.currency_code
        for field in ("seats_left", "language", "region"):
            if upsert.HasField(field):
                yield field, getattr(upsert, field)
        if upsert.HasField("enrolment_opens"):
            yield "enrolment_opens_ms", upsert.enrolment_opens.ToMilliseconds()
        if upsert.HasField("enrolment_closes"):
            yield "enrolment_closes_ms", upsert.enrolment_closes.ToMilliseconds()
    elif event.HasField("room_state"):
        room = event.room_state
        if room.state == RoomState.STATE_STARTED:
            yield "live", 1
            yield "selling_course_id", room.selling_course_id
            yield "viewers", room.viewers
        elif room.state == RoomState.STATE_HEARTBEAT and room.HasField("viewers"):
            yield "viewers", room.viewers
        elif room.state == RoomState.STATE_NOW_SELLING:
            yield "selling_course_id", room.selling_course_id
        elif room.state == RoomState.STATE_ENDED:
            yield "live", 0


def _value(known: list[LoggedEvent], feature: Feature, t_ms: int) -> tuple[Value, bool]:
    """(value, whether it is present) from the events known that name the entity."""
    if feature.kind == "count":
        return max(0, _count(known, feature.events, feature.window, t_ms)), True
    if feature.kind == "sum":
        return max(0, _sum(known, feature.events, feature.value, feature.window, t_ms)), True
    if feature.kind == "ratio":
        numerator = max(0, _count(known, feature.numerator, feature.window, t_ms))
        denominator = max(0, _count(known, feature.denominator, feature.window, t_ms))
        prior = feature.prior
        return (numerator + prior.numerator) / (denominator + prior.denominator), True
    if feature.kind == "recency":
        times = [time_ms(logged.event) for logged in known if logged.event.type in feature.events]
        return ((t_ms - max(times)) / 1000, True) if times else (feature.default, False)
    if feature.kind != "last_n":
        raise ValueError(f"{feature.kind} is not computed from events")
    entries = [
        (
            time_ms(logged.event),
            logged.arrival,
            ref.id if feature.emit == "id" else logged.event.type,
        )
        for logged in known
        if logged.event.type in feature.events
        for ref in logged.event.entities
        if ref.type == feature.of
    ]
    return [value for _, _, value in sorted(entries)[-feature.limit :]], True


def _count(known: list[LoggedEvent], events: list[str], window: str, t_ms: int) -> int:
    start = window_start(t_ms, window)
    total = sum(
        logged.event.type in events and start <= time_ms(logged.event) <= t_ms for logged in known
    )
    if "purchase" in events:
        refunds: dict[str, list[LoggedEvent]] = {}
        for logged in sorted(known, key=lambda logged: logged.arrival):
            if logged.event.type == "refund":
                refunds.setdefault(logged.event.refund.purchase_event_id, []).append(logged)
        for of_purchase in refunds.values():
            first = of_purchase[0].event.refund
            given_back = sum(logged.event.refund.amount.amount_minor for logged in of_purchase)
            purchase_ms = first.purchase_time.ToMilliseconds()
            if given_back >= first.purchase_amount.amount_minor and start <= purchase_ms <= t_ms:
                total -= 1
    return total


def _sum(known: list[LoggedEvent], events: list[str], value: str, window: str, t_ms: int) -> int:
    start = window_start(t_ms, window)
    total = 0
    for logged in known:
        event = logged.event
        if event.type in events and start <= time_ms(event) <= t_ms:
            total += event_value(event, value)
        reverses = event.type == "refund" and "purchase" in events and value == "amount_minor"
        if reverses and start <= event.refund.purchase_time.ToMilliseconds() <= t_ms:
            total -= event.refund.amount.amount_minor
    return total


def event_value(event: Event, value: str) -> int:
    """An integer attribute of an event; a purchase's or refund's ``amount_minor`` is its amount."""
    if value == "amount_minor" and event.HasField("purchase"):
        return event.purchase.amount.amount_minor
    if value == "amount_minor" and event.HasField("refund"):
        return event.refund.amount.amount_minor
    return event.attributes[value].int_value if value in event.attributes else 0
