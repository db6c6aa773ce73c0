"""Variants kept in a state: the latest event time wins, signing in changes nobody's variant."""

from __future__ import annotations

import functools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.domain import load_domain
from services.feature.definitions import STICKY_ASSIGNED
from services.feature.identity.alias import take_over
from services.feature.states.applied_event import AppliedEvent
from services.feature.states.codec import decode_state, encode_state
from services.feature.states.entity_plan import EntityPlan, compile_plans
from services.feature.states.sticky import MARK, MAX_KEPT, kept_variants, stick

ROOT = Path(__file__).parents[5]
_EVENTS = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.dictionaries(st.sampled_from(("x__0", "y__0", "y__1")), st.sampled_from("ab")),
    ),
    max_size=8,
)


def _event(arrival: int, time_ms: int, kept: dict[str, str]) -> AppliedEvent:
    return AppliedEvent(arrival, 10, time_ms, STICKY_ASSIGNED, "ann", [], {}, sticky=kept)


def _latest(events: list[tuple[int, dict[str, str]]]) -> dict[str, str]:
    said = sorted(
        (time_ms, arrival, entry, variant)
        for arrival, (time_ms, kept) in enumerate(events)
        for entry, variant in kept.items()
    )
    return {entry: variant for _, _, entry, variant in said}


@functools.cache
def _plan() -> EntityPlan:
    return compile_plans(load_domain(ROOT / "config" / "live_courses.yaml"))["user"]


@settings(max_examples=50)
@given(_EVENTS, _EVENTS)
def test_the_latest_wins_and_a_device_adds_what_its_user_lacks(
    of_user: list[tuple[int, dict[str, str]]],
    of_device: list[tuple[int, dict[str, str]]],
) -> None:
    plan = _plan()
    user, device = plan.new_state(), plan.new_state()
    for state, events in ((user, of_user), (device, of_device)):
        for arrival, (time_ms, kept) in enumerate(events):
            stick(state, _event(arrival, time_ms, kept))
    assert kept_variants(user) == _latest(of_user)
    data = encode_state(plan.aggregates, user, 10)
    assert kept_variants(decode_state(data)) == _latest(of_user)
    assert (MARK in data) == bool(_latest(of_user))
    assert user.is_empty == (not _latest(of_user))
    take_over(plan, user, device, 10)
    assert kept_variants(user) == _latest(of_device) | _latest(of_user)


def test_the_entries_set_longest_ago_go_first() -> None:
    state = _plan().new_state()
    for number in range(MAX_KEPT + 5):
        stick(state, _event(number, number, {f"e{number}__0": "a"}))
    assert sorted(kept_variants(state)) == sorted(f"e{n}__0" for n in range(5, MAX_KEPT + 5))
