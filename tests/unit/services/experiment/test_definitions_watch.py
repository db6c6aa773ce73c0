"""What watchers of the definitions are sent, and which changes of the file are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import struct_pb2

from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import Definitions, Experiment, Variant
from services.common.assign.canonical import Item, ItemKey, definitions_of, hashed
from services.common.assign.definitions import load_experiments
from services.common.errors import InvalidArgument
from services.common.turns import TURNS_AT_ONCE, Turns
from services.experiment.convert import WatchEncoder
from services.experiment.convert_assigning import assign_call
from services.experiment.source import FileDefinitions, InForce
from services.experiment.watch.hub import DefinitionsHub
from services.experiment.watch.stream import CHUNK_BYTES, DefinitionsWatch

HALVES = (Variant("a", 0.5), Variant("b", 0.5))
Response = experiment_pb2.WatchExperimentsResponse


def _definitions(*keys: str, **changes: object) -> Definitions:
    made = {k: Experiment(k, "user", f"{k}_1", HALVES, **changes) for k in keys}  # type: ignore[arg-type]
    return hashed(Definitions(made, ""))


class FakeSource:
    """Definitions that a test changes."""

    def __init__(self, definitions: Definitions) -> None:
        self.in_force = InForce(definitions, 1_000)
        self.told: Callable[[], None] = lambda: None
        self.ready = asyncio.Event()

    def current(self) -> InForce:
        return self.in_force

    async def run(self, told: Callable[[], None]) -> None:
        self.told = told
        self.ready.set()
        await asyncio.Event().wait()

    def change(self, definitions: Definitions) -> None:
        self.in_force = InForce(definitions, self.in_force.as_of_ms + 1_000)
        self.told()


class Watcher:
    """Takes in what it is sent as a replica does."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        self.stream = stream
        self.items: dict[ItemKey, Item] = {}
        self.token = b""
        self.steps: list[str] = []
        self.as_of_ms = 0

    async def until(self, kind: str) -> Response:
        """Takes steps in up to the next of a kind, with its end."""
        async for data in self.stream:
            assert len(data) <= 1 << 20
            step = Response.FromString(data)
            self._take(step)
            if step.WhichOneof("step") == kind and step.definitions_hash:
                return step
        raise AssertionError("the stream ended")

    def _take(self, step: Response) -> None:
        kind = step.WhichOneof("step")
        assert kind is not None
        self.steps.append(kind)
        self.token = step.resume_token or self.token
        if step.HasField("as_of"):
            self.as_of_ms = step.as_of.ToMilliseconds()
        if kind == "reset":
            self.items = {}
        for d in (*step.snapshot_chunk.definitions, *step.delta.upserts):
            item = Item(d.kind, d.key, d.revision, d.evaluator_version, d.canonical_json)
            self.items[item.id] = item
        for gone in step.delta.tombstones:
            del self.items[gone.kind, gone.key]
        if step.definitions_hash:
            assert definitions_of(self.items.values()).hash == step.definitions_hash


def test_a_snapshot_then_changes_and_a_token_to_resume_with() -> None:
    async def watching() -> None:
        source = FakeSource(_definitions("one", "two"))
        watch = DefinitionsWatch(source, WatchEncoder())
        watch.start()
        await source.ready.wait()
        first = Watcher(watch.stream(b""))
        await first.until("snapshot_end")
        assert first.steps == ["reset", "snapshot_chunk", "snapshot_end"]
        assert definitions_of(first.items.values()) == source.in_force.definitions
        source.change(_definitions("two", "three"))
        delta = await first.until("delta")
        assert [d.key for d in delta.delta.upserts] == ["three"]
        assert [gone.key for gone in delta.delta.tombstones] == ["one"]
        assert first.as_of_ms == source.in_force.as_of_ms
        # Who comes back gets what it missed, and nothing where it missed nothing.
        source.change(_definitions("two", "three", revision=2))
        again = Watcher(watch.stream(first.token))
        again.items = dict(first.items)
        await again.until("delta")
        assert again.steps == ["delta"]
        assert definitions_of(again.items.values()) == source.in_force.definitions
        idle = Watcher(watch.stream(again.token))
        idle.items = dict(again.items)
        await idle.until("heartbeat")
        assert idle.steps == ["heartbeat"]
        # A token of another service, or none at all, begins anew.
        stranger = Watcher(watch.stream(b"x" * 16))
        await stranger.until("snapshot_end")
        for watcher in (first, again, idle, stranger):
            await watcher.stream.aclose()
        await watch.close()

    asyncio.run(watching())


class CountedTurns(Turns):
    """Counts the turns that were asked for at once."""

    asked = 0

    async def soon(self) -> None:
        self.asked += 1
        await super().soon()


def test_whom_a_change_woke_is_sent_it_in_the_same_turn() -> None:
    async def watching() -> None:
        source, turns = FakeSource(_definitions("one")), CountedTurns()
        watch = DefinitionsWatch(source, WatchEncoder(), turns=turns)
        watch.start()
        await source.ready.wait()
        watchers = [Watcher(watch.stream(b"")) for _ in range(3 * TURNS_AT_ONCE)]
        for watcher in watchers:
            await watcher.until("snapshot_end")
        waiting = [asyncio.create_task(watcher.until("delta")) for watcher in watchers]
        await asyncio.sleep(0)
        asked = turns.asked
        source.change(_definitions("one", "two"))
        await asyncio.gather(*waiting)
        heartbeats = sum(watcher.steps.count("heartbeat") for watcher in watchers)
        assert turns.asked - asked <= heartbeats
        for watcher in watchers:
            await watcher.stream.aclose()
        await watch.close()

    asyncio.run(watching())


