"""What every feature should be, by reading all events each time. Slow, and written to be read.

The online store and the offline tables are both checked against it. It shares with them only the
definitions' schema, not their arithmetic; what each kind of feature makes of its events is in
``feature_oracle_kinds``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from podium.common.v1.common_pb2 import AttributeValue, TrafficClass
from podium.event.v1.event_pb2 import Event, LoggedEvent, RoomState
from services.common.domain import Domain, features_of
from services.common.domain_features import DistinctFeature
from services.common.durations import duration_ms
from tests.support.feature_oracle_kinds import (
    Found,
    Value,
    counted_ms,
    event_value,
    expression,
    from_events,
    latest_named,
    named_ids,
    time_ms,
    window_start,
)

__all__ = [
    "Oracle",
    "OracleValue",
    "counted_ms",
    "event_value",
    "known_events",
    "time_ms",
    "window_start",
]

ABSENT_DEFAULTS: dict[str, Value] = {
    "string": "",
    "int": 0,
    "bool": 0,
    "float": 0.0,
    "strings": [],
}
LIVE = (TrafficClass.TRAFFIC_CLASS_UNSPECIFIED, TrafficClass.TRAFFIC_CLASS_LIVE)
CATALOGUE = (
    "entity_upsert",
    "entity_withdrawal",
    "room_started",
    "room_heartbeat",
    "room_now_selling",
    "room_ended",
    "profile",
)
Key = tuple[str, str]


@dataclass(frozen=True)
class OracleValue:
    """A value and its status: "PRESENT", "NULL" (known entity, no value), "STALE" (older than its
    time to live) or "NOT_FOUND". ``event_ms``: time of the latest event counted in it, 0 for none.
    """

    value: Value
    status: str
    event_ms: int = 0


def known_events(
    domain: Domain, log: Sequence[LoggedEvent], t_ms: int, arrival: int
) -> list[LoggedEvent]:
    """Events that count as of (t_ms, arrival): event time <= t_ms, position < arrival, LIVE,
    of a declared type, neither duplicate nor too late."""
    return [
        logged
        for logged in log
        if logged.arrival < arrival
        and counted_ms(logged) <= t_ms
        and not logged.duplicate
        and not logged.too_late
        and logged.event.traffic_class in LIVE
        and logged.event.type in domain.events
    ]


class Oracle:
    """Features of one domain's entities as of (t_ms, arrival), from the whole log."""

    def __init__(self, domain: Domain, log: Sequence[LoggedEvent], t_ms: int, arrival: int) -> None:
        self.domain = domain
        self.t_ms = t_ms
        self.known = known_events(domain, log, t_ms, arrival)
        self._log = log
        self._leads: dict[int, list[Key]] = {}
        self._endings = [
            logged
            for logged in log
            if logged.arrival < arrival
            and not (logged.duplicate or logged.too_late)
            and logged.event.traffic_class in LIVE
            and (logged.event.HasField("alias") or logged.event.HasField("erasure"))
        ]

    def features(self, entity: str, identity: str) -> dict[str, OracleValue]:
        """Every feature of one entity, by name in declared order. A pair's id is
        ``pair_identity`` of the user and the other side."""
        naming = [logged for logged in self.known if (entity, identity) in self.keys(logged)]
        return {
            name: self._feature(entity, identity, name, naming)
            for name in features_of(self.domain, entity)
        }

    def keys(self, logged: LoggedEvent) -> list[Key]:
        """Every entity, user and pair whose history the event is in."""
        held = [self.held(key, logged.arrival) for key in self.names(logged)]
        return [key for key in held if key is not None]

    def names(self, logged: LoggedEvent) -> list[Key]:
        """Every entity, user and pair that the event is about, as it names them."""
        event = logged.event
        found = [key for key in self.named(logged) if key[0] in self.domain.entities]
        user = actor(event)
        if user:
            for pair, declared in self.domain.entities.items():
                if declared.pair is not None:
                    other = declared.pair[1]
                    found += [
                        (pair, pair_identity(user, identity))
                        for kind, identity in list(found)
                        if kind == other
                    ]
            found.append(("user", user))
        return found

    def named(self, logged: LoggedEvent) -> list[Key]:
        """Entities that the event names, and those derived from what was known of these when it
        arrived."""
        event = logged.event
        refs = [(ref.type, ref.id) for ref in event.entities]
        if event.type in CATALOGUE:
            return refs
        if logged.arrival not in self._leads:
            arrival_ms = logged.arrival_time.ToMilliseconds()
            before = Oracle(self.domain, self._log, arrival_ms, logged.arrival)
            leads = []
            for derived, declared in self.domain.entities.items():
                if not declared.derived_from or any(kind == derived for kind, _ in refs):
                    continue
                said = [
                    before.attributes(*ref)[attribute]
                    for source, attribute in declared.derived_from.items()
                    for ref in refs
                    if ref[0] == source and before.attributes(*ref).get(attribute)
                ]
                if said:
                    leads.append((derived, str(said[0])))
            self._leads[logged.arrival] = leads
        return refs + self._leads[logged.arrival]

    def held(self, key: Key, arrival: int) -> Key | None:
        """In whose history an event is by now that arrived in this one's; None for nobody's."""
        entity, identity = key
        members = self.domain.entities[entity].pair
        if entity != "user" and members is None:
            return key
        user, other = split_pair(identity) if members else (identity, "")
        for ending in self._endings:
            if ending.arrival < arrival:
                continue
            if ending.event.HasField("erasure"):
                if user in erased_by(ending):
                    return None
            elif user == f"device:{ending.event.actor.device_id}":
                user = ending.event.actor.user_id
        return (entity, pair_identity(user, other) if members else user)

    def _ledger(self, logged: LoggedEvent, key: Key) -> list[LoggedEvent]:
        """Refunds of the same purchase that named whom this one does when it came, and itself."""
        name = next(k for k in self.names(logged) if self.held(k, logged.arrival) == key)
        users = {name[1]} if name[0] == "user" else set()
        users |= {split_pair(name[1])[0]} if self.domain.entities[name[0]].pair else set()
        forgotten = [
            ending.arrival
            for ending in self._endings
            if ending.arrival < logged.arrival and users.intersection(erased_by(ending))
        ]
        since = max(forgotten, default=-1)
        return [
            other
            for other in self.known
            if other.event.type == "refund"
            and since < other.arrival <= logged.arrival
            and other.event.refund.purchase_event_id == logged.event.refund.purchase_event_id
            and name in self.names(other)
        ]

    def _mentions(
        self, entity: str, feature: DistinctFeature, naming: list[LoggedEvent]
    ) -> list[tuple[int, str]]:
        """(time, id) of what a distinct feature counts. Of an erased actor nothing is left, but for
        a place without a name in a list that was full."""
        told = [
            (logged.arrival, counted_ms(logged), identity)
            for logged in naming
            if logged.event.type in feature.events
            for identity in named_ids(logged, feature.of, self.named)
        ]
        if feature.of == "user" and entity != "user" and self.domain.entities[entity].pair is None:
            cap = max(
                other.cap
                for other in (self.domain.features[n] for n in features_of(self.domain, entity))
                if isinstance(other, DistinctFeature)
                and (set(other.events), other.of) == (set(feature.events), feature.of)
            )
            for ending in self._endings:
                for number, actor_key in enumerate(erased_by(ending)):
                    told = self._forgotten(told, ending, actor_key, f"{number}", cap)
        return [(at, identity) for _, at, identity in told]

    def _forgotten(
        self,
        told: list[tuple[int, int, str]],
        erasure: LoggedEvent,
        gone: str,
        number: str,
        cap: int,
    ) -> list[tuple[int, int, str]]:
        clock_ms = erasure.arrival_time.ToMilliseconds()
        there = [m for m in told if m[0] <= erasure.arrival and m[1] <= clock_ms]
        theirs = [at for _, at, identity in there if identity == gone]
        left = [m for m in told if m[0] > erasure.arrival or m[2] != gone]
        if theirs and len({identity for _, _, identity in there}) >= cap:
            left.append((erasure.arrival, max(theirs), f"nobody:{erasure.arrival}:{number}"))
        return left

    def attributes(self, entity: str, identity: str) -> dict[str, Value]:
        """Declared attributes: the last event time wins, then the later arrival. Attributes never
        set are left out."""
        return {name: value for name, (_, value) in self._attributes(entity, identity).items()}

    def is_withdrawn(self, entity: str, identity: str) -> bool:
        """Whether the last upsert or withdrawal of the entity is a withdrawal."""
        changes = [
            (counted_ms(logged), logged.arrival, logged.event.type == "entity_withdrawal")
            for logged in self._about(entity, identity)
            if logged.event.type in ("entity_upsert", "entity_withdrawal")
        ]
        return max(changes)[2] if changes else False

    def _feature(
        self, entity: str, identity: str, name: str, naming: list[LoggedEvent]
    ) -> OracleValue:
        feature = self.domain.features[name]
        if feature.kind == "attribute":
            found = self._attribute(entity, identity, feature.attribute or name, feature.ttl)
        elif feature.kind == "expression":
            inputs = {
                other: self._feature(entity, identity, other, naming)
                for other in features_of(self.domain, entity)
                if self.domain.features[other].kind != "expression"
            }
            found = expression(
                feature, {other: (v.value, v.event_ms) for other, v in inputs.items()}
            )
        elif feature.kind == "pairs":
            other = self._other(feature.of)
            listed = latest_named(naming, feature.events, other, self.named, feature.limit)
            emitted: Value = [named for named, _ in listed]
            if feature.emit != "id":
                values = [
                    self.features(feature.of, pair_identity(identity, named))[feature.emit].value
                    for named, _ in listed
                ]
                emitted = [float(str(value)) for value in values]
                emitted += [0.0] * (feature.limit - len(values))
            found = Found(emitted, "PRESENT", listed[0][1] if listed else 0)
        else:
            key = (entity, identity)
            found = from_events(
                self.domain,
                feature,
                naming,
                self.t_ms,
                lambda logged: self._ledger(logged, key),
                lambda distinct: self._mentions(entity, distinct, naming),
            )
        if naming:
            return OracleValue(*found)
        return OracleValue(found.absent(feature), "NOT_FOUND")

    def _attribute(self, entity: str, identity: str, attribute: str, ttl: str | None) -> Found:
        dtype = self.domain.entities[entity].attributes[attribute]
        absent = ABSENT_DEFAULTS.get(dtype)
        if absent is None:
            absent = [0.0] * int(dtype.removeprefix("vector[").removesuffix("]"))
        held = self._attributes(entity, identity).get(attribute)
        if held is None:
            return Found(absent, "NULL")
        set_ms, value = held
        if ttl is not None and self.t_ms - set_ms > duration_ms(ttl):
            return Found(absent, "STALE", set_ms)
        return Found(value, "PRESENT", set_ms)

    def _attributes(self, entity: str, identity: str) -> dict[str, tuple[int, Value]]:
        latest: dict[str, tuple[tuple[int, int], Value]] = {}
        declared = self.domain.entities[entity].attributes
        for logged in self._about(entity, identity):
            order = (counted_ms(logged), logged.arrival)
            for name, value in _attribute_changes(logged):
                if name in declared and (name not in latest or order > latest[name][0]):
                    latest[name] = order, _as_declared(value, declared[name])
        return {name: (order[0], value) for name, (order, value) in latest.items()}

    def _about(self, entity: str, identity: str) -> Iterator[LoggedEvent]:
        """Events whose subject, the first entity named or for want of one the actor, is this."""
        for logged in self.known:
            entities = logged.event.entities
            subject = (entities[0].type, entities[0].id) if entities else ("user", "")
            if not entities:
                subject = ("user", actor(logged.event))
            if subject[0] not in self.domain.entities or not subject[1]:
                continue
            if self.held(subject, logged.arrival) == (entity, identity):
                yield logged

    def _other(self, pair: str) -> str:
        members = self.domain.entities[pair].pair
        assert members is not None
        return members[1]


