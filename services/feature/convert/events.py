"""Events that callers send, checked against limits and domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from podium.common.v1.common_pb2 import AttributeValue, Money
from podium.event.v1.event_pb2 import (
    EntityUpsert,
    Event,
    Refund,
    RoomState,
)
from services.common.convert_event import milliseconds, room_attributes
from services.common.convert_limits import (
    MAX_ATTRIBUTES,
    MAX_ENTITY_ATTRIBUTES,
    MAX_EVENT_ENTITIES,
    MAX_FUTURE_MS,
    MAX_ID_BYTES,
    MAX_LOCALE_BYTES,
    MAX_NAME_BYTES,
    MAX_REASON_BYTES,
    MAX_REGION_BYTES,
    MAX_TIME_SECONDS,
    Value,
    optional_id,
    optional_text,
    require_actor,
    require_assignment,
    require_attributes,
    require_count,
    require_entity,
    require_id,
    require_measure,
    require_money,
    require_sticky,
    require_text,
    require_traffic_class,
)
from services.common.domain import Domain
from services.common.errors import InvalidArgument
from services.feature.convert.plain import PlainEvents
from services.feature.convert.slates import check_slate
from services.feature.definitions import (
    CATALOGUE_EVENTS,
    IMPRESSION,
    LATENESS_MS,
    LONG_LATE,
    LONG_LATENESS_MS,
    PROFILE,
    PURCHASE,
    STICKY_ASSIGNED,
    USER_ENTITY,
    declared_value,
)

_PAYLOADS: Final[Mapping[str, str]] = {
    "purchase": "purchase",
    "refund": "refund",
    "room_started": "room_state",
    "room_heartbeat": "room_state",
    "room_now_selling": "room_state",
    "room_ended": "room_state",
    "entity_upsert": "entity_upsert",
    "entity_withdrawal": "entity_withdrawal",
    "slate_served": "slate_served",
    "exposure": "exposure",
    "decision": "decision",
    "profile": "profile",
    STICKY_ASSIGNED: "sticky_assigned",
}
_ROOM_STATES: Final[Mapping[str, RoomState.State]] = {
    "room_started": RoomState.STATE_STARTED,
    "room_heartbeat": RoomState.STATE_HEARTBEAT,
    "room_now_selling": RoomState.STATE_NOW_SELLING,
    "room_ended": RoomState.STATE_ENDED,
}
_TEXT_BYTES: Final[dict[str, int]] = {
    "language": MAX_LOCALE_BYTES,
    "region": MAX_REGION_BYTES,
    "selling_course_id": MAX_ID_BYTES,
}


class EventChecker:
    """Checks events against limits and domain."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._plain = PlainEvents(domain, frozenset(_PAYLOADS))
        self._about_entities = _about_entities(domain)
        # What a surface's items sell is served as an id.
        selling = {surface.selling_attribute or "" for surface in domain.surfaces.values()}
        self._deriving = {
            source for entity in domain.entities.values() for source in entity.derived_from.items()
        }
        self._text_bytes = _TEXT_BYTES | dict.fromkeys(selling, MAX_ID_BYTES)

    def check(self, at: str, event: Event, now_ms: int) -> bool:
        """Whether the event comes too late to be applied. Raises ``InvalidArgument``, naming
        fields of the event as parts of ``at``."""
        if self._plain.sound(event, now_ms):
            return False
        return self.check_closely(at, event, now_ms)

    def check_closely(self, at: str, event: Event, now_ms: int) -> bool:
        """The same, part by part."""
        require_id(f"{at}.event_id", event.event_id)
        kind = require_text(f"{at}.type", event.type, MAX_NAME_BYTES)
        time_ms = _time_ms(f"{at}.event_time", event, "event_time")
        if time_ms - now_ms > MAX_FUTURE_MS:
            raise InvalidArgument.field(
                f"{at}.event_time",
                f"is {time_ms - now_ms} ms ahead of the clock, at most {MAX_FUTURE_MS} are allowed",
                reason="EVENT_TIME_IN_FUTURE",
            )
        declared = self._domain.events.get(kind)
        catalogue = kind in CATALOGUE_EVENTS
        if event.HasField("actor"):
            if catalogue and (kind != PROFILE or event.entities):
                raise InvalidArgument.field(f"{at}.actor", f"must be absent with type {kind}")
            require_actor(f"{at}.actor", event.actor)
        elif declared is not None and not catalogue and not _goes_without_actor(event):
            raise InvalidArgument.field(f"{at}.actor", f"is required with type {kind}")
        optional_id(f"{at}.rank_id", event.rank_id)
        if event.HasField("position") and event.position < 0:
            raise InvalidArgument.field(f"{at}.position", f"is {event.position}, must be 0 or more")
        optional_text(f"{at}.surface", event.surface, MAX_NAME_BYTES)
        require_traffic_class(f"{at}.traffic_class", event.traffic_class)
        self._check_entities(at, event, known_type=declared is not None)
        values = require_attributes(f"{at}.attributes", event.attributes, MAX_ATTRIBUTES)
        for name, dtype in (declared.attributes if declared else {}).items():
            if name in values:
                _require_declared(f"{at}.attributes.{name}", name, values[name], dtype)
        self._check_payload(at, event, now_ms)
        if catalogue:
            return False
        return now_ms - time_ms > (LONG_LATENESS_MS if kind in LONG_LATE else LATENESS_MS)

    def _check_entities(self, at: str, event: Event, *, known_type: bool) -> None:
        require_count(f"{at}.entities", len(event.entities), 0, MAX_EVENT_ENTITIES)
        if not event.entities and event.type in self._about_entities:
            raise InvalidArgument.field(
                f"{at}.entities", f"the subject is required with type {event.type}"
            )
        seen: set[str] = set()
        for index, ref in enumerate(event.entities):
            place = f"{at}.entities[{index}]"
            entity, _ = require_entity(place, ref)
            if entity == USER_ENTITY:
                raise InvalidArgument.field(f"{place}.type", "a user is named in actor only")
            if known_type and entity not in self._domain.entities:
                raise InvalidArgument.field(f"{place}.type", f"{entity!r} is not declared")
            if known_type and self._domain.entities[entity].pair is not None:
                raise InvalidArgument.field(f"{place}.type", f"{entity!r} is a pair: not named")
            if entity in seen:
                raise InvalidArgument.field(f"{place}.type", f"{entity!r} is named twice")
            seen.add(entity)

    def _check_payload(self, at: str, event: Event, now_ms: int) -> None:
        kind = event.type
        payload = event.WhichOneof("payload")
        expected = _PAYLOADS.get(kind)
        if payload != expected:
            wanted = f"must be {expected}" if expected else "must be absent"
            raise InvalidArgument.field(f"{at}.payload", f"{wanted} with type {kind}")
        place = f"{at}.{payload}"
        match payload:
            case "purchase":
                require_id(f"{place}.order_id", event.purchase.order_id)
                optional_id(f"{place}.line_id", event.purchase.line_id)
                optional_id(f"{place}.coupon_id", event.purchase.coupon_id)
                self._check_money(f"{place}.amount", event.purchase.amount)
            case "refund":
                self._check_refund(place, event, now_ms)
            case "room_state":
                self._check_room(at, event)
            case "entity_upsert":
                self._check_upsert(place, event)
            case "entity_withdrawal":
                optional_text(f"{place}.reason", event.entity_withdrawal.reason, MAX_REASON_BYTES)
            case "slate_served":
                check_slate(place, event.slate_served)
            case "exposure":
                require_assignment(f"{place}.assignment", event.exposure.assignment)
            case "sticky_assigned":
                if not event.HasField("actor"):
                    raise InvalidArgument.field(f"{at}.actor", f"is required with type {kind}")
                require_sticky(f"{place}.assignments", event.sticky_assigned.assignments)
            case "profile":
                self._check_profile(place, event)
            case "decision":
                require_id(f"{place}.policy", event.decision.policy)
                require_id(f"{place}.action", event.decision.action)
                if not 0 < event.decision.propensity <= 1:
                    raise InvalidArgument.field(f"{place}.propensity", "must be in (0, 1]")
            case _:
                return

    def _check_refund(self, place: str, event: Event, now_ms: int) -> None:
        refund = event.refund
        require_id(f"{place}.refund_id", refund.refund_id)
        require_id(f"{place}.order_id", refund.order_id)
        optional_id(f"{place}.line_id", refund.line_id)
        self._check_money(f"{place}.amount", refund.amount)
        require_id(f"{place}.purchase_event_id", refund.purchase_event_id)
        self._check_money(f"{place}.purchase_amount", refund.purchase_amount)
        if refund.amount.amount_minor > refund.purchase_amount.amount_minor:
            raise InvalidArgument.field(
                f"{place}.amount.amount_minor",
                f"is {refund.amount.amount_minor}, at most the purchase_amount of "
                f"{refund.purchase_amount.amount_minor} can be given back",
            )
        purchase_ms = _time_ms(f"{place}.purchase_time", refund, "purchase_time")
        if purchase_ms - now_ms > MAX_FUTURE_MS:
            raise InvalidArgument.field(
                f"{place}.purchase_time",
                f"is more than {MAX_FUTURE_MS} ms ahead of the clock",
                reason="EVENT_TIME_IN_FUTURE",
            )

    def _check_money(self, field: str, money: Money) -> None:
        """Sums are of minor units alone: every amount is in the domain's currency."""
        _, code = require_money(field, money)
        self._check_currency(f"{field}.currency_code", code)

    def _check_currency(self, field: str, code: Value) -> None:
        if code != self._domain.currency:
            raise InvalidArgument.field(field, f"is {code}, must be {self._domain.currency}")

    def _check_room(self, at: str, event: Event) -> None:
        place, room = f"{at}.room_state", event.room_state
        if room.state != _ROOM_STATES[event.type]:
            raise InvalidArgument.field(f"{place}.state", f"does not fit type {event.type}")
        if room.state in (RoomState.STATE_STARTED, RoomState.STATE_NOW_SELLING):
            require_id(f"{place}.selling_course_id", room.selling_course_id)
        elif room.selling_course_id:
            raise InvalidArgument.field(
                f"{place}.selling_course_id", f"must be absent with type {event.type}"
            )
        if room.HasField("viewers") and room.viewers < 0:
            raise InvalidArgument.field(f"{place}.viewers", f"is {room.viewers}, must be 0 or more")
        if event.type in self._domain.events:
            self._check_is_room(at, event)

    def _check_is_room(self, at: str, event: Event) -> None:
        """What the event sets must be an attribute of its subject: else it would change nothing."""
        subject = event.entities[0].type
        missing = (
            room_attributes(event.room_state) - self._domain.entities[subject].attributes.keys()
        )
        if missing:
            raise InvalidArgument.field(
                f"{at}.entities[0].type",
                f"{subject!r} lacks attributes of a room: {', '.join(sorted(missing))}",
            )

    def _check_profile(self, place: str, event: Event) -> None:
        if not event.entities and not event.HasField("actor"):
            raise InvalidArgument.field(place, "needs a subject: an entity, or an actor")
        subject = event.entities[0].type if event.entities else USER_ENTITY
        optional_text(f"{place}.version", event.profile.version, MAX_REASON_BYTES)
        self._check_said(place, subject, event.profile.attributes)

    def _check_said(
        self, place: str, subject: str, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Attributes that an event sets on an entity are declared for it, and of their type."""
        declared = self._domain.entities.get(subject)
        values = require_attributes(f"{place}.attributes", attributes, MAX_ENTITY_ATTRIBUTES)
        known = declared.attributes if declared is not None else {}
        for name, value in values.items():
            field = f"{place}.attributes.{name}"
            if name not in known:
                raise InvalidArgument.field(field, f"is not an attribute of {subject}")
            _require_declared(field, name, value, known[name])
            self._check_as_field(field, name, value)
            if (subject, name) in self._deriving and isinstance(value, str):
                optional_text(field, value, MAX_ID_BYTES)

    def _check_upsert(self, place: str, event: Event) -> None:
        upsert = event.entity_upsert
        self._check_said(place, event.entities[0].type, upsert.attributes)
        if upsert.HasField("price"):
            self._check_money(f"{place}.price", upsert.price)
        if upsert.HasField("seats_left") and upsert.seats_left < 0:
            raise InvalidArgument.field(f"{place}.seats_left", "must be 0 or more")
        optional_text(f"{place}.language", upsert.language, MAX_LOCALE_BYTES)
        optional_text(f"{place}.region", upsert.region, MAX_REGION_BYTES)
        for field in ("enrolment_opens", "enrolment_closes"):
            if upsert.HasField(field):
                _time_ms(f"{place}.{field}", upsert, field)

    def _check_as_field(self, field: str, name: str, value: Value) -> None:
        """What a field of a payload may not say, the attribute of that name may not, either."""
        if name == "currency":
            self._check_currency(field, value)
        elif isinstance(value, str) and name in self._text_bytes:
            optional_text(field, value, self._text_bytes[name])


def _time_ms(field: str, message: Event | Refund | EntityUpsert, name: str) -> int:
    """A required time, as epoch milliseconds, from 1970 to 9999."""
    if not message.HasField(name):
        raise InvalidArgument.field(field, "is required")
    time: Timestamp = getattr(message, name)
    if not 0 <= time.seconds <= MAX_TIME_SECONDS or not 0 <= time.nanos < 1_000_000_000:
        raise InvalidArgument.field(field, "must lie between the years 1970 and 9999")
    return milliseconds(time)


def _goes_without_actor(event: Event) -> bool:
    """Decisions, and exposures of hosts and rooms, are nobody's."""
    if event.type != "exposure":
        return event.type == "decision"
    return event.exposure.assignment.unit_type in {ref.type for ref in event.entities}


def _about_entities(domain: Domain) -> frozenset[str]:
    """Types that mean nothing without a subject: the catalogue's, purchases, and what is credited
    to an impression, which is done by entity."""
    credited = {kind for objective in domain.objectives.values() for kind in objective.events}
    declared = domain.events.keys() & {PURCHASE, IMPRESSION, *credited}
    return frozenset(declared).union(CATALOGUE_EVENTS) - {PROFILE}


def _require_declared(field: str, name: str, value: Value, dtype: str) -> None:
    said = tuple(value) if isinstance(value, list) else value
    if declared_value(said, dtype) is None:
        raise InvalidArgument.field(field, f"must be of type {dtype}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        require_measure(field, name, value)
