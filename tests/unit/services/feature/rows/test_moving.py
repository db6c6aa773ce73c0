"""When a row changes by itself, against rows computed at every moment."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.feature.rows.moving import expiry_ms, next_hop_ms
from services.feature.rows.rows import row_readers
from services.feature.states.applied_event import AppliedEvent
from services.feature.states.entity_plan import compile_plans
from tests.support.feature_streams import START_MS, domain_with

DOMAIN = domain_with(
    {
        "clicks_1m": {
            "kind": "count",
            "entities": ["course"],
            "events": ["click"],
            "window": "1m",
        },
        "clicks_5m": {
            "kind": "count",
            "entities": ["course"],
            "events": ["click"],
            "window": "5m",
        },
        "live": {"kind": "attribute", "entities": ["room"], "ttl": "90s"},
    }
)
READERS, PLANS = row_readers(DOMAIN), compile_plans(DOMAIN)


@settings(max_examples=30, deadline=None)
@given(
    clicks=st.lists(st.integers(0, 400_000), max_size=8),
    start_ms=st.integers(0, 100_000),
)
def test_windows_change_at_hops_and_at_no_other_time(clicks: list[int], start_ms: int) -> None:
    reader, plan = READERS["course"], PLANS["course"]
    state = plan.new_state()
    now_ms = START_MS + 400_000 + start_ms
    for arrival, at_ms in enumerate(sorted(clicks)):
        click = AppliedEvent(
            arrival, START_MS + at_ms, START_MS + at_ms, "click", "ann", [("course", "c")], {}
        )
        plan.fold(state, click)
    for _ in range(20):
        hop_ms = next_hop_ms(reader.view, now_ms)
        assert hop_ms is not None
        assert now_ms < hop_ms
        assert reader.row(state, hop_ms - 1) == reader.row(state, now_ms)
        now_ms = hop_ms


def test_a_view_of_attributes_alone_never_moves() -> None:
    domain = domain_with({})
    assert next_hop_ms(row_readers(domain)["course"].view, START_MS) is None


def test_an_attribute_expires_a_millisecond_after_its_time_to_live() -> None:
    reader, plan = READERS["room"], PLANS["room"]
    state = plan.new_state()
    started = AppliedEvent(
        0, START_MS, START_MS, "room_started", "", [("room", "r")], {}, upserted={"live": True}
    )
    plan.fold(state, started)
    plan.describe(state, started)

    expires_ms = expiry_ms(reader.view, state, START_MS)

    assert expires_ms == START_MS + 90_001
    live = [column.name for column in reader.columns].index("live")
    assert reader.row(state, expires_ms - 1).values[live] == 1
    assert reader.row(state, expires_ms).values[live] == 0
    assert expiry_ms(reader.view, state, expires_ms) is None
