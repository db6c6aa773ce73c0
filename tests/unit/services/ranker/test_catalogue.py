"""Tables, item matrices, the replica's thread and its copy on disk."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View
from services.ranker.plan import item_matrix
from services.ranker.state import Tables
from services.ranker.types import Reason
from tests.support.eventually import eventually
from tests.unit.services.ranker.fakes import ITEM_VIEW, FakeModel, rows_of, spec_of

IDS = st.sampled_from([f"i{n}" for n in range(6)])
ROW = st.fixed_dictionaries(
    {},
    optional={
        "score": st.floats(-2, 2, width=16),
        "clicks": st.integers(0, 3),
        "host": st.sampled_from(["h1", "h2"]),
        "tags": st.lists(st.sampled_from(["t1", "t2"]), max_size=3).map(tuple),
    },
)
CHANGES = st.lists(
    st.tuples(st.dictionaries(IDS, ROW, max_size=3), st.lists(IDS, max_size=2)), max_size=6
)


def readable(table: EntityTable) -> dict[str, dict[str, Any]]:
    """Rows of the entities that are alive, as dictionaries of the values that are there."""
    rows: dict[str, dict[str, Any]] = {}
    for slot, id_ in enumerate(table.ids[: len(table)]):
        if not table.alive[slot]:
            continue
        rows[id_] = {}
        for column in table.view.columns:
            if not table.present_of(column.name)[slot]:
                continue
            if (strings := table.strings(column.name)) is not None:
                codes, pool = strings
                rows[id_][column.name] = pool.values[codes[slot]]
            elif (lists := table.lists(column.name)) is not None:
                codes, list_pool = lists
                rows[id_][column.name] = list_pool.values[codes[slot]]
            else:
                values = table.numeric(column.name)
                assert values is not None
                rows[id_][column.name] = values[slot].item()
    return rows


@settings(max_examples=100, deadline=None)
@given(changes=CHANGES)
def test_a_table_holds_the_last_of_every_row_and_earlier_tables_stay(changes: list[Any]) -> None:
    table = EntityTable.empty("item", ITEM_VIEW)
    expected: dict[str, dict[str, Any]] = {}
    history = [(table, dict(expected))]
    for number, (upserts, gone) in enumerate(changes, start=1):
        table = table.changed([rows_of(ITEM_VIEW, upserts)], gone, number)
        # A withdrawal in a delta is the newer news.
        known = {**expected, **upserts}
        expected = {id_: row for id_, row in known.items() if id_ not in gone}
        history.append((table, expected))
    for version, rows in history:
        assert readable(version) == rows


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES)
def test_an_item_matrix_kept_up_to_date_equals_one_made_anew(changes: list[Any]) -> None:
    model = FakeModel(["i0", "i1"])
    spec = spec_of(model)
    table = EntityTable.empty("item", ITEM_VIEW)
    items = item_matrix(model, spec, table, None, 0)
    for number, (upserts, gone) in enumerate(changes, start=1):
        table = table.changed([rows_of(ITEM_VIEW, upserts)], gone, number)
        items = item_matrix(model, spec, table, items, number - 1)
    anew = item_matrix(model, spec, table, None, 0)
    for name in ("fields", "numeric", "vectors", "features", "parts", "index_row"):
        np.testing.assert_array_equal(getattr(items, name), getattr(anew, name))
    slots = [table.slot_of[i] for i in ("i0", "i1") if i in table.slot_of]
    for slot in slots:
        moved = bool(items.numeric[slot].any() or items.fields[slot, 1])
        assert items.index_row[slot] == (-1 if moved else model.index.index(table.ids[slot]))


def test_only_items_whose_tower_inputs_changed_are_encoded() -> None:
    model = FakeModel()
    spec = spec_of(model)
    rows = {f"i{n}": {"host": "h1"} for n in range(5)}
    table = EntityTable.empty("item", ITEM_VIEW).changed([rows_of(ITEM_VIEW, rows)], (), 1)
    items = item_matrix(model, spec, table, None, 0)
    assert model.encoded == [5]
    news = {"i1": {"host": "h1", "score": 1.0}, "i2": {"host": "h2"}, "i9": {}}
    table = table.changed([rows_of(ITEM_VIEW, news)], (), 2)
    items = item_matrix(model, spec, table, items, 1)
    assert model.encoded == [5, 2]
    assert items.features[table.slot_of["i1"]].tolist() == [1.0, 2.0]
    assert np.array_equal(items.parts, model.item_parts(items.vectors, items.features))


def test_values_that_are_not_finite_take_the_default_and_are_marked() -> None:
    rows = {"a": {"score": float("nan")}, "b": {"score": 1.0}}
    table = EntityTable.empty("item", ITEM_VIEW).changed([rows_of(ITEM_VIEW, rows)], (), 1)
    scores = table.numeric("score")
    assert scores is not None
    assert scores.tolist() == [0.5, 1.0]
    assert table.repaired.tolist() == [True, False]


def test_equal_lists_share_a_code_and_a_missing_one_is_empty() -> None:
    rows = {"a": {"tags": ("t1", "t2")}, "b": {}, "c": {"tags": ()}, "d": {"tags": ("t1", "t2")}}
    table = EntityTable.empty("item", ITEM_VIEW).changed([rows_of(ITEM_VIEW, rows)], (), 1)
    lists = table.lists("tags")
    assert lists is not None
    assert lists[0].tolist() == [1, 0, 0, 1]
    assert table.present_of("tags").tolist() == [True, False, True, True]
    assert table.lists("host") is None


def test_lists_that_move_do_not_pile_up() -> None:
    table = EntityTable.empty("item", ITEM_VIEW)
    first = table.changed([rows_of(ITEM_VIEW, {"still": {"tags": ("t",)}})], (), 1)
    table = first
    for number in range(2, 3_000):
        news = {"moving": {"tags": (f"t{number}", "t")}}
        table = table.changed([rows_of(ITEM_VIEW, news)], (), number)
    assert readable(table) == {"still": {"tags": ("t",)}, "moving": {"tags": ("t2999", "t")}}
    assert readable(first) == {"still": {"tags": ("t",)}}
    lists = table.lists("tags")
    assert lists is not None
    codes, pool = lists
    assert len(pool.values) < 1_500
    having = [pool.values[code] for code in pool.having("t")]
    assert [pool.values[code] for code in codes] == [having[0], having[-1]]


def test_rows_of_another_view_are_refused() -> None:
    other = View("other", "x", ITEM_VIEW.columns[:2])
    with pytest.raises(FailedPrecondition, match="rows of item have columns"):
        EntityTable.empty("item", ITEM_VIEW).changed([rows_of(other, {"a": {}})], (), 1)


# --- disk ---------------------------------------------------------------------------------------

ROWS: Mapping[str, Mapping[str, Any]] = {
    "a": {"score": 1.0, "clicks": 3, "host": "h1", "tags": ("t1", "ü", "t1")},
    "ü": {"live": 1, "sells": "course", "tags": ()},
    "b": {"tags": ("ü",)},
    "gone": {},
}
VIEWS = {"item": ITEM_VIEW}


def make_table() -> EntityTable:
    table = EntityTable.empty("item", ITEM_VIEW)
    return table.changed([rows_of(ITEM_VIEW, ROWS)], (), 1).changed([], ["gone"], 2)


def test_the_copy_on_disk_is_the_table(tmp_path: Path) -> None:
    disk = ReplicaDisk(tmp_path / "replica", VIEWS)
    assert disk.load() is None
    disk.save(Copy({"item": make_table()}, b"\x00token", 1234))
    copy = disk.load()
    assert copy is not None
    assert (copy.resume_token, copy.as_of_ms) == (b"\x00token", 1234)
    assert readable(copy.tables["item"]) == readable(make_table())
    news = rows_of(ITEM_VIEW, {"b": {"host": "h1", "tags": ("t1", "new")}})
    changed = copy.tables["item"].changed([news], (), 1)
    assert readable(changed)["b"] == {"host": "h1", "tags": ("t1", "new")}
    assert readable(changed)["a"] == ROWS["a"]
    lists = changed.lists("tags")
    assert lists is not None
    codes, pool = lists
    having = [pool.values[code] for code in pool.having("t1")]
    assert having == [("t1", "ü", "t1"), ("t1", "new")]
    assert pool.sizes[codes[changed.slot_of["a"]]] == 2


def test_a_copy_after_a_change_is_the_changed_table(tmp_path: Path) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    first = make_table()
    disk.save(Copy({"item": first}, b"1", 1))
    news = {"new": {"host": "h2", "tags": ("t3",)}, "b": {"host": "ü"}}
    second = first.changed([rows_of(ITEM_VIEW, news)], (), 3)
    # What the second added to the lists that both share is not of the first.
    for copy in (Copy({"item": second}, b"2", 2), Copy({"item": first}, b"3", 3)):
        disk.save(copy)
        found = ReplicaDisk(tmp_path, VIEWS).load()
        assert found is not None
        assert (found.resume_token, found.as_of_ms) == (copy.resume_token, copy.as_of_ms)
        assert readable(found.tables["item"]) == readable(copy.tables["item"])


def test_a_renewal_counts_for_the_copy_it_was_made_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    disk.save(Copy({"item": make_table()}, b"1", 1))
    before = disk.path.read_bytes()
    disk.renew(b"2", 2)
    for _ in range(2):
        found = disk.load()
        assert found is not None
        assert (found.resume_token, found.as_of_ms) == (b"2", 2)
        disk.renew(b"2", 2)
    disk.save(Copy({"item": make_table()}, b"3", 3))
    found = disk.load()
    assert found is not None
    assert (found.resume_token, found.as_of_ms) == (b"3", 3)
    disk.path.write_bytes(before)
    (renewal,) = tmp_path.glob("*.json")
    renewal.write_text("{")
    found = disk.load()
    assert found is not None
    assert (found.resume_token, found.as_of_ms) == (b"1", 1)
    assert "not usable" in caplog.text


def test_a_damaged_copy_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    disk.save(Copy({"item": make_table()}, b"", 1))
    content = bytearray(disk.path.read_bytes())
    content[content.index(b"course")] ^= 1
    disk.path.write_bytes(content)
    assert disk.load() is None
    assert "not usable" in caplog.text
    disk.path.write_bytes(content[: len(content) // 2])
    assert disk.load() is None


def test_a_copy_damaged_anywhere_is_whole_or_not_used(tmp_path: Path) -> None:
    disk = ReplicaDisk(tmp_path, VIEWS)
    disk.save(Copy({"item": make_table()}, b"", 1))
    content = disk.path.read_bytes()
    # What begins the archive's directory says how each member is to be read.
    for at in range(content.index(b"PK\x01\x02"), len(content), 3):
        damaged = bytearray(content)
        damaged[at] ^= 0x21
        disk.path.write_bytes(damaged)
        copy = disk.load()
        assert copy is None or readable(copy.tables["item"]) == readable(make_table())


def test_views_of_another_hash_have_another_copy(tmp_path: Path) -> None:
    ReplicaDisk(tmp_path, VIEWS).save(Copy({"item": make_table()}, b"", 1))
    other = View(ITEM_VIEW.name, "another hash", ITEM_VIEW.columns)
    assert ReplicaDisk(tmp_path, {"item": other}).load() is None


# --- the replica's thread -----------------------------------------------------------------------


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
