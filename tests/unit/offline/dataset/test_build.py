"""Whole datasets against naive oracles, on random definitions and logs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import ibis.expr.types as ir
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offline.dataset import event_features
from offline.dataset.build import build_dataset
from offline.dataset.tables import load_dataset
from podium.common.v1.common_pb2 import Actor
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain, LogProperties, load_domain
from services.common.errors import FailedPrecondition, NotFound
from services.feature.definitions import MAX_TOTAL
from tests.support.alias_streams import alias_event, erasure_event
from tests.support.dataset_checks import (
    assert_dataset_equals_the_oracle,
    documented_columns,
    few_features_and_events,
)
from tests.support.dataset_oracle import ExampleOracle
from tests.support.event_streams import SPAN_MS, START_MS, random_log, small_domain, write_log
from tests.support.every_kind import every_kind, told_stream
from tests.support.feature_streams import interaction, purchase_event
from tests.support.feature_streams import logged as logged_event
from tests.support.more_features import quick_domain_file


@settings(max_examples=2, deadline=None, derandomize=True)
@example(2)
@given(st.integers(0, 2**32))
def test_equals_the_oracle_row_by_row(seed: int) -> None:
    random = Random(seed)
    domain = small_domain(random)
    if random.random() < 0.3:
        domain = without_impressions(domain)
    log = with_slates(random, random_log(random, random.choice([3, 120])))
    with TemporaryDirectory() as directory:
        assert_dataset_equals_the_oracle(domain, log, Path(directory))


def without_impressions(domain: Domain) -> Domain:
    return domain.model_copy(update={"log": domain.log.model_copy(update={"impressions": False})})


def with_slates(random: Random, log: list[LoggedEvent]) -> list[LoggedEvent]:
    """Some slates served before their impressions."""
    slates = []
    for number in range(3):
        slate = LoggedEvent(producer="test")
        slate.event.event_id = f"slate{number}"
        slate.event.type = "slate_served"
        slate.event.rank_id = f"k{number}"
        slate.event.event_time.FromMilliseconds(START_MS + random.randrange(0, SPAN_MS, 500))
        slates.append(slate)
    merged = sorted(
        [*log, *slates], key=lambda e: (e.event.event_time.ToMilliseconds(), e.event.event_id)
    )
    for arrival, logged in enumerate(merged):
        logged.arrival = arrival
    return merged


def with_endings(random: Random, log: list[LoggedEvent]) -> list[LoggedEvent]:
    """Much of it done by a phone alone, that turns out to be ann's or bob's; two are erased."""
    told = []
    for logged in log:
        if logged.event.actor.user_id and random.random() < 0.5:
            logged.event.actor.CopyFrom(Actor(device_id="phone"))
        told.append(logged)
    events = [alias_event(f"a{n}", user, "phone") for n, user in enumerate(("ann", "bob", "ann"))]
    events += [erasure_event("x1", "bob"), erasure_event("x2", device="phone")]
    for event in events:
        told.insert(random.randrange(len(log) // 3, len(log)), logged_event(0, event, START_MS))
    for arrival, logged in enumerate(told):
        logged.arrival = arrival
    return told


def test_examples_know_whose_a_history_is(
    small: tuple[Domain, list[LoggedEvent]], tmp_path: Path
) -> None:
    domain, log = small
    random = Random(5)
    copies = [LoggedEvent.FromString(logged.SerializeToString()) for logged in log]
    log = with_endings(random, copies + random_log(random, 60))
    build_dataset(domain, write_log(tmp_path / "log", log), tmp_path / "out", leak_sample=40)
    dataset = load_dataset(tmp_path / "out")
    expected = ExampleOracle(domain, log).examples()
    assert dataset.examples.to_pylist() == expected
    plain = ExampleOracle(
        domain, [r for r in log if not r.event.HasField("alias") and r.event.type != "erasure"]
    ).examples()
    labels = [name for name in expected[0] if name.startswith("y.")]
    kept = {row["arrival"] for row in expected}
    by_name = [row for row in plain if row["arrival"] in kept]
    assert [[r[n] for n in labels] for r in expected] != [[r[n] for n in labels] for r in by_name]


@pytest.fixture(scope="module")
def small() -> tuple[Domain, list[LoggedEvent]]:
    return few_features_and_events()


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "columns" not in path.relative_to(directory).parts
    }


def test_a_grown_log_gives_the_same_files_as_a_fresh_build(
    small: tuple[Domain, list[LoggedEvent]], tmp_path: Path
) -> None:
    domain, log = small
    grown = write_log(tmp_path / "grown", log[:40])
    build_dataset(domain, grown, tmp_path / "out_grown", leak_sample=0)
    write_log(grown, log[40:])
    build_dataset(domain, grown, tmp_path / "out_grown", leak_sample=0)
    build_dataset(domain, write_log(tmp_path / "log", log), tmp_path / "out", leak_sample=0)
    assert digests(tmp_path / "out_grown") == digests(tmp_path / "out")


def test_a_feature_that_reads_the_future_fails_the_build(
    small: tuple[Domain, list[LoggedEvent]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain, log = small
    honest = event_features.EventFeatures._events

    def leaking(self: event_features.EventFeatures) -> ir.Table:
        events = honest(self)
        return events.mutate(time_ms=events.time_ms - 20_000)

    monkeypatch.setattr(event_features.EventFeatures, "_events", leaking)
    with pytest.raises(FailedPrecondition, match="not what was known") as caught:
        build_dataset(domain, write_log(tmp_path / "log", log), tmp_path / "out")
    assert caught.value.reason == "FEATURE_LEAK"
    with pytest.raises(NotFound):
        load_dataset(tmp_path / "out")


def test_totals_beyond_64_bits_are_capped(tmp_path: Path) -> None:
    domain = load_domain(quick_domain_file(tmp_path / "quick.yaml"))
    events = [
        purchase_event(f"p{n}", START_MS + n, MAX_TOTAL, "ann", "course:c1") for n in range(3)
    ]
    seen = interaction("seen", "impression", START_MS + 9, "ann", "course:c1")
    seen.rank_id, seen.position, seen.surface = "k", 1, "courses"
    log = [LoggedEvent(event=event, arrival=n) for n, event in enumerate([*events, seen])]
    meta = build_dataset(domain, write_log(tmp_path / "log", log), tmp_path / "out")
    spent = load_dataset(tmp_path / "out").examples["u.user_spend_30d"].to_pylist()
    assert spent == [float(MAX_TOTAL)]
    assert meta.leak_check.sampled == 1


def test_a_missing_log_is_named(small: tuple[Domain, Any], tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        build_dataset(small[0], tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize("written", [True, False], ids=["empty segment", "empty directory"])
def test_a_log_without_events_is_named(
    small: tuple[Domain, Any], tmp_path: Path, written: bool
) -> None:
    log_dir = tmp_path / "log"
    if written:
        write_log(log_dir, [])
    else:
        log_dir.mkdir()
    with pytest.raises(NotFound, match="no event"):
        build_dataset(small[0], log_dir, tmp_path / "out")


def test_a_log_of_events_that_do_not_count_gives_empty_tables(
    small: tuple[Domain, Any], tmp_path: Path
) -> None:
    domain = small[0]
    undeclared = LoggedEvent()
    undeclared.event.type = "unheard_of"
    build_dataset(domain, write_log(tmp_path / "log", [undeclared]), tmp_path / "out")
    dataset = load_dataset(tmp_path / "out")
    assert dataset.examples.num_rows == 0
    assert dataset.examples.column_names == documented_columns(domain)


def test_every_kind_is_recomputed_for_the_leak_check(tmp_path: Path) -> None:
    features = ["acts", "spent", "worth", "visitors", "score", "open"]
    by_user = ["acts", "bought", "spent", "paid", "pace", "slowest", "longest", "topics"]
    by_user += ["pace_a_minute", "clicks_of_acts", "since", "worth"]
    domain = every_kind()
    inputs = {"user_features": by_user, "item_features": features}
    domain = domain.model_copy(
        update={
            "log": LogProperties(impressions=False),
            "model": domain.model.model_copy(update=inputs),
        }
    )
    log_dir = write_log(tmp_path / "log", told_stream(copies=2))
    meta = build_dataset(domain, log_dir, tmp_path / "out")
    assert meta.leak_check.sampled == meta.rows["examples"] == 8
    assert meta.leak_check.differing_values == 0
    examples = load_dataset(tmp_path / "out").examples
    moving = [examples[f"u.{name}"] for name in by_user]
    assert all(len(set(column.to_pylist())) > 1 for column in moving)
