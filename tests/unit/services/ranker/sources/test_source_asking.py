"""A source that fails or is slow is left out, for a while, and named."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from services.ranker.arrays import Int64Array
from services.ranker.feature_rows import empty_rows
from services.ranker.sources.aside import Aside
from services.ranker.sources.asking import Run, SourceAsking
from services.ranker.sources.base import Asked, BoundSource
from services.ranker.sources.breaker import Breaker, SourceLimits
from services.ranker.types import Degradation, Part, Reason
from tests.support.eventually import eventually
from tests.unit.services.ranker.fakes import FakeModel

LIMITS = SourceLimits(budget_s=0.5, strikes=2, rest_s=10)


@dataclass
class FakeSource:
    """Yields slot ``slot`` after ``takes_s``; fails where it is broken."""

    clock: list[float]
    slot: int
    takes_s: float = 0.0
    broken: bool = False
    instead: Sequence[Int64Array] | None = None
    runs: int = 0

    def ask(self, asked: Asked) -> list[Int64Array]:
        self.runs += 1
        self.clock[0] += self.takes_s
        if self.broken:
            raise RuntimeError("broken")
        if self.instead is not None:
            return [*self.instead]
        return [np.array([self.slot]) for _ in range(len(asked))]


@dataclass
class Bench:
    """Two sources on one surface, and a clock."""

    clock: list[float] = field(default_factory=lambda: [100.0])
    took: list[tuple[str, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    breaker: Breaker = field(default_factory=Breaker)

    def __post_init__(self) -> None:
        self.good, self.bad = FakeSource(self.clock, 1), FakeSource(self.clock, 2)
        self.asking = SourceAsking(
            LIMITS,
            ran=lambda name, duration_s: self.took.append((name, duration_s)),
            log_error=lambda what, _: self.errors.append(what),
            clock=lambda: self.clock[0],
        )

    def ask(self) -> tuple[list[list[int]], list[Degradation]]:
        """Slots of either source for two requests, and what was left out."""
        asked = asked_by_two()
        named = [("good", self.good), ("bad", self.bad)]
        answers = self.asking.ask("surface", named, asked, self.breaker)
        (first, second) = zip(*answers.slots, strict=True)
        assert [slots.tolist() for slots in first] == [slots.tolist() for slots in second]
        return [slots.tolist() for slots in first], answers.left_out


def asked_by_two() -> Asked:
    vectors = np.zeros((2, 4), np.float32)
    rows = empty_rows(["a", "b"])
    return Asked(FakeModel(), vectors, rows, (0, 1), ((), ()), lambda _: None, 9, (0, 0), 0)


def left_out(reason: Reason, name: str = "bad") -> list[Degradation]:
    return [Degradation(Part.RETRIEVAL, reason, name)]


def test_a_failing_source_is_named_the_others_yield_and_then_it_rests() -> None:
    bench = Bench()
    bench.bad.broken = True
    for _ in range(4):
        assert bench.ask() == ([[1], []], left_out(Reason.FAILED))
    assert (bench.good.runs, bench.bad.runs, len(bench.errors)) == (4, 2, 2)
    assert bench.errors[0] == "the source bad of surface surface failed"
    bench.clock[0] += 10
    bench.bad.broken = False
    assert bench.ask() == ([[1], [2]], [])
    # Its slate is clean again: one more failure does not send it to rest.
    bench.bad.broken = True
    bench.ask()
    bench.ask()
    assert bench.bad.runs == 5


@pytest.mark.parametrize(
    "instead",
    [
        [np.array([3]), np.array([3, 9])],
        [np.array([-1]), np.array([3])],
        [np.array([3.0]), np.array([np.nan])],
        [np.array([[3]]), np.array([[3]])],
        [np.array([3])],
        [],
    ],
)
def test_a_source_that_yields_what_is_no_slot_fails(instead: list[Any]) -> None:
    bench = Bench()
    bench.bad.instead = instead
    for _ in range(3):
        assert bench.ask() == ([[1], []], left_out(Reason.FAILED))
    assert (bench.good.runs, bench.bad.runs, len(bench.errors)) == (3, 2, 2)


def test_a_slow_source_is_used_until_it_was_slow_too_often() -> None:
    bench = Bench()
    bench.bad.takes_s = 0.75
    assert bench.ask() == bench.ask() == ([[1], [2]], [])
    assert bench.ask() == ([[1], []], left_out(Reason.TIMEOUT))
    assert bench.took == [("good", 0.0), ("bad", 0.75)] * 2 + [("good", 0.0)]
    # After its rest it is tried once; still slow, it rests again at once.
    bench.clock[0] += 10
    assert bench.ask() == ([[1], [2]], [])
    assert bench.ask() == ([[1], []], left_out(Reason.TIMEOUT))


def test_when_all_would_rest_none_does() -> None:
    bench = Bench()
    bench.bad.takes_s = bench.good.takes_s = 0.75
    for _ in range(4):
        assert bench.ask() == ([[1], [2]], [])


class Hanging:
    """Yields slot 2 once it is let go on."""

    def __init__(self) -> None:
        self.go_on, self.runs = threading.Event(), 0

    def ask(self, asked: Asked) -> list[Int64Array]:
        self.runs += 1
        assert self.go_on.wait(60)
        return [np.array([2]) for _ in range(len(asked))]


def test_nobody_waits_for_a_source_that_hangs_and_it_is_asked_again_once_it_went_on() -> None:
    aside, bench, hanging = Aside[Run](), Bench(), Hanging()
    last = FakeSource(bench.clock, 3)
    asking = SourceAsking(
        replace(LIMITS, strikes=9),
        ran=lambda name, _: bench.took.append((name, 0.0)),
        log_error=lambda what, _: bench.errors.append(what),
        aside=aside,
    )

    def ask() -> tuple[list[list[int]], list[Degradation]]:
        sources = [("good", bench.good), ("bad", hanging), ("last", last)]
        answers = asking.ask("surface", sources, asked_by_two(), bench.breaker)
        return [found[0].tolist() for found in answers.slots], answers.left_out

    try:
        for _ in range(3):
            assert ask() == ([[1], [], [3]], left_out(Reason.TIMEOUT))
        assert (hanging.runs, bench.good.runs, last.runs) == (1, 3, 3)
        # Another surface's source of that name is another one.
        answers = asking.ask("other", [("bad", last)], asked_by_two(), bench.breaker)
        assert answers.left_out == []
        hanging.go_on.set()
        eventually(lambda: ask() == ([[1], [2], [3]], []))
        assert not bench.errors
    finally:
        hanging.go_on.set()
        aside.close()


def test_a_source_that_hangs_over_one_bundle_is_asked_over_another() -> None:
    aside, clock, hanging = Aside[Run](), [100.0], Hanging()
    asking = SourceAsking(
        LIMITS, ran=lambda _name, _s: None, log_error=lambda _what, _error: None, aside=aside
    )
    first, second = Breaker(), Breaker()

    def ask(source: BoundSource, breaker: Breaker) -> tuple[list[int], list[Degradation]]:
        answers = asking.ask("surface", [("bad", source)], asked_by_two(), breaker)
        return answers.slots[0][0].tolist(), answers.left_out

    try:
        assert ask(hanging, first) == ([], left_out(Reason.TIMEOUT))
        assert ask(FakeSource(clock, 3), second) == ([3], [])
        assert ask(hanging, first) == ([], left_out(Reason.TIMEOUT))
        assert hanging.runs == 1
        # What ended is forgotten: the next one runs.
        hanging.go_on.set()
        eventually(lambda: ask(hanging, first) == ([2], []))
    finally:
        hanging.go_on.set()
        aside.close()


def test_after_a_thread_could_not_be_started_the_next_step_gets_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aside = Aside[int]()

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="start new thread"):
            aside.run([lambda: 1], 60)
    try:
        assert aside.run([lambda: 1, lambda: 2], 60) == [1, 2]
    finally:
        aside.close()
