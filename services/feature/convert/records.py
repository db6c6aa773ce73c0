"""Logged events, from and to the bytes in the log."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.actor import actor_key
from services.common.convert_event import (
    Said,
    attribute_value,
    is_live,
    milliseconds,
    room_values,
    said_attributes,
    upsert_values,
)
from services.common.convert_limits import MAX_ID_BYTES
from services.common.domain import Domain
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
    Scalar,
    declared_value,
    values_read,
)
from services.feature.states.applied_event import AppliedEvent, RefundFacts

FINGERPRINT_BYTES: Final = 16


def fingerprint(event: Event) -> bytes:
    """16 bytes that tell events with one id but other content apart."""
    return fingerprint_of(event.SerializeToString(deterministic=True))


def fingerprint_of(serialised: bytes) -> bytes:
    """The same of an event that was serialised deterministically."""
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


class RecordDecoder:
    """Decodes records, keeping the event attributes that features read."""

    def __init__(self, domain: Domain) -> None:
        self._types = frozenset(domain.events)
        self._values = values_read(domain)

    def decode(self, arrival: int, payload: bytes) -> DecodedRecord | None:
        """The record at ``arrival``; None when its bytes are no logged event."""
        try:
            logged = LoggedEvent.FromString(payload)
        except (DecodeError, UnicodeDecodeError):
            return None
        event = logged.event
        time_ms = milliseconds(event.event_time)
        # An importer without arrival times leaves them out: events then arrive when they happen.
        clock_ms = milliseconds(logged.arrival_time) if logged.HasField("arrival_time") else time_ms
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
        elif event.HasField("alias"):
            record.applied = _alias(event, arrival, clock_ms)
        elif event.HasField("erasure"):
            record.applied = _erasure(event, arrival, clock_ms)
        elif event.type not in self._types:
            record.skipped = "unknown_type"
        else:
            record.applied = self._applied(event, arrival, clock_ms, time_ms)
        return record

    def _applied(self, event: Event, arrival: int, clock_ms: int, time_ms: int) -> AppliedEvent:
        kind = event.type
        attributes: dict[str, Scalar] = {}
        for name, value in event.attributes.items():
            dtype = self._values.get((kind, name))
            said = None if dtype is None else attribute_value(value)
            if dtype is None or said is None:
                continue
            kept = declared_value(said, dtype)
            if kept is not None and not isinstance(kept, tuple):
                attributes[name] = kept
        refund: RefundFacts | None = None
        if kind == PURCHASE and event.HasField("purchase"):
            attributes[AMOUNT] = event.purchase.amount.amount_minor
        elif kind == REFUND and _is_id(event.refund.purchase_event_id):
            back = event.refund
            attributes[AMOUNT] = back.amount.amount_minor
            refund = RefundFacts(
                back.purchase_event_id,
                milliseconds(back.purchase_time),
                back.purchase_amount.amount_minor,
                back.amount.amount_minor,
            )
        upserted: dict[str, Said] | None = None
        withdrawn: bool | None = None
        if kind == ENTITY_UPSERT and event.HasField("entity_upsert"):
            upserted, withdrawn = dict(upsert_values(event.entity_upsert)), False
        elif kind == ENTITY_WITHDRAWAL:
            withdrawn = True
        elif kind == PROFILE and event.HasField("profile"):
            upserted = dict(said_attributes(event.profile.attributes))
            if event.profile.version:
                upserted[PROFILE_VERSION] = event.profile.version
        elif kind in ROOM_EVENTS and event.HasField("room_state"):
            upserted = dict(room_values(event.room_state))
        actor = event.actor
        return AppliedEvent(
            arrival,
            clock_ms,
            time_ms,
            kind,
            actor_key(actor.user_id, actor.device_id),
            [(ref.type, ref.id) for ref in event.entities if _is_id(ref.id)],
            attributes,
            refund,
            upserted,
            withdrawn,
        )


def _alias(event: Event, arrival: int, clock_ms: int) -> AppliedEvent:
    actor = event.actor
    device = actor_key("", actor.device_id)
    # It holds from its arrival on, whatever time it was given.
    return AppliedEvent(
        arrival, clock_ms, clock_ms, ALIAS, actor.user_id, [], {}, takes_over=device
    )


def _erasure(event: Event, arrival: int, clock_ms: int) -> AppliedEvent:
    keys = (event.actor.user_id, actor_key("", event.actor.device_id))
    erased = tuple(key for key in keys if key)
    return AppliedEvent(arrival, clock_ms, clock_ms, ERASURE, "", [], {}, erases=erased)


def _is_id(text: str) -> bool:
    """Whether an id keeps the limit. Ingest refuses others; a bulk log may hold anything."""
    return 0 < len(text) <= MAX_ID_BYTES // 4 or (bool(text) and len(text.encode()) <= MAX_ID_BYTES)
