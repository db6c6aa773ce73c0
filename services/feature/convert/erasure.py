"""Records of the log without the actors that are to be forgotten.

An erased record has its old length, so that whoever reads the file meanwhile keeps its place, and
its old arrival. It says no more who it was: ids, slate, position, surface and order are gone. What
stays is what the states of courses, hosts and rooms were counted from, so that a store filled
from the erased log has the same there as one that saw the events: type, time, entities, attributes
that features of these entities read, amounts, and the purchase that a refund belongs to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError

from podium.common.v1.common_pb2 import Actor
from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.convert_event import record_digest
from services.common.domain import Domain
from services.feature.definitions import catalogue_entities, values_read

_PADDING_TAG = bytes([LoggedEvent.PADDING_FIELD_NUMBER << 3 | 2])


class Erased(NamedTuple):
    """Somebody to be forgotten with everything before ``arrival``; pseudonyms, one may be empty."""

    arrival: int
    user_id: str
    device_id: str


@dataclass
class Erasures:
    """Who is to be forgotten, and which devices were theirs from when on.

    ``aliases``: (arrival, user) by device, in order of arrival; see ``find_aliases``. A device that
    users signed in on stays named in what is theirs.
    """

    erased: list[Erased] = field(default_factory=list)
    aliases: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    @property
    def pseudonyms(self) -> set[str]:
        """Of all who are to be forgotten."""
        return {name for who in self.erased for name in (who.user_id, who.device_id) if name}

    @property
    def end(self) -> int:
        """Arrival after the last erasure; 0 without one."""
        return max((who.arrival + 1 for who in self.erased), default=0)

    def concern(self, arrival: int, actor: Actor) -> bool:
        """Whether what the actor did at ``arrival`` is to be forgotten."""
        return any(
            arrival <= who.arrival and self._counts_for(who, arrival, actor) for who in self.erased
        )

    def _counts_for(self, who: Erased, arrival: int, actor: Actor) -> bool:
        """Whether an event counts for somebody when they are erased."""
        if actor.user_id:
            return actor.user_id == who.user_id
        aliases = self.aliases.get(actor.device_id, ())
        user = next((user for at, user in aliases if arrival < at <= who.arrival), "")
        return user == who.user_id if user else actor.device_id == who.device_id


def find_erased(records: Iterable[tuple[int, bytes]]) -> list[Erased]:
    """The erasures among records whose actors are still there."""
    found = []
    for arrival, payload in records:
        if b"erasure" not in payload:
            continue
        logged = _decoded(payload)
        if logged is not None and logged.event.HasField("erasure") and not logged.duplicate:
            actor = logged.event.actor
            if actor.user_id or actor.device_id:
                found.append(Erased(arrival, actor.user_id, actor.device_id))
    return found


def find_aliases(
    records: Iterable[tuple[int, bytes]], erased: Collection[Erased]
) -> dict[str, list[tuple[int, str]]]:
    """(arrival, user) by device of all aliases of devices that are erased, or were at any time an
    erased user's."""
    users = {who.user_id for who in erased}
    devices = {who.device_id for who in erased}
    found: dict[str, list[tuple[int, str]]] = {}
    for arrival, payload in records:
        if b"alias" not in payload:
            continue
        logged = _decoded(payload)
        if logged is not None and logged.event.HasField("alias") and not logged.duplicate:
            actor = logged.event.actor
            found.setdefault(actor.device_id, []).append((arrival, actor.user_id))
    return {
        device: said
        for device, said in found.items()
        if device in devices or any(user in users for _, user in said)
    }


class RecordEraser:
    """Makes records of erased actors into erased ones."""

    def __init__(
        self,
        domain: Domain,
        erasures: Erasures,
        *,
        tombstones: bool,
        views: Iterable[Domain] = (),
    ) -> None:
        """``tombstones``: whether the erasures themselves are made unreadable, too; ``views``: what
        the registered views are defined by, which may count more than the domain does."""
        definitions = [domain, *views]
        self._types = frozenset(kind for each in definitions for kind in each.events)
        self._kept = {pair for each in definitions for pair in _counted_values(each)}
        self._erasures = erasures
        self._tombstones = tombstones

    def erase(self, arrival: int, payload: bytes) -> bytes:
        """The record as it is to be from now on, of the same length; most are what they were."""
        is_late = arrival >= self._erasures.end
        if is_late and b"erasure" not in payload:
            return payload
        logged = _decoded(payload)
        if logged is None or not logged.event.HasField("actor"):
            return payload
        if logged.event.HasField("erasure"):
            if not self._tombstones:
                return payload
            # A repeated call may come later than what it asks for.
            arrival = min(arrival, self._erasures.end - 1) if logged.duplicate else arrival
        if not self._erasures.concern(arrival, logged.event.actor):
            return payload
        logged.event.CopyFrom(self._left_of(logged))
        logged.erased = record_digest(payload)
        logged.padding = b""
        return _padded(logged.SerializeToString(deterministic=True), len(payload))

    def _left_of(self, logged: LoggedEvent) -> Event:
        event = logged.event
        left = Event()
        counts = not logged.duplicate and not logged.too_late and event.type in self._types
        if not counts or not event.entities:
            return left
        left.type = event.type
        left.event_time.CopyFrom(event.event_time)
        left.traffic_class = event.traffic_class
        left.entities.extend(event.entities)
        for name, value in event.attributes.items():
            if (event.type, name) in self._kept:
                left.attributes[name].CopyFrom(value)
        if event.HasField("purchase"):
            left.purchase.amount.CopyFrom(event.purchase.amount)
        if event.HasField("refund"):
            refund = event.refund
            left.refund.amount.CopyFrom(refund.amount)
            left.refund.purchase_event_id = refund.purchase_event_id
            left.refund.purchase_time.CopyFrom(refund.purchase_time)
            left.refund.purchase_amount.CopyFrom(refund.purchase_amount)
        return left


def _counted_values(domain: Domain) -> Iterator[tuple[str, str]]:
    """(event type, attribute) of what features of courses, hosts and rooms read."""
    catalogue = catalogue_entities(domain)
    read = values_read(domain)
    for feature in domain.features.values():
        if feature.kind not in ("sum", "mean", "min", "max", "last"):
            continue
        if not catalogue.isdisjoint(feature.entities):
            yield from ((e, feature.value) for e in feature.events if (e, feature.value) in read)


def _decoded(payload: bytes) -> LoggedEvent | None:
    try:
        return LoggedEvent.FromString(payload)
    except (DecodeError, UnicodeDecodeError):
        return None


def _padded(record: bytes, length: int) -> bytes:
    """The record with a field of zeros, ``length`` bytes in all."""
    missing = length - len(record)
    if missing == 0:
        return record
    # Tag, a length in as many bytes as it may take (longer than needed is allowed), zeros.
    for size in range(1, 6):
        rest = missing - 1 - size
        if 0 <= rest < 1 << 7 * size:
            parts = [(rest >> 7 * n & 0x7F) | 0x80 for n in range(size)]
            parts[-1] &= 0x7F
            return record + _PADDING_TAG + bytes(parts) + bytes(rest)
    raise ValueError(f"{missing} bytes can't be filled")
