"""The ranker's definitions: watched, whole or not at all, with a copy that outlives both."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from services.common.assign.assign import Definitions, Experiment, Reason, Variant
from services.common.assign.canonical import Item, definitions_hash, hashed, items_of
from services.common.definitions_disk import DefinitionsCopy, DefinitionsDisk
from services.common.errors import Unavailable
from services.ranker.definitions.assigning import assigned_to
from services.ranker.definitions.replica import (
    Chunk,
    DefinitionsMessage,
    DefinitionsReplica,
    Delta,
    End,
    Heartbeat,
    Reset,
)
from services.ranker.types import Circumstances, RankCommand
from services.ranker.types import Reason as Degraded
from services.ranker.watch_loop import WatchTimes
from tests.support.eventually import eventually

HALVES = (Variant("a", 0.5), Variant("b", 0.5))
QUICK = WatchTimes(silent_s=60.0, retry_s=0.001, retry_most_s=0.001)


def _definitions(*keys: str, **changes: object) -> Definitions:
    made = {k: Experiment(k, "user", f"{k}_1", HALVES, **changes) for k in keys}  # type: ignore[arg-type]
    return hashed(Definitions(made, ""))


def _snapshot(definitions: Definitions, as_of_ms: int) -> list[DefinitionsMessage]:
    items = [*items_of(definitions).values()]
    return [
        DefinitionsMessage(Reset(), b"", 0, ""),
        *(DefinitionsMessage(Chunk([item]), b"", 0, "") for item in items),
        DefinitionsMessage(End(len(items)), b"t1", as_of_ms, definitions.hash),
    ]


class FakeService:
    """Streams what a test tells it to; None breaks a stream."""

    def __init__(self) -> None:
        self.messages: SimpleQueue[DefinitionsMessage | None] = SimpleQueue()
        self.tokens: list[bytes] = []

    def send(self, *messages: DefinitionsMessage | None) -> None:
        for message in messages:
            self.messages.put(message)

    def watch(self, token: bytes) -> FakeStream:
        self.tokens.append(token)
        return FakeStream(self.messages)


class FakeStream:
    def __init__(self, messages: SimpleQueue[DefinitionsMessage | None]) -> None:
        self._messages = messages
        self._cancelled = threading.Event()

    def __iter__(self) -> Iterator[DefinitionsMessage]:
        while not self._cancelled.is_set():
            try:
                message = self._messages.get(timeout=0.005)
            except Empty:
                continue
            if message is None:
                raise Unavailable("gone")
            yield message

    def cancel(self) -> None:
        self._cancelled.set()


class World:
    """A replica over a fake service, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = 100_000
        self.steady_s = 5.0
        self.service = FakeService()
        self.disk = DefinitionsDisk(folder)
        self.replica = DefinitionsReplica(
            self.service.watch,
            self.disk,
            stale_s=10.0,
            save_s=0.0,
            times=QUICK,
            clock_ms=lambda: self.now_ms,
            steady_s=lambda: self.steady_s,
        )

    def installed(self, definitions: Definitions) -> None:
        eventually(lambda: self.replica.current().hash == definitions.hash, "the definitions")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.replica.close()


def test_a_snapshot_changes_and_age(world: World) -> None:
    world.replica.start()
    assert world.replica.stale() is Degraded.UNAVAILABLE
    assert world.replica.current().experiments == {}
    first = _definitions("one", "two")
    world.service.send(*_snapshot(first, 99_000))
    assert world.replica.wait_installed(30)
    assert world.replica.current() == first
    assert (world.replica.stale(), world.replica.age_ms()) == (None, 1_000)
    second = _definitions("two", "three")
    upsert = items_of(second)["experiment", "three"]
    gone = [("experiment", "one")]
    # A change in two parts counts with its second.
    world.service.send(DefinitionsMessage(Delta([upsert], []), b"", 0, ""))
    world.service.send(DefinitionsMessage(Delta([], gone), b"t2", 99_500, second.hash))
    world.installed(second)
    world.service.send(DefinitionsMessage(Heartbeat(), b"t3", 99_900, second.hash))
    eventually(lambda: world.replica.age_ms() == 100, "the heartbeat")
    world.now_ms += 20_000
    assert (world.replica.stale(), world.replica.age_ms()) == (Degraded.STALE, 20_100)


def test_a_clock_that_goes_back_hides_no_age(world: World) -> None:
    world.replica.start()
    world.service.send(*_snapshot(_definitions("one"), 99_000))
    assert world.replica.wait_installed(30)
    eventually(lambda: world.replica.age_ms() == 1_000, "the snapshot's age")
    world.now_ms -= 60_000
    assert (world.replica.stale(), world.replica.age_ms()) == (None, 0)
    world.steady_s += 30
    assert (world.replica.stale(), world.replica.age_ms()) == (Degraded.STALE, 30_000)


