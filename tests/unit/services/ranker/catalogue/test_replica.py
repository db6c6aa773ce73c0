"""The replica's thread: snapshots, deltas, ages, a broken watch."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.errors import FailedPrecondition, Unavailable, UnknownFeatureView
from services.ranker.catalogue.disk import Copy, ReplicaDisk
from services.ranker.catalogue.replica import (
    Delta,
    Heartbeat,
    Replica,
    ReplicaTimes,
    Reset,
    SnapshotChunk,
    SnapshotEnd,
    WatchMessage,
)
from services.ranker.feature_rows import View
from services.ranker.state import Tables
from services.ranker.types import Reason
from tests.support.eventually import eventually
from tests.unit.services.ranker.catalogue.tables import VIEWS, readable
from tests.unit.services.ranker.fakes import ITEM_VIEW, rows_of


class ScriptedWatch:
    """Streams of messages, one an opening; after the last script it stays open and silent."""

    def __init__(self, *scripts: list[WatchMessage | Exception]) -> None:
        self.scripts = list(scripts)
        self.tokens: list[bytes] = []
        self.closed = threading.Event()
        self.finished = threading.Event()

    def open(self, views: Mapping[str, View], token: bytes) -> ScriptedWatch:
        del views
        self.tokens.append(token)
        return self

    def __iter__(self) -> Iterator[WatchMessage]:
        if not self.scripts:
            self.finished.set()
            self.closed.wait(20)
            return
        for message in self.scripts.pop(0):
            if isinstance(message, Exception):
                raise message
            yield message

    def cancel(self) -> None:
        if self.finished.is_set():
            self.closed.set()


def message(step: Any, token: bytes = b"", as_of_ms: int = 0) -> WatchMessage:
    return WatchMessage(step, token, as_of_ms)


def chunk(rows: Mapping[str, Mapping[str, Any]]) -> WatchMessage:
    return message(SnapshotChunk("item", rows_of(ITEM_VIEW, rows)))


class FullOnce(ReplicaDisk):
    """Raises what each save is given, where it is given anything."""

    def __init__(
        self, directory: Path, views: Mapping[str, View], errors: Iterable[OSError | None]
    ) -> None:
        super().__init__(directory, views)
        self._errors = iter(errors)

    def save(self, copy: Copy) -> None:
        error = next(self._errors, None)
        if error is not None:
            raise error
        super().save(copy)


def run_replica(
    tmp_path: Path,
    watch: ScriptedWatch,
    *,
    disk: ReplicaDisk | None = None,
    aged: Callable[[float], None] = lambda _: None,
    **times: float,
) -> tuple[Replica, list[Tables]]:
    installed: list[Tables] = []
    replica = Replica(
        VIEWS,
        watch.open,
        disk or ReplicaDisk(tmp_path, VIEWS),
        installed.append,
        times=ReplicaTimes(retry_s=0.001, retry_most_s=0.01, **times),
        aged=aged,
    )
    replica.start()
    assert watch.finished.wait(20)
    return replica, installed


def test_snapshots_and_deltas_are_installed_whole(tmp_path: Path) -> None:
    delta = Delta([("item", rows_of(ITEM_VIEW, {"a": {"clicks": 9}}))], [("item", "b")])
    watch = ScriptedWatch(
        [
            message(Reset()),
            chunk({"a": {"clicks": 1}}),
            chunk({"b": {}, "c": {}}),
            message(SnapshotEnd(3), b"t1"),
            message(delta, b"t2"),
            message(Heartbeat(), b"t3"),
        ]
    )
    replica, installed = run_replica(tmp_path, watch)
    replica.close()
    assert [set(readable(t.by_entity["item"])) for t in installed] == [{"a", "b", "c"}, {"a", "c"}]
    assert readable(installed[1].by_entity["item"])["a"] == {"clicks": 9}
    assert readable(installed[0].by_entity["item"])["a"] == {"clicks": 1}
    assert watch.tokens == [b"", b"t3"]
    copy = ReplicaDisk(tmp_path, VIEWS).load()
    assert copy is not None
    assert copy.resume_token == b"t3"
    assert set(readable(copy.tables["item"])) == {"a", "c"}


def test_while_no_row_changes_the_copy_is_renewed_not_written(tmp_path: Path) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    quiet = [message(Heartbeat(), b"t2"), message(Heartbeat(), b"t3")]
    replica, installed = run_replica(
        tmp_path, ScriptedWatch([*whole, *quiet]), save_s=0.0, refresh_s=0.0
    )
    written = ReplicaDisk(tmp_path, VIEWS).path.stat().st_ino
    replica.close()
    # The snapshot, two heartbeats, and the end of the watch.
    assert len(installed) == 4
    disk = ReplicaDisk(tmp_path, VIEWS)
    assert disk.path.stat().st_ino == written
    copy = disk.load()
    assert copy is not None
    assert copy.resume_token == b"t3"
    with np.load(disk.path) as stored:
        assert stored["token"].tobytes() == b"t1"


def test_plans_are_prepared_anew_while_the_watch_is_broken(tmp_path: Path) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    broken: list[WatchMessage | Exception] = [Unavailable("broken")]
    replica, installed = run_replica(
        tmp_path, ScriptedWatch([*whole, *broken], broken, broken), refresh_s=0.0
    )
    replica.close()
    assert len(installed) == 4
    assert all(t.by_entity["item"] is installed[0].by_entity["item"] for t in installed)
    assert [t.number for t in installed] == sorted({t.number for t in installed})


def test_a_watch_is_opened_again_though_plans_can_not_be_prepared(tmp_path: Path) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    watch = ScriptedWatch([*whole, Unavailable("broken")], [Unavailable("broken")])
    told: list[Tables] = []

    def changed(tables: Tables) -> None:
        told.append(tables)
        if len(told) > 1:
            raise RuntimeError("the item tower is broken")

    times = ReplicaTimes(retry_s=0.001, retry_most_s=0.01, refresh_s=0.0)
    replica = Replica(VIEWS, watch.open, ReplicaDisk(tmp_path, VIEWS), changed, times=times)
    replica.start()
    assert watch.finished.wait(20)
    replica.close()
    assert len(told) == 3


def test_rows_that_could_not_be_saved_are_not_renewed(tmp_path: Path) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    news = message(Delta([("item", rows_of(ITEM_VIEW, {"b": {}}))], ()), b"t2")
    refused = OSError("the disk is full")
    disk = FullOnce(tmp_path, VIEWS, [None, refused])
    watch = ScriptedWatch([*whole, news, message(Heartbeat(), b"t3")])
    replica, _ = run_replica(tmp_path, watch, disk=disk, save_s=0.0, refresh_s=0.0)
    replica.close()
    copy = ReplicaDisk(tmp_path, VIEWS).load()
    assert copy is not None
    assert copy.resume_token == b"t3"
    assert set(readable(copy.tables["item"])) == {"a", "b"}


@pytest.mark.parametrize(
    "ending",
    [
        [],
        [Unavailable("broken")],
        [message(SnapshotEnd(5), b"t9")],
        [RuntimeError("a bug")],
    ],
)
def test_an_unfinished_snapshot_is_never_installed(
    tmp_path: Path, ending: list[WatchMessage | Exception]
) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    broken = [message(Reset()), chunk({"b": {}}), *ending]
    watch = ScriptedWatch(whole, broken)
    replica, installed = run_replica(tmp_path, watch)
    assert set(readable(replica.latest().by_entity["item"])) == {"a"}
    assert len(installed) == 1
    assert watch.tokens == [b"", b"t1", b"t1"]
    replica.close()


def test_a_delta_that_is_not_taken_is_asked_for_again(tmp_path: Path) -> None:
    other = View("other", "x", ITEM_VIEW.columns[:2])
    wrong = Delta([("item", rows_of(other, {"b": {}}))], [])
    right = Delta([("item", rows_of(ITEM_VIEW, {"b": {}}))], [])
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    watch = ScriptedWatch([*whole, message(wrong, b"t2")], [message(right, b"t2")])
    replica, _ = run_replica(tmp_path, watch)
    assert watch.tokens == [b"", b"t1", b"t2"]
    assert set(readable(replica.latest().by_entity["item"])) == {"a", "b"}
    replica.close()


def test_a_second_snapshot_replaces_the_first(tmp_path: Path) -> None:
    first = [message(Reset()), chunk({"a": {}, "b": {}}), message(SnapshotEnd(2), b"t1")]
    second = [message(Reset()), chunk({"c": {}}), message(SnapshotEnd(1), b"t2")]
    replica, installed = run_replica(tmp_path, ScriptedWatch(first, second))
    assert readable(replica.latest().by_entity["item"]) == {"c": {}}
    assert installed[0].epoch != installed[1].epoch
    replica.close()


def test_silence_and_age_make_the_catalogue_stale(tmp_path: Path) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    fresh, _ = run_replica(tmp_path / "1", ScriptedWatch(whole))
    assert fresh.stale() is None
    fresh.close()
    silent, _ = run_replica(tmp_path / "2", ScriptedWatch(whole), stale_s=0.0)
    assert silent.stale() is Reason.STALE
    silent.close()
    whole[-1] = message(SnapshotEnd(1), b"t1", as_of_ms=1_000)
    old, _ = run_replica(tmp_path / "3", ScriptedWatch(whole))
    assert old.stale() is Reason.STALE
    assert old.age_ms() > 1_000_000
    old.close()


def test_a_stream_without_a_heartbeat_is_given_up_and_opened_anew(tmp_path: Path) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    watch = ScriptedWatch(whole)
    replica, _ = run_replica(tmp_path, watch, stale_s=0.05)
    eventually(lambda: len(watch.tokens) > 3, "another stream")
    assert watch.tokens[:2] == [b"", b"t1"]
    assert set(readable(replica.latest().by_entity["item"])) == {"a"}
    replica.close()


def test_the_age_of_what_is_installed_is_told(tmp_path: Path) -> None:
    ages: list[float] = []
    watch = ScriptedWatch(
        [
            message(Reset(), as_of_ms=1_000),
            chunk({"a": {}}),
            message(SnapshotEnd(1), b"t1", as_of_ms=1_000),
            message(Delta([], [("item", "a")]), b"t2"),
            message(Heartbeat(), b"t3", as_of_ms=2_000),
        ]
    )
    replica, _ = run_replica(tmp_path, watch, aged=ages.append)
    replica.close()
    # Once for what ends the snapshot, once for the heartbeat: the delta does not say.
    assert len(ages) == 2
    assert ages[1] < ages[0]


def test_waiting_for_a_refused_view_says_so(tmp_path: Path) -> None:
    replica, _ = run_replica(tmp_path, ScriptedWatch([UnknownFeatureView("no such view")]))
    with pytest.raises(UnknownFeatureView):
        replica.wait_installed(20)
    replica.close()


def test_the_tables_of_a_closed_replica_are_freed_without_the_collector(tmp_path: Path) -> None:
    whole = [message(Reset()), chunk({"a": {}}), message(SnapshotEnd(1), b"t1")]
    replica, installed = run_replica(tmp_path, ScriptedWatch(whole))
    table = weakref.ref(installed.pop().by_entity["item"])
    gc.disable()
    try:
        replica.close()
        assert table() is None
    finally:
        gc.enable()
    with pytest.raises(FailedPrecondition):
        replica.latest()
    assert ReplicaDisk(tmp_path, VIEWS).load() is not None
