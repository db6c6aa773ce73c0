"""Refunds of a purchase, and what they change of the counts that it is in. Pure.

What a refund does to counts depends on the refunds entered before it. A ledger says which record
brought each: one that is entered again gets the changes it got the first time.

A producer that names one purchase for all refunds fills one ledger with them: entering a refund
looks at those that name the same key and happened later, which mostly are none.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.feature.definitions import Key
from services.feature.states.applied_event import RefundFacts


class CountChange(NamedTuple):
    """A count changes by ``delta`` at ``purchase_ms``, seen from ``visible_ms`` on (epoch ms)."""

    visible_ms: int
    purchase_ms: int
    delta: int


class KnownRefund(NamedTuple):
    """A refund as a ledger keeps it: epoch ms, minor units, and the keys that it names.

    ``source`` tells the record that brought it from all others.
    """

    source: str
    time_ms: int
    amount_minor: int
    purchase_ms: int
    purchase_amount_minor: int
    keys: tuple[Key, ...]


@dataclass(slots=True)
class RefundLedger:
    """Refunds known of one purchase, in order of arrival."""

    refunds: list[KnownRefund] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    _naming: dict[Key, _Naming] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for place, known in enumerate(self.refunds):
            self._enter(place, known)

    def take(
        self, source: str, time_ms: int, facts: RefundFacts, keys: Sequence[Key]
    ) -> dict[Key, list[CountChange]]:
        """Enters a refund, once; what it changes of each key's counts, by key."""
        place = self._places.get(source)
        if place is None:
            place = len(self.refunds)
            paid_minor = facts.purchase_amount_minor
            known = KnownRefund(
                source, time_ms, facts.amount_minor, facts.purchase_ms, paid_minor, tuple(keys)
            )
            self.refunds.append(known)
            self._enter(place, known)
        return {
            key: [
                CountChange(*at, delta)
                for at, delta in self._naming[key].changes(place).items()
                if delta
            ]
            for key in self.refunds[place].keys
        }

    def forget(self, names: Callable[[Key], bool], log_id: str, arrival: int) -> bool:
        """Takes keys out of what came before ``arrival`` in this log; whether there were any."""
        kept = []
        for known in self.refunds:
            log, _, place = known.source.rpartition(":")
            keys = known.keys
            if log != log_id or int(place) < arrival:
                keys = tuple(key for key in keys if not names(key))
            kept.append(known._replace(keys=keys))
        changed = kept != self.refunds
        self.refunds = kept
        self._places.clear()
        self._naming.clear()
        self.__post_init__()
        return changed

    def encode(self) -> bytes:
        """Stored form."""
        return json.dumps(self.refunds, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> RefundLedger:
        """Inverse of ``encode``."""
        return cls(
            [
                KnownRefund(
                    source,
                    at_ms,
                    amount,
                    bought_ms,
                    paid,
                    tuple((kind, name) for kind, name in keys),
                )
                for source, at_ms, amount, bought_ms, paid, keys in json.loads(data)
            ]
        )

    def _enter(self, place: int, known: KnownRefund) -> None:
        self._places[known.source] = place
        for key in known.keys:
            naming = self._naming.get(key)
            if naming is None:
                naming = self._naming[key] = _Naming()
            naming.known.append(_Entry(known.time_ms, place, known))


class _Entry(NamedTuple):
    """A refund, in order of event time, then of arrival."""

    time_ms: int
    place: int
    known: KnownRefund


class _GivenBack(NamedTuple):
    """What refunds in order of event time come to: the amount, the first of them by arrival, and
    the time of the purchase if all of it is given back by then."""

    amount_minor: int = 0
    first: _Entry | None = None
    purchase_ms: int | None = None


@dataclass(slots=True)
class _Naming:
    """The refunds of a ledger that name one key.

    ``known``: in order of arrival; the first ``entered`` of them are ``ordered`` by event time.
    ``passed``: what the first of these come to, one after another, as far as it was asked for.
    """

    known: list[_Entry] = field(default_factory=list)
    entered: int = 0
    ordered: list[_Entry] = field(default_factory=list)
    passed: list[_GivenBack] = field(default_factory=list)

    def changes(self, place: int) -> Counter[tuple[int, int]]:
        """What the refund at a place changed of the key's counts as it was entered: delta by
        (visible, purchase) ms."""
        if self.entered and self.known[self.entered - 1].place >= place:
            self.entered = 0
            self.ordered.clear()
            self.passed.clear()
        while self.known[self.entered].place < place:
            self._insert(self.known[self.entered])
        entry = self.known[self.entered]
        at = bisect(self.ordered, entry)
        before = self._passed(at)
        later = self.ordered[at:]
        changed = _summed(before, [entry, *later])
        changed.subtract(_summed(before, later))
        self._insert(entry)
        return changed

    def _insert(self, entry: _Entry) -> None:
        at = bisect(self.ordered, entry)
        self.ordered.insert(at, entry)
        del self.passed[at:]
        self.entered += 1

    def _passed(self, count: int) -> _GivenBack:
        """What the first ``count`` by event time come to."""
        for entry in self.ordered[len(self.passed) : count]:
            so_far = self.passed[-1] if self.passed else _GivenBack()
            self.passed.append(_given_back(so_far, entry))
        return self.passed[count - 1] if count else _GivenBack()


def _given_back(so_far: _GivenBack, entry: _Entry) -> _GivenBack:
    """At any time the refunds up to it decide, and what the first of them by arrival says of the
    purchase: a later one's event may be the earlier."""
    amount_minor = so_far.amount_minor + entry.known.amount_minor
    first = so_far.first
    if first is None or entry.place < first.place:
        first = entry
    whole = amount_minor >= first.known.purchase_amount_minor
    return _GivenBack(amount_minor, first, first.known.purchase_ms if whole else None)


def _summed(before: _GivenBack, entries: Sequence[_Entry]) -> Counter[tuple[int, int]]:
    """What ``entries`` change of counts after what came ``before``, by (visible, purchase) ms."""
    changes: Counter[tuple[int, int]] = Counter()
    so_far = before
    for entry in entries:
        following = _given_back(so_far, entry)
        if following.purchase_ms != so_far.purchase_ms:
            if so_far.purchase_ms is not None:
                changes[max(entry.time_ms, so_far.purchase_ms), so_far.purchase_ms] += 1
            if following.purchase_ms is not None:
                changes[max(entry.time_ms, following.purchase_ms), following.purchase_ms] -= 1
        so_far = following
    return changes
