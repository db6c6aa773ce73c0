"""Logged events, from and to the bytes in the log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from podium.common.v1.common_pb2 import Actor
from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.actor import actor_key
from services.common.convert_event import (
    attribute_value,
    is_live,
    milliseconds,
    room_values,
    said_attributes,
    upsert_values,
)
from services.common.convert_limits import MAX_ID_BYTES
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, Unavailable
from services.feature.definitions import (
    ALIAS,
    AMOUNT,
    ENTITY_UPSERT,
    ENTITY_WITHDRAWAL,
    ERASURE,
    PROFILE,
    PROFILE_VERSION,
    PURCHASE,
    REFUND,
    ROOM_EVENTS,
    STICKY_ASSIGNED,
    Scalar,
    counted_time_ms,
    declared_value,
    values_read,
)
from services.feature.states.applied_event import AppliedEvent, RefundFacts

FINGERPRINT_BYTES: Final = 16
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def fingerprint_of(serialised: bytes) -> bytes:
    """16 bytes that tell events with one id but other content apart, from an event's deterministic
    serialisation."""
    return hashlib.blake2b(serialised, digest_size=FINGERPRINT_BYTES).digest()


@dataclass(slots=True)
class DecodedRecord:
    """A record of the log. ``applied`` is None where ``skipped`` says why it changes nothing."""

    arrival: int
    event_id: str
    clock_ms: int
    producer: str
    sequence: int | None
    message: LoggedEvent
    applied: AppliedEvent | None
    skipped: str = ""

    def fingerprint(self) -> bytes:
        """See ``fingerprint_of``; of the event with its pseudonyms as they are wanted."""
        return fingerprint_of(self.message.event.SerializeToString(deterministic=True))


class RecordDecoder:
    """Decodes records, keeping the event attributes that features read."""

    def __init__(self, domain: Domain, translate: Callable[[str], str] | None = None) -> None:
        """``translate``: a pseudonym as it is wanted, whatever key the log has it under."""
        self._translate = translate
        self._types = frozenset(domain.events)
        self._values: dict[str, dict[str, str]] = {}
        for (kind, name), dtype in values_read(domain).items():
            self._values.setdefault(kind, {})[name] = dtype

    def decode(self, arrival: int, payload: bytes) -> DecodedRecord | None:
        """The record at ``arrival``; None when its bytes are no logged event. Raises
        ``Unavailable`` (PSEUDONYM_KEY_MISSING) without the key that its actor is under."""
        try:
            logged = LoggedEvent.FromString(payload)
        except (DecodeError, UnicodeDecodeError):
            return None
        event = logged.event
        if self._translate is not None and event.HasField("actor"):
            self._rename(event.actor, arrival, self._translate)
        time_ms = milliseconds(event.event_time)
        # An importer without arrival times leaves them out: events then arrive when they happen.
        clock_ms = milliseconds(logged.arrival_time) if logged.HasField("arrival_time") else time_ms
        time_ms = counted_time_ms(event.type, time_ms, clock_ms)
        record = DecodedRecord(
            arrival,
            event.event_id,
            clock_ms,
            logged.producer,
            logged.sequence if logged.HasField("sequence") else None,
            logged,
            None,
        )
        if logged.duplicate:
            record.skipped = "duplicate"
        elif logged.too_late:
            record.skipped = "too_late"
        elif not is_live(event):
            record.skipped = "not_live"
        elif (payload_kind := event.WhichOneof("payload")) == "alias":
            record.applied = _alias(event, arrival, clock_ms)
        elif payload_kind == "erasure":
            record.applied = _erasure(event, arrival, clock_ms)
        elif payload_kind == "sticky_assigned":
            record.applied = _sticky(event, arrival, clock_ms)
        elif event.type not in self._types:
            record.skipped = "unknown_type"
        else:
            record.applied = applied = self._interaction(event, arrival, clock_ms, time_ms)
            if payload_kind is not None or applied.type == ENTITY_WITHDRAWAL:
                _add_payload(applied, event)
        return record

    def _rename(self, actor: Actor, arrival: int, translate: Callable[[str], str]) -> None:
        try:
            user_id, device_id = translate(actor.user_id), translate(actor.device_id)
        except FailedPrecondition as error:
            raise Unavailable(f"record {arrival}: {error.message}", reason=error.reason) from error
        if user_id != actor.user_id:
            actor.user_id = user_id
        if device_id != actor.device_id:
            actor.device_id = device_id

    def _interaction(self, event: Event, arrival: int, clock_ms: int, time_ms: int) -> AppliedEvent:
        """What every event says, whatever its payload."""
        kind = event.type
        attributes: dict[str, Scalar] = {}
        for name, dtype in self._values.get(kind, _NOTHING).items():
            said = attribute_value(event.attributes[name]) if name in event.attributes else None
            kept = None if said is None else declared_value(said, dtype)
            if kept is not None and not isinstance(kept, tuple):
                attributes[name] = kept
        actor = event.actor
        return AppliedEvent(
            arrival,
            clock_ms,
            time_ms,
            kind,
            actor_key(actor.user_id, actor.device_id),
            [(ref.type, ref.id) for ref in event.entities if _is_id(ref.id)],
            attributes,
        )


def _add_payload(applied: AppliedEvent, event: Event) -> None:
    kind = applied.type
    if kind == PURCHASE and event.HasField("purchase"):
        applied.attributes[AMOUNT] = event.purchase.amount.amount_minor
    elif kind == REFUND and _is_id(event.refund.purchase_event_id):
        back = event.refund
        applied.attributes[AMOUNT] = back.amount.amount_minor
        applied.refund = RefundFacts(
            back.purchase_event_id,
            milliseconds(back.purchase_time),
            back.purchase_amount.amount_minor,
            back.amount.amount_minor,
        )
    elif kind == ENTITY_UPSERT and event.HasField("entity_upsert"):
        applied.upserted, applied.withdrawn = dict(upsert_values(event.entity_upsert)), False
    elif kind == ENTITY_WITHDRAWAL:
        applied.withdrawn = True
    elif kind == PROFILE and event.HasField("profile"):
        said = dict(said_attributes(event.profile.attributes))
        if event.profile.version:
            said[PROFILE_VERSION] = event.profile.version
        applied.upserted = said
    elif kind in ROOM_EVENTS and event.HasField("room_state"):
        applied.upserted = dict(room_values(event.room_state, applied.time_ms))


def _alias(event: Event, arrival: int, clock_ms: int) -> AppliedEvent:
    actor = event.actor
    device = actor_key("", actor.device_id)
    # It holds from its arrival on, whatever time it was given.
    return AppliedEvent(
        arrival, clock_ms, clock_ms, ALIAS, actor.user_id, [], {}, takes_over=device
    )


def _sticky(event: Event, arrival: int, clock_ms: int) -> AppliedEvent:
    # A producer whose clock is ahead delays nothing.
    time_ms = min(milliseconds(event.event_time), clock_ms)
    actor = actor_key(event.actor.user_id, event.actor.device_id)
    kept = dict(event.sticky_assigned.assignments)
    return AppliedEvent(arrival, clock_ms, time_ms, STICKY_ASSIGNED, actor, [], {}, sticky=kept)


def _erasure(event: Event, arrival: int, clock_ms: int) -> AppliedEvent:
    keys = (event.actor.user_id, actor_key("", event.actor.device_id))
    erased = tuple(key for key in keys if key)
    return AppliedEvent(arrival, clock_ms, clock_ms, ERASURE, "", [], {}, erases=erased)


def _is_id(text: str) -> bool:
    """Whether an id keeps the limit. Ingest refuses others; a bulk log may hold anything."""
    return 0 < len(text) <= MAX_ID_BYTES // 4 or (bool(text) and len(text.encode()) <= MAX_ID_BYTES)
