"""Exposures: once a unit, experiment and window, for what a slate really showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.assign.assign import Definitions, Experiment, Variant, assign, bucket_of
from services.common.errors import Unavailable
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.ranker.catalogue.table import EntityTable
from services.ranker.convert.events import exposure_events
from services.ranker.definitions.arms import EntityArms
from services.ranker.exposures import Exposures
from services.ranker.feature_rows import View, ViewColumn, empty_rows
from services.ranker.slate_log import AssignmentLog, SpooledSlates
from services.ranker.types import Call, RankCommand, RankResult, Slate, Traffic
from tests.unit.services.ranker.fakes import rows_of

HALVES = (Variant("a", 0.5), Variant("b", 0.5))
WINDOW_MS = 1_000
SEAL = Pseudonymiser.from_text(DEVELOPMENT_KEYS).encrypt
USERS = Experiment("users", "user", "users", HALVES)
DEVICES = Experiment("devices", "device", "devices", HALVES)
SLICES = Experiment("slices", "time_slice", "slices", HALVES, slice_ms=100)
HOSTS = Experiment("hosts", "host", "hosts", HALVES, coverage=0.8)
PAIRS = Experiment("pairs", "user", "pairs", HALVES, other_unit="host")


def _definitions(*experiments: Experiment) -> Definitions:
    return Definitions({e.key: e for e in experiments}, "hash")


def _result(
    definitions: Definitions,
    *,
    now_ms: int = 0,
    user: str = "ann",
    device: str = "",
    traffic: Traffic = Traffic.LIVE,
    hosts: Sequence[str] = (),
    **command: Any,
) -> RankResult:
    """An answer of items of these hosts."""
    units = {"user": user, "device": device}
    found = assign(definitions, {k: v for k, v in units.items() if v}, now_ms=now_ms or 1)
    assignments = [a for a in found if a.unit_type != "host"]
    view = View("v", "h", (ViewColumn("host_id", "string", ""),))
    rows = {f"course_{n}": {"host_id": host} for n, host in enumerate(hosts)}
    table = EntityTable.empty("course", view)
    arms = EntityArms()
    if rows:
        table = table.changed([rows_of(view, rows)], (), 1)
    slots = np.arange(len(hosts))
    slate = Slate("course", list(rows), (), (), np.zeros(len(hosts), np.float32), (), np.zeros(0))  # type: ignore[arg-type]
    return RankResult(
        rank_id="rank",
        command=RankCommand("courses", user, device, **command),
        slate=slate,
        assignments=assignments,
        bundle_version="v",
        policy="top_k",
        degraded=(),
        timings=(),
        traffic=traffic,
        view_hash="",
        log_position=0,
        rows=empty_rows([user]),
        row=0,
        definitions=definitions,
        arms=arms.shown(definitions, table, slots, assignments, now_ms or 1),
    )


def _exposures(**changes: int) -> Exposures:
    return Exposures(**({"window_ms": WINDOW_MS, "capacity": 1_000} | changes))


def test_a_unit_is_exposed_once_in_a_window() -> None:
    exposures, definitions = _exposures(), _definitions(USERS, DEVICES)
    first = exposures.news(_result(definitions, device="d"), 10)
    assert [e.assignment.experiment_key for e in first] == ["users", "devices"]
    assert not exposures.news(_result(definitions, device="d"), 999)
    # Another device is another unit of one of them.
    (other,) = exposures.news(_result(definitions, device="e"), 999)
    assert other.assignment.experiment_key == "devices"
    assert len(exposures.news(_result(definitions, device="d"), 1_000)) == 2


def test_who_is_in_no_variant_is_not_exposed() -> None:
    outside = replace(USERS, coverage=0.0)
    result = _result(_definitions(outside))
    assert [a.variant_key for a in result.assignments] == [""]
    assert not _exposures().news(result, 10)


def test_another_variant_revision_or_traffic_is_another_exposure() -> None:
    exposures = _exposures()
    result = _result(_definitions(USERS))
    (assigned,) = result.assignments
    other = "b" if assigned.variant_key == "a" else "a"
    told = [
        result,
        replace(result, traffic=Traffic.TEST),
        replace(result, assignments=[assigned._replace(revision=2)]),
        replace(result, assignments=[assigned._replace(variant_key=other)]),
    ]
    assert [len(exposures.news(one, 5)) for one in told] == [1, 1, 1, 1]
    assert [len(exposures.news(one, 6)) for one in told] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "changes", [{"shadow_of": "other"}, {"call": Call.SIMILAR}, {"call": Call.SCORE}]
)
def test_what_nobody_sees_exposes_nobody(changes: dict[str, Any]) -> None:
    assert not _exposures().news(_result(_definitions(USERS), **changes), 5)


def test_a_slice_of_time_is_met_by_each_visitor_in_it() -> None:
    exposures, definitions = _exposures(), _definitions(SLICES)

    def news(user: str, now_ms: int) -> int:
        return len(exposures.news(_result(definitions, user=user, now_ms=now_ms), now_ms))

    assert [news("ann", 110), news("ann", 190), news("bob", 150), news("ann", 210)] == [1, 0, 1, 1]


def test_hosts_are_exposed_by_the_items_that_are_shown() -> None:
    exposures, definitions = _exposures(), _definitions(HOSTS)
    hosts = [f"h{n}" for n in range(30)]
    covered = [h for h in hosts if assign(definitions, {"host": h})[0].variant_key]
    assert 0 < len(covered) < len(hosts)
    found = exposures.news(_result(definitions, hosts=[*hosts, *hosts, ""]), 5)
    assert [e.entity for e in found] == [("host", h) for h in covered]
    for exposure in found:
        assert exposure.assignment.bucket == bucket_of("hosts", exposure.entity[1])
        assert not exposure.names_visitor
    # Whoever sees them next: a host is the same unit.
    assert not exposures.news(_result(definitions, user="bob", hosts=hosts), 6)
    assert not exposures.news(_result(definitions, user="bob"), 1_006)


def test_both_sides_of_a_pair_are_told_together() -> None:
    exposures, definitions = _exposures(), _definitions(PAIRS)
    assert not exposures.news(_result(definitions), 5)
    found = exposures.news(_result(definitions, hosts=["h1", "h2", "h1"]), 5)
    assert [e.entity[1] for e in found] == ["h1", "h2"]
    for exposure in found:
        (alone,) = assign(definitions, {"user": "ann", "host": exposure.entity[1]})
        assert exposure.assignment == alone
        assert exposure.names_visitor
    assert len(exposures.news(_result(definitions, user="bob", hosts=["h1", "h2"]), 5)) == 2


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.integers(1, 12))
def test_a_small_memory_forgets_and_tells_again(users: list[str], capacity: int) -> None:
    exposures, definitions = _exposures(capacity=capacity), _definitions(USERS)
    told: list[str] = []
    for user in users:
        is_new = bool(exposures.news(_result(definitions, user=user), 5))
        if is_new:
            told.append(user)
    assert {*told} == {*users}
    if capacity >= 8:
        assert len(told) == len({*users})


def _told(result: RankResult, now_ms: int) -> list[event_pb2.Event]:
    news = _exposures().news(result, now_ms)
    return exposure_events(result, news, now_ms * 1_000_000, SEAL)


def test_replicas_tell_of_an_exposure_under_one_id() -> None:
    definitions = _definitions(USERS, HOSTS)
    one = _told(_result(definitions, hosts=["h1", "h2", "h3"]), 5)
    other = _told(_result(definitions, hosts=["h3", "h2", "h1"]), 900)
    assert {e.event_id for e in one} == {e.event_id for e in other}
    assert len({e.event_id for e in one}) == len(one) >= 2
    later = _told(_result(definitions, hosts=["h1", "h2", "h3"]), 1_000)
    assert not {e.event_id for e in one} & {e.event_id for e in later}


def test_an_exposure_says_who_met_what_and_where() -> None:
    context = common_pb2.RequestContext(region="US", device_type="phone", session_id="s")
    definitions = _definitions(USERS, HOSTS, PAIRS)
    result = _result(definitions, device="d", hosts=["h1"], context=context)
    of_user, *of_hosts = _told(result, 5)
    assert (of_user.actor.user_id, of_user.actor.device_id) == ("ann", "d")
    assert {k: v.string_value for k, v in of_user.attributes.items()} == {
        "region": "US",
        "device_type": "phone",
    }
    assert of_user.exposure.assignment.bucket == bucket_of("users", "ann")
    by_experiment = {e.exposure.assignment.experiment_key: e for e in of_hosts}
    assert by_experiment["pairs"].actor.user_id == "ann"
    assert by_experiment["pairs"].exposure.assignment.other_variant_key
    if "hosts" in by_experiment:
        # A host's exposure is no visitor's.
        assert not by_experiment["hosts"].HasField("actor")
    assert [(ref.type, ref.id) for ref in by_experiment["pairs"].entities] == [("host", "h1")]


@dataclass
class _Sink:
    full: bool = False
    events: list[event_pb2.Event] = field(default_factory=list)

    def append(self, events: Sequence[event_pb2.Event]) -> None:
        if self.full:
            raise Unavailable("the disk is full", reason="SPOOL_WRITE_FAILED")
        self.events += events


def test_what_can_not_be_written_is_counted_and_told_later() -> None:
    sink, lost = _Sink(full=True), dict[str, int]()

    def count(kind: str, number: int) -> None:
        lost[kind] = lost.get(kind, 0) + number

    slates = SpooledSlates(sink, assignments=AssignmentLog(_exposures(), SEAL), lost=count)
    results = [_result(_definitions(USERS), user=user) for user in ("ann", "bob", "ann")]
    slates.record(results)
    assert lost == {"slate_served": 3, "exposure": 2}
    sink.full = False
    slates.record(results)
    assert [e.type for e in sink.events] == [
        *("slate_served", "exposure", "slate_served", "exposure", "slate_served")
    ]
    assert lost == {"slate_served": 3, "exposure": 2}
