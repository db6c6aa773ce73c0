"""Which flags a change touches, and what streams of events say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import pytest
from google.protobuf import json_format

from podium.flagd.evaluation.v1 import evaluation_pb2 as v1
from podium.flagd.evaluation.v2 import evaluation_pb2 as v2
from services.common.assign.assign import (
    Common,
    Definitions,
    Experiment,
    Flag,
    Layer,
    Prerequisite,
    Rule,
    Variant,
)
from services.common.assign.canonical import hashed
from services.experiment.flagd.changes import changed_keys
from services.experiment.flagd.convert import FlagEventEncoder
from services.experiment.flagd.events import FlagEvents
from services.experiment.source import InForce

HALVES = (Variant("a", 0.5), Variant("b", 0.5))
ONE = Experiment("one", "user", "one_1", HALVES)
TWO = Experiment("two", "user", "two_1", HALVES, prerequisites=(Prerequisite("one"),))
THREE = Flag("three", 1, (Rule(prerequisites=(Prerequisite("two"),), value=2),))
FOUR = Flag("four", 1, (Rule(experiment=replace(TWO, key="inner")),))
ALONE = Flag("alone", True)
BEFORE = hashed(
    Definitions({"one": ONE, "two": TWO}, "", {"three": THREE, "four": FOUR, "alone": ALONE})
)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, set()),
        ({"flags": {**BEFORE.flags, "alone": replace(ALONE, default=False)}}, {"alone"}),
        ({"flags": {**BEFORE.flags, "new": Flag("new", 1)}}, {"new"}),
        ({"flags": {"three": THREE, "four": FOUR}}, {"alone"}),
        # Whatever needs a changed one may have another value, too, over others and inside of rules.
        (
            {"experiments": {"one": replace(ONE, revision=2), "two": TWO}},
            {"one", "two", "three", "four"},
        ),
        ({"common": Common(killed=True)}, {"one", "two", "three", "four", "alone"}),
        ({"layers": {"l": Layer("l", "user", "s")}}, {"one", "two", "three", "four", "alone"}),
        ({"saved_groups": {"g": ["x"]}}, {"one", "two", "three", "four", "alone"}),
    ],
)
def test_what_a_change_touches(changes: dict[str, object], keys: set[str]) -> None:
    after = hashed(replace(BEFORE, **changes))  # type: ignore[arg-type]
    assert changed_keys(BEFORE, after) == keys


class FakeSource:
    """Definitions that a test changes."""

    def __init__(self) -> None:
        self.in_force = InForce(BEFORE, 1_000)

    def current(self) -> InForce:
        return self.in_force

    async def run(self, told: Callable[[], None]) -> None:
        raise AssertionError(f"{told} is told by the watch")

    def set(self, **changes: object) -> None:
        self.in_force = InForce(hashed(replace(BEFORE, **changes)), 2_000)  # type: ignore[arg-type]


async def _next(stream: AsyncGenerator[bytes, None]) -> tuple[str, set[str]]:
    data = await anext(stream)
    event = v2.EventStreamResponse.FromString(data)
    assert json_format.MessageToDict(v1.EventStreamResponse.FromString(data)) == (
        json_format.MessageToDict(event)
    )
    return event.type, set(json_format.MessageToDict(event.data).get("flags", {}))


def test_a_stream_is_told_what_changed_since_it_was_told_last() -> None:
    async def streaming() -> None:
        source = FakeSource()
        events = FlagEvents(source, FlagEventEncoder())
        events.start()
        streams = [events.stream() for _ in range(3)]
        for stream in streams:
            assert await _next(stream) == ("provider_ready", set())
        source.set(flags={**BEFORE.flags, "alone": Flag("alone", False)})
        events.told()
        events.told()
        assert await _next(streams[0]) == ("configuration_change", {"alone"})
        source.set(flags={**BEFORE.flags, "alone": Flag("alone", False), "new": Flag("new")})
        events.told()
        # Who did not read meanwhile has both changes in one event.
        assert await _next(streams[0]) == ("configuration_change", {"new"})
        assert await _next(streams[1]) == ("configuration_change", {"alone", "new"})
        assert await _next(streams[2]) == ("configuration_change", {"alone", "new"})
        late = events.stream()
        assert await _next(late) == ("provider_ready", set())
        waiting = asyncio.create_task(_next(late))
        await events.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
        for stream in streams:
            await stream.aclose()

    asyncio.run(streaming())


def test_a_stream_without_changes_is_kept_alive() -> None:
    async def streaming() -> None:
        events = FlagEvents(FakeSource(), FlagEventEncoder(), keep_alive_s=0.0)
        events.start()
        stream = events.stream()
        assert await _next(stream) == ("provider_ready", set())
        assert await _next(stream) == ("keep_alive", set())
        await stream.aclose()
        await events.close()

    asyncio.run(streaming())
