"""Refunds of a purchase, and what they change of its features. Pure."""

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
