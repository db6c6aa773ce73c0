"""Requests of Ingest and IngestStream: their events checked, pseudonymised, made into records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.feature.v1 import feature_pb2
from services.common.convert_limits import (
    MAX_EVENTS,
    MAX_ID_BYTES,
    MAX_SEQUENCE,
    optional_id,
    require_count,
    require_range,
)
from services.common.domain import Domain
from services.common.errors import InvalidArgument
from services.common.status import code_number
from services.feature.convert.events import EventChecker
from services.feature.convert.records import fingerprint_of
from services.feature.definitions import STICKY_ASSIGNED
from services.feature.ingest.types import Receipt, RefusedEvent

EVENTS_A_SLICE: Final = 8
"""Events that are checked in one go: half a millisecond, during which nothing else is answered."""

CACHED_PSEUDONYMS: Final = 50_000
# A record is the concatenation of its fields, as protobuf has it.
_EVENT_TAG: Final = bytes([LoggedEvent.EVENT_FIELD_NUMBER << 3 | 2])
_ARRIVAL_TAG: Final = bytes([LoggedEvent.ARRIVAL_FIELD_NUMBER << 3])

Translation = Callable[[str], str]
"""A pseudonym as it is under another key."""

IngestRequest = feature_pb2.IngestRequest | feature_pb2.IngestStreamRequest


class StoredEvent:
    """A checked, pseudonymised event. Implements ``NewEvent``.

    ``translations``: its pseudonyms as they are under other keys."""

    __slots__ = (
        "_config_hash",
        "_event",
        "_translations",
        "event_id",
        "fingerprint",
        "index",
        "too_late",
        "type",
    )

    def __init__(
        self,
        index: int,
        event: Event,
        config_hash: str,
        *,
        too_late: bool,
        translations: Sequence[Translation] = (),
    ) -> None:
        self._translations = translations
        self.index = index
        self.event_id = event.event_id
        self.type = event.type
        self.too_late = too_late
        self._config_hash = config_hash
        # Written as it is here, once: the record takes these very bytes.
        self._event = event.SerializeToString(deterministic=True)
        self.fingerprint = fingerprint_of(self._event)

    def is_known_by(self, fingerprint: bytes) -> bool:
        """Whether an event with this fingerprint says the same, maybe under another key."""
        if fingerprint == self.fingerprint:
            return True
        event = Event.FromString(self._event)
        if not event.HasField("actor"):
            return False
        for translate in self._translations:
            event.actor.user_id = translate(event.actor.user_id)
            event.actor.device_id = translate(event.actor.device_id)
            if fingerprint == fingerprint_of(event.SerializeToString(deterministic=True)):
                return True
        return False

    def payload(
        self,
        arrival: int,
        arrival_ms: int,
        producer: str,
        sequence: int | None,
        *,
        duplicate: bool = False,
    ) -> bytes:
        """The record as it is stored at a position; a duplicate is marked."""
        event = self._event
        parts = [_EVENT_TAG, _length(len(event)), event]
        if arrival:
            parts += _ARRIVAL_TAG, _varint(arrival)
        # What a group of records has in common is written once.
        parts.append(_common_fields(arrival_ms, producer, self._config_hash))
        if sequence is not None or duplicate or self.too_late:
            own = LoggedEvent(
                sequence=sequence, duplicate=duplicate, too_late=self.too_late and not duplicate
            )
            parts.append(own.SerializeToString())
        return b"".join(parts)


@dataclass
class IngestCall:
    """A request, sorted into what may be stored and what may not."""

    producer: str
    first_sequence: int | None
    events: list[StoredEvent] = field(default_factory=list)
    refused: list[RefusedEvent] = field(default_factory=list)
    unknown_types: int = 0


class EventConverter:
    """Checks events and replaces raw ids by pseudonyms."""

    def __init__(
        self,
        domain: Domain,
        encrypt: Callable[[str], str],
        translations: Sequence[Translation] = (),
    ) -> None:
        """``translations`` into what other keys than that of ``encrypt`` give: stores may know
        events by those."""
        self._translations = translations
        self._checker = EventChecker(domain)
        self._types = frozenset((*domain.events, STICKY_ASSIGNED))
        self._config_hash = domain.config_hash
        self._encrypt = lru_cache(CACHED_PSEUDONYMS)(encrypt)

    def open_call(self, request: IngestRequest) -> IngestCall:
        """The call before its events. Raises ``InvalidArgument`` for what concerns all of it."""
        require_count("events", len(request.events), 1, MAX_EVENTS)
        producer = optional_id("producer", request.producer)
        first_sequence = request.first_sequence if request.HasField("first_sequence") else None
        if first_sequence is not None:
            # The numbers that follow must fit the log's 64 bits, too.
            require_range("first_sequence", first_sequence, 0, MAX_SEQUENCE)
            if not producer:
                raise InvalidArgument.field("first_sequence", "must come with a producer")
        return IngestCall(producer, first_sequence)

    def in_slices(self, call: IngestCall, request: IngestRequest, now_ms: int) -> Iterator[None]:
        """Judges each event alone and adds it to the call; yields after every few.

        The request's events are changed: they hold pseudonyms afterwards.
        """
        for index, event in enumerate(request.events):
            if index and index % EVENTS_A_SLICE == 0:
                yield
            try:
                too_late = self._checker.check(f"events[{index}]", event, now_ms)
            except InvalidArgument as error:
                call.refused.append(RefusedEvent(index, event.event_id[:MAX_ID_BYTES], error))
                continue
            stored = self._stored(index, event, too_late=too_late)
            call.events.append(stored)
            call.unknown_types += stored.type not in self._types

    def own_event(self, event: Event) -> StoredEvent:
        """An event that the service itself reports, with raw ids; it is changed."""
        return self._stored(0, event, too_late=False)

    def _stored(self, index: int, event: Event, *, too_late: bool) -> StoredEvent:
        if event.HasField("actor"):
            actor = event.actor
            actor.user_id = self._encrypt(actor.user_id)
            actor.device_id = self._encrypt(actor.device_id)
        return StoredEvent(
            index,
            event,
            self._config_hash,
            too_late=too_late,
            translations=self._translations,
        )


def request_number(request: feature_pb2.IngestStreamRequest, after: int) -> int:
    """Number of a stream's request. Raises ``InvalidArgument`` unless it is above ``after``."""
    return require_range("sequence", request.sequence, after + 1, MAX_SEQUENCE)


