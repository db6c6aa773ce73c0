"""A device's history becomes a user's: as if its events had been the user's, from then on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.feature.convert.records import RecordDecoder
from services.feature.definitions import pair_id
from services.feature.identity.alias import take_over
from services.feature.states.codec import decode_state, encode_state
from services.feature.states.entity_plan import EntityPlan, compile_plans
from services.feature.states.key_state import KeyState
from services.feature.store.embedded import EmbeddedStore
from tests.support.alias_streams import (
    USER_KEYS,
    alias_event,
    aliased_streams,
    as_told,
    pairs_domain,
)
from tests.support.applied_rows import apply_in_batches, named, rows_of
from tests.support.feature_oracle import Oracle
from tests.support.feature_streams import (
    START_MS,
    domains,
    interaction,
    logged,
    purchase_event,
    refund_event,
)

DOMAIN = pairs_domain()
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def _folded(plan: EntityPlan, records: list[LoggedEvent]) -> KeyState:
    decoder = RecordDecoder(DOMAIN)
    state = plan.new_state()
    for record in records:
        found = decoder.decode(record.arrival, record.SerializeToString())
        assert found is not None
        if found.applied is not None:
            plan.fold(state, found.applied)
    return state


def _canonical(plan: EntityPlan, state: KeyState, clock_ms: int) -> dict[str, Any]:
    """The state as stored, without orders that mean nothing."""
    plan.settle(state, clock_ms)
    kept = decode_state(encode_state(plan.aggregates, state, clock_ms))
    return {
        "tiles": [(tiles.levels, tiles.latest_ms) for tiles in kept.tiles],
        "last": (kept.last_times, kept.last_values, kept.last_entries),
        "recents": kept.recents,
        "known": (kept.known_ms, kept.attributes, kept.listing),
        "pending": sorted(map(repr, kept.pending)),
    }


@settings(deadline=None, suppress_health_check=SLOW)
@given(stream=aliased_streams(), data=st.data())
def test_a_merged_state_is_that_of_all_events(
    stream: list[LoggedEvent], data: st.DataObject
) -> None:
    plan = compile_plans(DOMAIN)["user"]
    records = [r for r in stream if not r.event.HasField("alias")]
    for record in records:
        record.event.actor.user_id = "ann"
    of_device = [data.draw(st.booleans()) for _ in records]
    device = [r for r, is_device in zip(records, of_device, strict=True) if is_device]
    user = [r for r, is_device in zip(records, of_device, strict=True) if not is_device]
    clock_ms = max([START_MS, *(r.arrival_time.ToMilliseconds() for r in records)])

    merged = _folded(plan, user)
    take_over(plan, merged, _folded(plan, device), clock_ms)

    assert _canonical(plan, merged, clock_ms) == _canonical(plan, _folded(plan, records), clock_ms)


# Each example writes to disk: shrinking a failure would take minutes.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=SLOW,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(stream=aliased_streams(), data=st.data())
def test_users_and_pairs_have_what_their_devices_did_from_the_alias_on(
    stream: list[LoggedEvent], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(stream)))
    known = stream[:count]
    arrival = known[-1].arrival + 1
    clock_ms = known[-1].arrival_time.ToMilliseconds()
    t_ms = clock_ms + data.draw(st.sampled_from((0, 1, 2_500, 400_000, 50_000_000)))
    plain = [r for r in known if not r.event.HasField("alias")]

    found = rows_of(DOMAIN, known, t_ms)
    told = rows_of(DOMAIN, [r for r in as_told(known, arrival) if r.event.type != "alias"], t_ms)
    others = rows_of(DOMAIN, plain, t_ms)

    for key, row in found.items():
        assert row == (others if key[0] == "course" else told)[key], key


# Each example writes to disk: shrinking a failure would take minutes.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=SLOW,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(domain=domains(), stream=aliased_streams(), data=st.data())
def test_the_store_agrees_with_the_oracle(
    domain: Domain, stream: list[LoggedEvent], data: st.DataObject
) -> None:
    known = stream[: data.draw(st.integers(1, len(stream)))]
    t_ms = known[-1].arrival_time.ToMilliseconds() + data.draw(st.sampled_from((0, 1_500, 400_000)))
    arrival = known[-1].arrival + 1
    oracle = Oracle(domain, stream, t_ms, arrival)

    rows = rows_of(domain, known, t_ms)

    for user in USER_KEYS:
        found = named(domain, "user", rows["user", user])
        expected = oracle.features("user", user)
        for name, value in expected.items():
            assert found[name].status == value.status, (user, name)
            if isinstance(value.value, float):
                assert abs(found[name].value - value.value) < 1e-9, (user, name)  # type: ignore[operator]
            else:
                assert found[name].value == value.value, (user, name)


def _user(domain: Domain, records: list[LoggedEvent], user: str, name: str) -> object:
    row = rows_of(domain, records, START_MS)["user", user]
    return named(domain, "user", row)[name].value


def test_a_shared_device_counts_for_each_once() -> None:
    def click(arrival: int) -> LoggedEvent:
        event = interaction(f"e{arrival}", "click", START_MS, "", "course:c1")
        event.actor.device_id = "d1"
        return logged(arrival, event, START_MS)

    log = [click(0), click(1)]
    log.append(logged(2, alias_event("a", "ann", "d1"), START_MS))
    log += [click(3)]
    log.append(logged(4, alias_event("b", "bob", "d1"), START_MS))
    log.append(logged(5, alias_event("c", "ann", "d1"), START_MS))
    log += [click(6)]

    counts = {user: _user(DOMAIN, log, user, "count") for user in USER_KEYS}
    before = {user: _user(DOMAIN, log[:2], user, "count") for user in USER_KEYS}

    assert before == {"ann": 0, "bob": 0, "device:d1": 2, "device:d2": 0}
    assert counts == {"ann": 2, "bob": 1, "device:d1": 1, "device:d2": 0}


def test_a_refund_that_names_the_user_finds_what_the_device_bought() -> None:
    bought = purchase_event("p", START_MS, 250, "", "course:c1")
    bought.actor.device_id = "d1"
    back = refund_event("r", START_MS, 250, bought)
    log = [logged(0, bought, START_MS), logged(1, alias_event("a", "ann", "d1"), START_MS)]
    of_device = [*log, logged(2, back, START_MS)]
    both = LoggedEvent.FromString(of_device[-1].SerializeToString())
    both.event.actor.user_id = "ann"

    assert _user(DOMAIN, log, "ann", "spent") == 250
    assert _user(DOMAIN, [*log, both], "ann", "spent") == 0
    assert _user(DOMAIN, [*log, both], "ann", "bought") == 0
    # One that names the device alone is the device's, until that is merged.
    assert _user(DOMAIN, of_device, "ann", "spent") == 250
    again = logged(3, alias_event("b", "ann", "d1"), START_MS)
    assert _user(DOMAIN, [*of_device, again], "ann", "spent") == 0


def test_a_merged_device_leaves_no_state_behind(tmp_path: Path) -> None:
    event = interaction("e", "click", START_MS, "", "course:c1")
    event.actor.device_id = "d1"
    store = EmbeddedStore(tmp_path)
    try:
        apply_in_batches(
            DOMAIN,
            store,
            [logged(0, event, START_MS), logged(1, alias_event("a", "ann", "d1"), START_MS)],
        )
        with store.read() as view:
            assert [identity for identity, _ in view.states("user")] == ["ann"]
            assert [identity for identity, _ in view.states("likes")] == [pair_id("ann", "c1")]
    finally:
        store.close()