def actor(event: Event) -> str:
    """The user that acted, or the device of one not logged in; empty for none."""
    if event.actor.user_id:
        return event.actor.user_id
    return f"device:{event.actor.device_id}" if event.actor.device_id else ""


def pair_identity(user: str, other: str) -> str:
    """Id of a pair: its first member's length, a colon, both members."""
    return str(len(user)) + ":" + user + other


def split_pair(identity: str) -> tuple[str, str]:
    """Inverse of ``pair_identity``."""
    size, _, members = identity.partition(":")
    return members[: int(size)], members[int(size) :]


def erased_by(logged: LoggedEvent) -> list[str]:
    """Keys of those whom an erasure forgets."""
    if not logged.event.HasField("erasure"):
        return []
    said = logged.event.actor
    device = f"device:{said.device_id}" if said.device_id else ""
    return [key for key in (said.user_id, device) if key]


def _attribute_changes(logged: LoggedEvent) -> Iterator[tuple[str, Value]]:
    event = logged.event
    if event.type == "entity_upsert":
        upsert = event.entity_upsert
        for name, value in upsert.attributes.items():
            yield name, _said(value)
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
    elif event.type == "profile":
        for name, value in event.profile.attributes.items():
            yield name, _said(value)
        if event.profile.version:
            yield "profile_version", event.profile.version
    elif event.HasField("room_state"):
        room = event.room_state
        yield "heard", 1
        yield "heard_at_ms", counted_ms(logged)
        if room.HasField("viewers"):
            yield "viewers", room.viewers
        elif room.state == RoomState.STATE_STARTED:
            yield "viewers", 0
        if room.state in (RoomState.STATE_STARTED, RoomState.STATE_NOW_SELLING):
            yield "selling_course_id", room.selling_course_id
        if room.state in (RoomState.STATE_STARTED, RoomState.STATE_ENDED):
            yield "live", int(room.state == RoomState.STATE_STARTED)


def _as_declared(value: Value, dtype: str) -> Value:
    return float(value) if dtype == "float" and isinstance(value, int) else value


def _said(value: AttributeValue) -> Value:
    kind = value.WhichOneof("kind")
    if kind == "bool_value":
        return int(value.bool_value)
    if kind == "string_list_value":
        return list(value.string_list_value.values)
    if kind == "float_list_value":
        return list(value.float_list_value.values)
    assert kind is not None
    said: Value = getattr(value, kind)
    return said