def test_what_is_not_whole_is_never_in_force(world: World) -> None:
    first = _definitions("one")
    world.replica.start()
    world.service.send(*_snapshot(first, 99_000))
    world.installed(first)
    second = _definitions("one", "two")
    world.service.send(*_snapshot(second, 99_000)[:-1], None)
    eventually(lambda: len(world.service.tokens) == 2, "another stream")
    assert world.service.tokens[1] == b"t1"
    # The rest of it is nothing without its beginning, and a wrong count or hash is no snapshot.
    world.service.send(_snapshot(second, 99_000)[1])
    eventually(lambda: len(world.service.tokens) == 3, "another stream")
    whole = _snapshot(second, 99_000)
    world.service.send(*whole[:-1], replace(whole[-1], step=End(9)))
    eventually(lambda: len(world.service.tokens) == 4, "another stream")
    world.service.send(*whole[:-1], replace(whole[-1], definitions_hash="other"))
    eventually(lambda: len(world.service.tokens) == 5, "another stream")
    # What the watch built on was wrong: it begins anew.
    assert world.service.tokens[4] == b""
    assert world.replica.current() == first
    world.service.send(*whole)
    world.installed(second)


def test_a_restart_with_the_service_gone(tmp_path: Path) -> None:
    definitions = _definitions("one", condition={"country": {"$in": ["US"]}})
    before = World(tmp_path)
    before.replica.start()
    before.service.send(*_snapshot(definitions, 99_000))
    before.installed(definitions)
    before.replica.close()
    after = World(tmp_path)
    after.now_ms += 60_000
    after.replica.start()
    assert after.replica.wait_installed(0)
    assert after.replica.current() == definitions
    assert (after.replica.stale(), after.replica.age_ms()) == (Degraded.STALE, 61_000)
    eventually(lambda: after.service.tokens == [b"t1"], "the watch")
    after.replica.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: text.replace("one_1", "one_2"),
        lambda text: text.replace('"format": 1', '"format": 9'),
        lambda _: "[]",
        lambda text: text.replace('"as_of_ms": 5', '"as_of_ms": 1e999'),
        lambda _: "[" * 100_000,
    ],
)
def test_a_damaged_copy_is_left_aside(
    tmp_path: Path, damage: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    disk = DefinitionsDisk(tmp_path)
    assert disk.load() is None
    items = [*items_of(_definitions("one")).values()]
    copy = DefinitionsCopy(items, b"token", 5)
    disk.save(copy)
    assert disk.load() == copy
    disk.path.write_text(damage(disk.path.read_text(encoding="utf-8")), encoding="utf-8")
    assert disk.load() is None
    world = World(tmp_path)
    world.replica.start()
    assert world.replica.stale() is Degraded.UNAVAILABLE
    assert "nobody is in an experiment" in caplog.text
    world.replica.close()


def test_a_copy_of_a_later_time_is_no_younger_than_now(tmp_path: Path) -> None:
    items = [*items_of(_definitions("one")).values()]
    world = World(tmp_path)
    DefinitionsDisk(tmp_path).save(DefinitionsCopy(items, b"t", world.now_ms + 86_400_000))
    world.replica.start()
    world.now_ms += 60_000
    assert (world.replica.stale(), world.replica.age_ms()) == (Degraded.STALE, 60_000)
    world.replica.close()


def test_a_copy_that_can_not_be_decided_by_is_left_aside(tmp_path: Path) -> None:
    text = json.dumps({"key": "e", "unit": "user", "salt": "s", "variants": [], "nix": 1})
    item = Item("experiment", "e", 1, 1, text)
    DefinitionsDisk(tmp_path).save(DefinitionsCopy([item], b"t", 5))
    assert definitions_hash([item])
    world = World(tmp_path)
    world.replica.start()
    assert world.replica.stale() is Degraded.UNAVAILABLE
    world.replica.close()


def test_requests_are_assigned_by_their_attributes_and_what_is_left_of_forcing() -> None:
    definitions = hashed(
        Definitions(
            {
                "e": Experiment("e", "user", "e_1", HALVES, condition={"region": "US"}),
                "h": Experiment("h", "host", "h_1", HALVES),
                "t": Experiment("t", "time_slice", "t_1", HALVES, slice_ms=1_000),
            },
            "",
        )
    )
    command = RankCommand(
        "feed",
        "u",
        "",
        forced_variants={"gone": "a", "t": "nix"},
        circumstances=Circumstances(region="US", attributes={"plan": "pro"}),
    )
    found = assigned_to(command, definitions, now_ms=5_000).assignments
    assert [(a.experiment_key, a.reason) for a in found] == [
        ("e", Reason.SPLIT),
        ("t", Reason.SPLIT),
    ]
    elsewhere = replace(command, circumstances=Circumstances(region="FR"))
    (there,) = assigned_to(elsewhere, definitions, 5_000, ["e"]).assignments
    assert there.reason is Reason.NOT_TARGETED
    forced = replace(command, forced_variants={"e": "b", "t": "a"})
    (made,) = assigned_to(forced, definitions, 5_000, ["e"]).assignments
    assert made.reason is Reason.FORCED
