"""Refunds of a purchase, and what they change of the counts that it is in. Pure.

What a refund does to counts depends on the refunds entered before it. A ledger says which record
brought each: one that is entered again gets the changes it got the first time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.feature.states.applied_event import RefundFacts
from services.feature.states.keys import Key


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

    def take(
        self, source: str, time_ms: int, facts: RefundFacts, keys: Sequence[Key]
    ) -> dict[Key, list[CountChange]]:
        """Enters a refund, once; what it changes of each key's counts, by key."""
        sources = [known.source for known in self.refunds]
        if source not in sources:
            sources.append(source)
            paid_minor = facts.purchase_amount_minor
            self.refunds.append(
                KnownRefund(
                    source, time_ms, facts.amount_minor, facts.purchase_ms, paid_minor, tuple(keys)
                )
            )
        place = sources.index(source)
        found: dict[Key, list[CountChange]] = {}
        for key in self.refunds[place].keys:
            change = _counted(self.refunds[: place + 1], key)
            change.subtract(_counted(self.refunds[:place], key))
            found[key] = [CountChange(*at, delta) for at, delta in change.items() if delta]
        return found

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


def _counted(refunds: Sequence[KnownRefund], key: Key) -> Counter[tuple[int, int]]:
    """All that the refunds naming a key change of its counts: delta by (visible, purchase) ms.

    At any time the refunds up to it decide, and what the first of them by arrival says of the
    purchase: a later one's event may be the earlier.
    """
    changes: Counter[tuple[int, int]] = Counter()
    taken_back_ms: int | None = None
    for time_ms, wholly_ms in _completions(refunds, key):
        if wholly_ms == taken_back_ms:
            continue
        if taken_back_ms is not None:
            changes[max(time_ms, taken_back_ms), taken_back_ms] += 1
        if wholly_ms is not None:
            changes[max(time_ms, wholly_ms), wholly_ms] -= 1
        taken_back_ms = wholly_ms
    return changes


def _completions(refunds: Iterable[KnownRefund], key: Key) -> Iterator[tuple[int, int | None]]:
    """(event time of a refund, time of the purchase if all of it is given back by then)."""
    naming = [(arrival, known) for arrival, known in enumerate(refunds) if key in known.keys]
    naming.sort(key=lambda item: item[1].time_ms)
    given_back = 0
    first: tuple[int, KnownRefund] | None = None
    for arrival, known in naming:
        given_back += known.amount_minor
        if first is None or arrival < first[0]:
            first = (arrival, known)
        whole = given_back >= first[1].purchase_amount_minor
        yield known.time_ms, first[1].purchase_ms if whole else None
