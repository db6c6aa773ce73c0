"""Refund ledgers and stored states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Unavailable
from services.feature.definitions import USER_ENTITY
from services.feature.states.applied_event import AppliedEvent, RefundFacts
from services.feature.states.codec import decode_state, encode_state
from services.feature.states.entity_plan import compile_plans
from services.feature.states.refunds import RefundLedger
from tests.support.feature_streams import START_MS, domain_with

BOUGHT_MS = START_MS
DOMAIN = domain_with(
    {"bought": {"kind": "count", "entities": ["user"], "events": ["purchase"], "window": "1d"}}
)


ANN = (USER_ENTITY, "ann")
BOB = (USER_ENTITY, "bob")


def take(
    ledger: RefundLedger,
    time_ms: int,
    amount_minor: int,
    *,
    purchase_ms: int = BOUGHT_MS,
    paid_minor: int = 100,
    keys: tuple[tuple[str, str], ...] = (ANN,),
) -> dict[tuple[str, str], list[tuple[int, int, int]]]:
    facts = RefundFacts("p", purchase_ms, paid_minor, amount_minor)
    source = f"log:{len(ledger.refunds)}"
    changes = ledger.take(source, time_ms, facts, keys)
    return {key: sorted(map(tuple, found)) for key, found in changes.items()}


def test_a_purchase_is_taken_back_when_its_refunds_add_up() -> None:
    ledger = RefundLedger()

    assert take(ledger, START_MS + 10, 40) == {ANN: []}
    assert take(ledger, START_MS + 20, 60) == {ANN: [(START_MS + 20, BOUGHT_MS, -1)]}
    assert take(ledger, START_MS + 30, 60) == {ANN: []}


def test_a_refund_that_comes_in_later_but_happened_earlier_moves_the_moment() -> None:
    ledger = RefundLedger()

    assert take(ledger, START_MS + 50, 100) == {ANN: [(START_MS + 50, BOUGHT_MS, -1)]}
    assert take(ledger, START_MS + 10, 100) == {
        ANN: [(START_MS + 10, BOUGHT_MS, -1), (START_MS + 50, BOUGHT_MS, 1)]
    }


def test_a_refund_before_the_purchase_counts_from_the_purchase_on() -> None:
    assert take(RefundLedger(), BOUGHT_MS - 5, 100) == {ANN: [(BOUGHT_MS, BOUGHT_MS, -1)]}


def test_only_refunds_that_name_a_key_add_up_for_it() -> None:
    ledger = RefundLedger()
    take(ledger, START_MS + 10, 40, keys=(ANN,))

    found = take(ledger, START_MS + 20, 60, keys=(ANN, BOB))

    assert found == {ANN: [(START_MS + 20, BOUGHT_MS, -1)], BOB: []}


def test_the_first_refund_by_arrival_speaks_for_the_purchase_as_soon_as_it_is_known() -> None:
    ledger = RefundLedger()
    assert take(ledger, START_MS + 50, 10, purchase_ms=BOUGHT_MS - 1, paid_minor=200) == {ANN: []}

    found = take(ledger, START_MS + 10, 100)

    assert found == {
        ANN: [(START_MS + 10, BOUGHT_MS, -1), (START_MS + 50, BOUGHT_MS, 1)],
    }


def test_a_ledger_survives_storing() -> None:
    ledger = RefundLedger()
    take(ledger, START_MS + 10, 40, keys=(ANN, ("course", "c\u00e9")))

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


def test_a_state_of_everything_survives_storing() -> None:
    plan = compile_plans(DOMAIN)[USER_ENTITY]
    state = plan.new_state()
    state.known_ms = START_MS - 10**11
    state.tiles[0].levels[0] = {START_MS // 7_200_000: 2**80, START_MS // 7_200_000 - 1: 3}
    state.tiles[0].latest_ms = START_MS - 1
    state.last_entries[0] = [(START_MS - 5, 2**40, "click", "c\u00e9")]
    state.attributes = {
        "taste": (START_MS, 1, (0.5, -1.25)),
        "tags": (START_MS - 1, 2, ("a", "b")),
        "none": (START_MS - 1, 2, ()),
        "name": (START_MS - 2, 3, "x"),
        "score": (0, 4, 0.1),
    }
    state.listing = (START_MS, 5, 1)
    state.pending = [(START_MS + 5, ("a", "taste", START_MS + 5, 6, (1.5, 0.1)))]

    assert decode_state(encode_state(plan.aggregates, state, START_MS)) == state


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 255))
def test_bytes_that_are_no_state_are_damage_of_the_store(junk: bytes, at: int, byte: int) -> None:
    plan = compile_plans(DOMAIN)[USER_ENTITY]
    state = plan.new_state()
    state.known_ms, state.attributes["title"] = START_MS, (START_MS, 0, "A title")
    stored = encode_state(plan.aggregates, state, START_MS + 1)
    spoilt = bytearray(stored)
    spoilt[at % len(stored)] ^= byte
    for data in (junk, bytes(spoilt), stored[:at], bytes(len(stored))):
        if data == stored:
            continue
        with pytest.raises(Unavailable, match="run podium features rebuild") as caught:
            decode_state(data)
        assert caught.value.reason == "STORE_DAMAGED"