def ingest_response(call: IngestCall, receipt: Receipt) -> feature_pb2.IngestResponse:
    """What became of the events, refusals in request order."""
    return feature_pb2.IngestResponse(**_outcome(call, receipt))


def ingest_stream_response(
    sequence: int, call: IngestCall, receipt: Receipt
) -> feature_pb2.IngestStreamResponse:
    """The same of one request of a stream."""
    return feature_pb2.IngestStreamResponse(
        acked_through_sequence=sequence, **_outcome(call, receipt)
    )


def _outcome(call: IngestCall, receipt: Receipt) -> dict[str, Any]:
    refused = sorted([*call.refused, *receipt.refused], key=lambda refusal: refusal.index)
    return {
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "too_late": receipt.too_late,
        "log_position": receipt.log_position,
        "rejections": [
            feature_pb2.Rejection(
                index=refusal.index,
                event_id=refusal.event_id,
                code=code_number(refusal.error),
                reason=refusal.error.reason,
                message=refusal.error.message,
            )
            for refusal in refused
        ],
    }


@lru_cache(64)
def _common_fields(arrival_ms: int, producer: str, config_hash: str) -> bytes:
    common = LoggedEvent(producer=producer, config_hash=config_hash)
    common.arrival_time.FromMilliseconds(arrival_ms)
    return common.SerializeToString()


@lru_cache(4_096)
def _length(size: int) -> bytes:
    return _varint(size)


def _varint(number: int) -> bytes:
    """Protobuf's variable-length form of a number."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