def test_closing_ends_the_streams() -> None:
    async def watching() -> None:
        source = FakeSource(_definitions("one"))
        watch = DefinitionsWatch(source, WatchEncoder())
        watch.start()
        watcher = Watcher(watch.stream(b""))
        await watcher.until("snapshot_end")
        rest = asyncio.create_task(watcher.until("delta"))
        await watch.close()
        with pytest.raises(AssertionError, match="ended"):
            await rest

    asyncio.run(watching())


def test_large_definitions_come_in_parts() -> None:
    async def watching() -> None:
        groups = {f"g{i}": ["x" * 100] * (CHUNK_BYTES // 250) for i in range(5)}
        large = hashed(replace(_definitions("one"), saved_groups=groups))
        source = FakeSource(_definitions("one"))
        watch = DefinitionsWatch(source, WatchEncoder())
        watch.start()
        await source.ready.wait()
        watcher = Watcher(watch.stream(b""))
        await watcher.until("snapshot_end")
        source.change(large)
        await watcher.until("delta")
        assert watcher.steps.count("delta") > 1
        fresh = Watcher(watch.stream(b""))
        await fresh.until("snapshot_end")
        assert fresh.steps.count("snapshot_chunk") > 1
        assert watcher.items == fresh.items
        await watcher.stream.aclose()
        await fresh.stream.aclose()
        await watch.close()

    asyncio.run(watching())


def test_forgotten_tombstones_make_old_tokens_useless() -> None:
    hub = DefinitionsHub(_definitions("one", "two", "three"), kept_tombstones=1)
    old = hub.token(hub.version)
    assert hub.resume(old) == 1
    assert not hub.install(_definitions("one", "two", "three"))
    assert hub.install(_definitions("one", "two"))
    assert hub.resume(old) == 1
    assert hub.install(_definitions("one"))
    assert hub.resume(old) is None
    assert hub.forgotten(1)
    assert hub.resume(hub.token(hub.version)) == 3
    assert hub.resume(hub.token(9)) is None
    assert hub.changes(2).gone == [("experiment", "two")]


GOOD = """\
experiments:
  e:
    unit: user
    salt: e_1
    running: true
    revision: 1
    coverage: 0.1
    variants: {a: {weight: 0.5}, b: {weight: 0.5}}
"""


def test_a_file_is_taken_when_it_changes_and_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(GOOD, encoding="utf-8")
    clock = iter(range(1_000, 100_000, 1_000))
    source = FileDefinitions(
        path, lambda p: load_experiments(p, None), clock_ms=lambda: next(clock)
    )
    first = source.current()
    assert first.as_of_ms == 1_000

    def looked(text: str | None) -> InForce:
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
        asyncio.run(source.look())
        return source.current()

    assert looked(GOOD) == (first.definitions, 2_000)
    raised = GOOD.replace("coverage: 0.1", "coverage: 0.5").replace("revision: 1", "revision: 2")
    second = looked(raised)
    assert second.definitions.experiments["e"].coverage == 0.5
    refused = [
        raised.replace("salt: e_1", "salt: e_2").replace("revision: 2", "revision: 3"),
        raised.replace("coverage: 0.5", "coverage: 0.6"),
        raised.replace("weight: 0.5", "weight: 0.7"),
        "experiments: [",
        None,
    ]
    for number, text in enumerate(refused):
        assert looked(text) == (second.definitions, 4_000 + 1_000 * number)
    assert looked(GOOD.replace("revision: 1", "revision: 3")).definitions != second.definitions


def test_whatever_a_file_does_to_its_reader_it_can_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(GOOD, encoding="utf-8")

    def load(read: Path) -> Definitions:
        if read.read_text(encoding="utf-8") != GOOD:
            raise RecursionError
        return load_experiments(read, None)

    source = FileDefinitions(path, load)
    first = source.current().definitions
    path.write_text("experiments: {}", encoding="utf-8")
    asyncio.run(source.look())
    assert source.current().definitions == first
    path.write_text(GOOD, encoding="utf-8")
    asyncio.run(source.look())
    assert source.current().definitions == first


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_attributes_are_what_json_knows(number: float) -> None:
    attributes = struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=number)})
    context = experiment_pb2.EvaluationContext(units={"user": "u"}, attributes=attributes)
    with pytest.raises(InvalidArgument, match=r"context\.attributes"):
        assign_call(experiment_pb2.AssignRequest(context=context), 0)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"a": "x" * 1_025}, r"context\.attributes\.a:"),
        ({"a": {"b": ["", "é" * 513]}}, r"context\.attributes\.a\.b\[1\]:"),
        ({"a": {"k" * 65: 1}}, r"context\.attributes\.a key:"),
    ],
)
def test_texts_that_patterns_are_held_against_are_short(
    sent: dict[str, object], field: str
) -> None:
    attributes = struct_pb2.Struct()
    attributes.update(sent)
    context = experiment_pb2.EvaluationContext(units={"user": "u"}, attributes=attributes)
    with pytest.raises(InvalidArgument, match=field):
        assign_call(experiment_pb2.AssignRequest(context=context), 0)
