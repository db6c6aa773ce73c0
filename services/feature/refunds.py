"""Refunds of a purchase, and what they change of its features. Pure.

What a refund does to counts depends on the refunds entered before it. A stored ledger says which
record brought each refund: one whose entry is there already gets the changes it got the first time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from services.feature.windows import AppliedEvent, RefundFacts


@dataclass(slots=True)
class RefundLedger:
    """Refunds known of one purchase: (event time ms, amount) each."""

    purchase_ms: int
    purchase_amount_minor: int
    refunds: list[tuple[int, int]] = field(default_factory=list)

    def complete_ms(self) -> int | None:
        """Event time from which all of the purchase is refunded; None while it is not."""
        total = 0
        for time_ms, amount_minor in sorted(self.refunds):
            total += amount_minor
            if total >= self.purchase_amount_minor:
                return time_ms
        return None

    def encode(self) -> bytes:
        """Stored form."""
        stored = [self.purchase_ms, self.purchase_amount_minor, self.refunds]
        return json.dumps(stored, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> RefundLedger:
        """Inverse of ``encode``."""
        purchase_ms, amount, refunds = json.loads(data)
        return cls(purchase_ms, amount, [(time_ms, part) for time_ms, part in refunds])


def take_refund(
    ledger: RefundLedger | None, event: AppliedEvent, facts: RefundFacts
) -> tuple[RefundLedger, list[tuple[int, int]]]:
    """The ledger with a refund added, and the count changes it causes: (visible from ms, delta)."""
    if ledger is None:
        ledger = RefundLedger(facts.purchase_ms, facts.purchase_amount_minor)
    before = ledger.complete_ms() if ledger.refunds else None
    ledger.refunds.append((event.time_ms, facts.amount_minor))
    after = ledger.complete_ms()
    changes: list[tuple[int, int]] = []
    if after != before:
        if before is not None:
            changes.append((max(before, ledger.purchase_ms), 1))
        if after is not None:
            changes.append((max(after, ledger.purchase_ms), -1))
    return ledger, changes


def enter_refund(
    stored: bytes | None, source: str, event: AppliedEvent, facts: RefundFacts
) -> tuple[bytes, list[tuple[int, int]]]:
    """The stored ledger with the refund that the record ``source`` brought, and the count changes
    it causes: (visible from ms, delta)."""
    if stored is None:
        ledger, changes = take_refund(None, event, facts)
        return _joined([source], ledger), changes
    line, _, data = stored.partition(b"\n")
    sources, ledger = line.decode().split(","), RefundLedger.decode(data)
    if source not in sources:
        ledger, changes = take_refund(ledger, event, facts)
        return _joined([*sources, source], ledger), changes
    before = sources.index(source)
    del ledger.refunds[before:]
    _, changes = take_refund(ledger if before else None, event, facts)
    return stored, changes


def _joined(sources: list[str], ledger: RefundLedger) -> bytes:
    return ",".join(sources).encode() + b"\n" + ledger.encode()
