"""Refund ledgers and stored states."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.feature.definitions import USER_ENTITY
from services.feature.refunds import RefundLedger, take_refund
from services.feature.state_codec import decode_state, encode_state
from services.feature.windows import AppliedEvent, RefundFacts, compile_plans
from tests.support.feature_streams import START_MS, domain_with

BOUGHT_MS = START_MS
DOMAIN = domain_with(
    {"bought": {"kind": "count", "entities": ["user"], "events": ["purchase"], "window": "1d"}}
)


def refund(time_ms: int, amount_minor: int, clock_ms: int = START_MS) -> AppliedEvent:
    facts = RefundFacts("p", BOUGHT_MS, 100, amount_minor)
    return AppliedEvent(0, clock_ms, time_ms, "refund", "ann", [], {}, facts)


def take(
    ledger: RefundLedger | None, time_ms: int, amount_minor: int
) -> tuple[RefundLedger, list[tuple[int, int]]]:
    event = refund(time_ms, amount_minor)
    assert event.refund is not None
    return take_refund(ledger, event, event.refund)


def test_a_purchase_is_taken_back_when_its_refunds_add_up() -> None:
    ledger, first = take(None, START_MS + 10, 40)
    ledger, second = take(ledger, START_MS + 20, 60)
    ledger, third = take(ledger, START_MS + 30, 60)

    assert (first, second, third) == ([], [(START_MS + 20, -1)], [])


def test_a_refund_that_comes_in_later_but_happened_earlier_moves_the_moment() -> None:
    ledger, first = take(None, START_MS + 50, 100)
    ledger, second = take(ledger, START_MS + 10, 100)

    assert first == [(START_MS + 50, -1)]
    assert sorted(second) == [(START_MS + 10, -1), (START_MS + 50, 1)]


def test_a_refund_before_the_purchase_counts_from_the_purchase_on() -> None:
    _, changes = take(None, BOUGHT_MS - 5, 100)

    assert changes == [(BOUGHT_MS, -1)]


def test_a_ledger_survives_storing() -> None:
    ledger, _ = take(None, START_MS + 10, 40)

    assert RefundLedger.decode(ledger.encode()) == ledger


def test_what_waits_survives_storing_and_is_not_seen_before_its_time() -> None:
    plan = compile_plans(DOMAIN)[USER_ENTITY]
    state = plan.new_state()
    ahead = AppliedEvent(3, START_MS, START_MS + 500, "click", "ann", [("course", "c")], {})
    plan.fold(state, ahead)

    stored = decode_state(encode_state(plan.aggregates, state, START_MS))

    assert stored == state
    assert plan.as_of(stored, START_MS + 499).known_ms is None
    seen = plan.as_of(stored, START_MS + 500)
    assert seen.known_ms == START_MS + 500
    assert [entry[3] for entry in seen.last_entries[0]] == ["c"]
    assert stored.known_ms is None


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(0, 320))
def test_what_waits_is_seen_at_its_time_in_whatever_order_it_came(
    ahead_ms: list[int], asked_ms: int
) -> None:
    plan = compile_plans(DOMAIN)[USER_ENTITY]
    state = plan.new_state()
    for arrival, ahead in enumerate(ahead_ms):
        event = AppliedEvent(arrival, START_MS, START_MS + ahead, "purchase", "ann", [], {})
        plan.fold(state, event)
    before = encode_state(plan.aggregates, state, START_MS)

    seen = plan.as_of(state, START_MS + asked_ms)

    assert sum(seen.tiles[0].levels[0].values()) == sum(ahead <= asked_ms for ahead in ahead_ms)
    assert len(seen.pending) == len(state.pending) * sum(a > asked_ms for a in ahead_ms) / len(
        ahead_ms
    )
    # A read leaves what is stored as it was.
    assert encode_state(plan.aggregates, state, START_MS) == before
