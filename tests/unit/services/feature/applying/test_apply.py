"""The online store against the brute-force oracle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.common.errors import FailedPrecondition
from services.common.event_log import LogWriter
from services.feature.applying.apply import Applier
from services.feature.rows.rows import Row, decoded, row_readers
from services.feature.store.embedded import EmbeddedStore
from tests.support.applied_rows import named
from tests.support.feature_oracle import Oracle
from tests.support.feature_streams import (
    START_MS,
    domain_with,
    domains,
    interaction,
    logged,
    purchase_event,
    refund_event,
    streams,
    upsert_event,
)

KEYS = [
    ("user", "ann"),
    ("user", "bob"),
    ("user", "nobody"),
    ("course", "c1"),
    ("course", "c2"),
    ("room", "r1"),
    ("room", "r2"),
]


def fixed_clock() -> int:
    return START_MS


def row(domain: Domain, store: EmbeddedStore, entity: str, identity: str, t_ms: int) -> Row:
    reader = row_readers(domain)[entity]
    with store.read() as view:
        return reader.row(decoded(view.state(entity, identity)), t_ms)


def assert_agrees(
    domain: Domain, store: EmbeddedStore, log: list[LoggedEvent], t_ms: int, arrival: int
) -> None:
    oracle = Oracle(domain, log, t_ms, arrival)
    for entity, identity in KEYS:
        expected = oracle.features(entity, identity)
        found = named(domain, entity, row(domain, store, entity, identity, t_ms))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].status == value.status, (entity, identity, name)
            if isinstance(value.value, float):
                assert np.isclose(found[name].value, value.value), (entity, identity, name)
            else:
                assert found[name].value == value.value, (entity, identity, name)


# Each example writes to disk: shrinking a failure would take minutes.
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(domain=domains(), log=streams(), data=st.data())
def test_store_agrees_with_the_oracle(
    domain: Domain, log: list[LoggedEvent], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory))
        try:
            applier = Applier(domain, store, fixed_clock)
            applier.prepare(Path(directory))
            position = 0
            while position < len(log):
                left = len(log) - position
                size = data.draw(st.sampled_from((left, (left + 1) // 2)))
                batch = log[position : position + size]
                applier.apply([(r.arrival, r.SerializeToString()) for r in batch])
                position += size
                clock_ms = max(r.arrival_time.ToMilliseconds() for r in log[:position])
                later_ms = data.draw(st.sampled_from((0, 1, 999, 300_000, 3_600_000, 90_000_000)))
                assert_agrees(domain, store, log, clock_ms + later_ms, position)
        finally:
            store.close()


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store")


def applied(domain: Domain, store: EmbeddedStore, log: list[LoggedEvent], log_dir: Path) -> Applier:
    applier = Applier(domain, store, fixed_clock)
    applier.prepare(log_dir)
    applier.apply([(r.arrival, r.SerializeToString()) for r in log])
    return applier


SPEND = domain_with(
    {
        "bought": {"kind": "count", "entities": ["user"], "events": ["purchase"], "window": "1d"},
        "spent": {
            "kind": "sum",
            "entities": ["user"],
            "events": ["purchase"],
            "value": "amount_minor",
            "window": "1d",
        },
    }
)


@pytest.mark.parametrize("refund_first", [False, True])
def test_refunds_reverse_amount_in_part_and_count_in_whole(
    store: EmbeddedStore, tmp_path: Path, refund_first: bool
) -> None:
    bought = purchase_event("p", START_MS, 100, "ann", "course:c1")
    first = refund_event("r1", START_MS + 1, 40, bought)
    second = refund_event("r2", START_MS + 2, 60, bought)
    before = [first, bought] if refund_first else [bought, first]
    log = [logged(i, event, START_MS + 10) for i, event in enumerate([*before, second])]
    applier = applied(SPEND, store, log[:2], tmp_path)

    partly = named(SPEND, "user", row(SPEND, store, "user", "ann", START_MS + 20))
    assert (partly["bought"].value, partly["spent"].value) == (1, 60)

    applier.apply([(2, log[2].SerializeToString())])
    wholly = named(SPEND, "user", row(SPEND, store, "user", "ann", START_MS + 20))
    assert (wholly["bought"].value, wholly["spent"].value) == (0, 0)


def test_refund_before_its_purchase_reads_as_zero(store: EmbeddedStore, tmp_path: Path) -> None:
    bought = purchase_event("p", START_MS, 100, "ann", "course:c1")
    log = [logged(0, refund_event("r", START_MS + 1, 100, bought), START_MS + 1)]
    applied(SPEND, store, log, tmp_path)

    found = named(SPEND, "user", row(SPEND, store, "user", "ann", START_MS + 20))

    assert (found["bought"].value, found["spent"].value) == (0, 0)


def test_the_last_event_time_decides_an_attribute_not_the_last_arrival(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    events = [
        upsert_event("new", START_MS + 2, "course:c1", title="New"),
        upsert_event("old", START_MS, "course:c1", title="Old", price_minor=5),
        upsert_event("tie", START_MS + 2, "course:c1", title="Tie"),
    ]
    log = [logged(i, event, START_MS + 10) for i, event in enumerate(events)]
    applier = applied(SPEND, store, log[:2], tmp_path)
    found = named(SPEND, "course", row(SPEND, store, "course", "c1", START_MS + 20))
    assert (found["title"].value, found["price_minor"].value) == ("New", 5)

    applier.apply([(2, log[2].SerializeToString())])
    found = named(SPEND, "course", row(SPEND, store, "course", "c1", START_MS + 20))
    assert found["title"].value == "Tie"


def test_a_refund_of_a_purchase_still_ahead_waits_for_the_purchase_time(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    bought = purchase_event("p", START_MS + 5_000, 100, "ann", "course:c1")
    spent_before = purchase_event("q", START_MS, 300, "ann", "course:c1")
    back = refund_event("r", START_MS, 100, bought)
    log = [logged(i, event, START_MS) for i, event in enumerate([spent_before, bought, back])]
    applied(SPEND, store, log, tmp_path)

    for t_ms, bought_by_then, spent in ((START_MS + 4_999, 1, 300), (START_MS + 5_000, 1, 300)):
        found = named(SPEND, "user", row(SPEND, store, "user", "ann", t_ms))
        assert (found["bought"].value, found["spent"].value) == (bought_by_then, spent)


def test_other_definitions_refill_the_store(store: EmbeddedStore, tmp_path: Path) -> None:
    log = [logged(0, interaction("a", "click", START_MS, "ann", "course:c1"), START_MS)]
    with LogWriter(tmp_path / "log") as writer:
        writer.append([log[0].SerializeToString()])
    applied(domain_with({}), store, log, tmp_path / "log")

    same = Applier(domain_with({}), store, fixed_clock).prepare(tmp_path / "log")
    other = Applier(SPEND, store, fixed_clock).prepare(tmp_path / "log")

    assert (same, other) == (1, 0)
    with store.read() as view:
        assert view.state("user", "ann") is None


def test_another_log_refills_the_store_and_that_is_told(
    store: EmbeddedStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = [logged(0, interaction("a", "click", START_MS, "ann", "course:c1"), START_MS)]
    with LogWriter(tmp_path / "log") as writer:
        writer.append([log[0].SerializeToString()])
    with LogWriter(tmp_path / "other") as writer:
        writer.append([b"another record"])
    applied(SPEND, store, log, tmp_path / "log")

    assert Applier(SPEND, store, fixed_clock).prepare(tmp_path / "other") == 0
    assert "the store is emptied: it holds 1 records" in caplog.text


def test_a_second_writer_is_noticed(store: EmbeddedStore, tmp_path: Path) -> None:
    log = [logged(0, interaction("a", "click", START_MS, "ann", "course:c1"), START_MS)]
    applier = applied(SPEND, store, log, tmp_path)

    with pytest.raises(FailedPrecondition, match="another process"):
        applier.apply([(0, log[0].SerializeToString())])
    found = named(SPEND, "user", row(SPEND, store, "user", "ann", START_MS + 20))
    assert found["recent"].value == ["c1"]


def test_bytes_that_are_no_event_are_counted_and_passed(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    applier = Applier(SPEND, store, fixed_clock)
    applier.prepare(tmp_path)

    applier.apply([(0, b"\xff\xff\xff")])

    assert applier.skipped == {"undecodable": 1}
    with store.read() as view:
        assert view.position() == 1


def test_what_a_bulk_log_may_hold_stops_nothing(store: EmbeddedStore, tmp_path: Path) -> None:
    most = 2**63 - 1
    endless = interaction("long", "click", START_MS, "ann", "course:" + "x" * 2_000)
    orphan = refund_event("r", START_MS, 1, purchase_event("p", START_MS, 1, "ann", "course:c1"))
    orphan.refund.purchase_event_id = "y" * 2_000
    events = [
        endless,
        orphan,
        upsert_event("nan", START_MS, "course:c1", score=float("nan"), price_minor=1),
        upsert_event("kind", START_MS, "course:c1", title=3),
        purchase_event("rich1", START_MS, most, "ann", "course:c1"),
        purchase_event("rich2", START_MS, most, "ann", "course:c1"),
    ]
    log = [logged(i, event, START_MS) for i, event in enumerate(events)]
    applied(SPEND, store, log, tmp_path)

    ann = named(SPEND, "user", row(SPEND, store, "user", "ann", START_MS))
    course = named(SPEND, "course", row(SPEND, store, "course", "c1", START_MS))

    assert (ann["bought"].value, ann["spent"].value) == (2, most)
    assert (course["score"].status, course["title"].status) == ("NULL", "NULL")
    assert course["price_minor"].value == 1
