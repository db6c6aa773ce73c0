"""What logged events say, read in one way for the online store and for the offline tables."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from podium.common.v1.common_pb2 import AttributeValue, TrafficClass
from podium.event.v1.event_pb2 import EntityUpsert, Event, LoggedEvent, RoomState
from services.common.domain_features import HEARD, HEARD_AT
from services.common.pseudonym_scan import without_pseudonyms

Scalar = str | int | float | bool
Said = Scalar | tuple[str, ...] | tuple[float, ...]

_LIVE = frozenset((TrafficClass.TRAFFIC_CLASS_UNSPECIFIED, TrafficClass.TRAFFIC_CLASS_LIVE))


def milliseconds(time: Timestamp) -> int:
    """Epoch milliseconds of a timestamp, rounded down."""
    return time.seconds * 1000 + time.nanos // 1_000_000


def is_live(event: Event) -> bool:
    """Whether the event is of LIVE traffic, which alone counts in features and labels."""
    return event.traffic_class in _LIVE


def attribute_value(value: AttributeValue) -> Said | None:
    """What an attribute holds, lists as tuples; None for nothing, or for a number not finite."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "bool_value":
            return value.bool_value
        case "double_value" if math.isfinite(value.double_value):
            return value.double_value
        case "string_list_value":
            return tuple(value.string_list_value.values)
        case "float_list_value" if all(map(math.isfinite, value.float_list_value.values)):
            return tuple(value.float_list_value.values)
        case _:
            return None


def said_attributes(attributes: Mapping[str, AttributeValue]) -> Iterator[tuple[str, Said]]:
    """(attribute, value) of everything that a map sets."""
    for name, value in attributes.items():
        said = attribute_value(value)
        if said is not None:
            yield name, said


def upsert_values(upsert: EntityUpsert) -> Iterator[tuple[str, Said]]:
    """(attribute, value) of everything an upsert sets; numbers are finite."""
    yield from said_attributes(upsert.attributes)
    if upsert.HasField("price"):
        yield "price_minor", upsert.price.amount_minor
        yield "currency", upsert.price.currency_code
    if upsert.HasField("seats_left"):
        yield "seats_left", upsert.seats_left
    if upsert.HasField("language"):
        yield "language", upsert.language
    if upsert.HasField("region"):
        yield "region", upsert.region
    if upsert.HasField("enrolment_opens"):
        yield "enrolment_opens_ms", milliseconds(upsert.enrolment_opens)
    if upsert.HasField("enrolment_closes"):
        yield "enrolment_closes_ms", milliseconds(upsert.enrolment_closes)


def room_attributes(room: RoomState) -> frozenset[str]:
    """Attributes that the subject must have: ``live``, which makes it a room, and what is set."""
    found = {name for name, _ in room_values(room, 0)} - {HEARD, HEARD_AT} | {"live"}
    # A start without viewers sets them to 0: that much a room that counts none can do without.
    return frozenset(found if room.HasField("viewers") else found - {"viewers"})


def room_values(room: RoomState, event_time_ms: int) -> Iterator[tuple[str, Scalar]]:
    """(attribute, value) of everything that a room's state sets of the room.

    Each sets ``heard``, which with a time to live says whether the room is silent, and
    ``heard_at_ms``.
    """
    if room.state != RoomState.STATE_UNSPECIFIED:
        yield HEARD, True
        yield HEARD_AT, event_time_ms
    match room.state:
        case RoomState.STATE_STARTED:
            yield "live", True
            yield "selling_course_id", room.selling_course_id
        case RoomState.STATE_NOW_SELLING:
            yield "selling_course_id", room.selling_course_id
        case RoomState.STATE_ENDED:
            yield "live", False
        case _:
            pass
    # A room that goes on air does not keep the viewers that it had last time.
    if room.HasField("viewers") or room.state == RoomState.STATE_STARTED:
        yield "viewers", room.viewers


def record_digest(payload: bytes) -> bytes:
    """16 bytes that a logged record is known by; erasing its actor, or another key for its
    pseudonyms, leaves them as they were."""
    try:
        erased = LoggedEvent.FromString(payload).erased
    except (DecodeError, UnicodeDecodeError):
        erased = b""
    return erased or hashlib.blake2b(without_pseudonyms(payload), digest_size=16).digest()


def logged_arrival(payload: bytes) -> int | None:
    """The arrival that a record itself tells; None where it is no logged event."""
    try:
        return LoggedEvent.FromString(payload).arrival
    except (DecodeError, UnicodeDecodeError):
        return None
