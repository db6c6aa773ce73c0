"""Short calls pass between the slices of long work, which goes on whatever comes."""

from __future__ import annotations

import asyncio

import pytest

from services.common.courtesy import PASSES, PASSES_TO_ANSWER, Courtesy

PASSES_OF_A_CALL = 4
EVER_S = 3_600.0


async def _slices(courtesy: Courtesy, done: list[int], count: int) -> None:
    for number in range(count):
        done.append(number)
        await courtesy.let_pass()


def test_a_short_call_does_not_wait_for_a_slice_at_each_of_its_steps() -> None:
    async def play() -> None:
        courtesy, done = Courtesy(EVER_S), list[int]()
        work = asyncio.create_task(_slices(courtesy, done, 100))
        await asyncio.sleep(0)
        before = len(done)
        with courtesy.short_call():
            for _ in range(PASSES_OF_A_CALL):
                await asyncio.sleep(0)
        for _ in range(PASSES_TO_ANSWER):
            await asyncio.sleep(0)
        assert len(done) - before <= 1
        await work
        assert len(done) == 100

    asyncio.run(play())


def test_without_short_calls_a_slice_comes_with_every_pass() -> None:
    async def play() -> None:
        courtesy, done = Courtesy(EVER_S), list[int]()
        work = asyncio.create_task(_slices(courtesy, done, 100))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(done) >= 49
        await work

    asyncio.run(play())


@pytest.mark.parametrize("longest_s", [EVER_S, 0.0])
def test_long_work_goes_on_while_there_is_always_a_call(longest_s: float) -> None:
    async def play() -> None:
        courtesy, done = Courtesy(longest_s), list[int]()
        with courtesy.short_call():
            work = asyncio.create_task(_slices(courtesy, done, 10))
            passes = 0
            while not work.done():
                await asyncio.sleep(0)
                passes += 1
        assert passes <= 10 * (PASSES if longest_s else 2) + 2

    asyncio.run(play())


def test_a_call_that_fails_is_over() -> None:
    async def play() -> None:
        courtesy, done = Courtesy(EVER_S), list[int]()
        with pytest.raises(ValueError, match="broken"), courtesy.short_call():
            raise ValueError("broken")
        for _ in range(PASSES_TO_ANSWER):
            await courtesy.let_pass()
        work = asyncio.create_task(_slices(courtesy, done, 20))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(done) >= 9
        await work

    asyncio.run(play())
