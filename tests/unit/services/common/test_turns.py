"""Turns of many on one event loop."""

from __future__ import annotations

import asyncio
import time

from services.common.courtesy import Courtesy
from services.common.turns import TURNS_AT_ONCE, Turns

FAR_S = 3_600.0


def test_turns_come_in_order_and_a_few_at_a_time() -> None:
    async def play() -> None:
        turns, given = Turns(), []
        most, between = 0, 0

        async def take(number: int) -> None:
            await turns.soon()
            given.append(number)

        async def look() -> None:
            # Another user of the loop: how many turns come between two of its own.
            nonlocal most, between
            while True:
                most, between = max(most, len(given) - between), len(given)
                await asyncio.sleep(0)

        count = 5 * TURNS_AT_ONCE
        tasks = [asyncio.create_task(take(number)) for number in range(count)]
        await asyncio.sleep(0)
        watching = asyncio.create_task(look())
        turns.start()
        await asyncio.gather(*tasks)
        watching.cancel()
        await turns.close()
        assert given == list(range(count))
        assert most <= TURNS_AT_ONCE

    asyncio.run(play())


class CountingCourtesy(Courtesy):
    """Remembers how many turns were given whenever short calls may pass."""

    def __init__(self, given: list[int]) -> None:
        super().__init__()
        self.after: list[int] = []
        self._given = given

    async def let_pass(self) -> None:
        self.after.append(len(self._given))
        await super().let_pass()


def test_short_calls_may_pass_after_each_few_turns() -> None:
    async def play() -> None:
        given: list[int] = []
        courtesy = CountingCourtesy(given)
        turns = Turns(courtesy)

        async def take(number: int) -> None:
            await turns.soon()
            given.append(number)

        count = 5 * TURNS_AT_ONCE
        tasks = [asyncio.create_task(take(number)) for number in range(count)]
        await asyncio.sleep(0)
        turns.start()
        await asyncio.gather(*tasks)
        await turns.close()
        assert courtesy.after[:4] == [n * TURNS_AT_ONCE for n in range(1, 5)]

    asyncio.run(play())


def test_a_change_gives_a_turn_to_all_that_wait_for_one() -> None:
    async def play() -> None:
        turns, given = Turns(), []

        async def take(number: int) -> None:
            await turns.changed(time.monotonic() + FAR_S)
            given.append(number)

        turns.start()
        tasks = [asyncio.create_task(take(number)) for number in range(20)]
        await asyncio.sleep(0)
        assert given == []
        turns.change()
        await asyncio.gather(*tasks)
        assert given == list(range(20))
        await turns.close()

    asyncio.run(play())


def test_who_waits_too_long_gets_a_turn_without_a_change() -> None:
    async def play() -> None:
        turns, given = Turns(), []

        async def take(name: str, wait_s: float) -> None:
            await turns.changed(time.monotonic() + wait_s)
            given.append(name)

        turns.start()
        later = asyncio.create_task(take("later", FAR_S))
        await asyncio.gather(take("second", 0.02), take("first", 0.01))
        assert given == ["first", "second"]
        await turns.close()
        # Closing lets go of whoever waits, and of whoever comes.
        await later
        await turns.soon()
        await turns.changed(time.monotonic() + FAR_S)

    asyncio.run(play())


def test_who_has_gone_takes_nobodys_turn() -> None:
    async def play() -> None:
        turns = Turns()
        gone = [asyncio.create_task(turns.soon()) for _ in range(3 * TURNS_AT_ONCE)]
        last = asyncio.create_task(turns.soon())
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        turns.start()
        await last
        await turns.close()

    asyncio.run(play())


def test_an_urgent_change_comes_before_turns_that_are_due_but_does_not_keep_them_out() -> None:
    async def play() -> None:
        turns, given = Turns(), []

        async def due(number: int) -> None:
            await turns.soon()
            given.append(("due", number))

        async def waits(number: int) -> None:
            await turns.changed(time.monotonic() + FAR_S)
            given.append(("waits", number))

        count = 3 * TURNS_AT_ONCE
        tasks = [asyncio.create_task(due(number)) for number in range(count)]
        tasks += [asyncio.create_task(waits(number)) for number in range(count)]
        await asyncio.sleep(0)
        turns.change(urgent=True)
        later = [asyncio.create_task(due(count + number)) for number in range(2)]
        await asyncio.sleep(0)
        assert turns.behind_s == 0
        turns.start()
        await later[1]
        # Everybody has a turn for the change; one that came after it comes after each few of those.
        assert given.index(("due", count)) == TURNS_AT_ONCE
        assert given.index(("due", count + 1)) == 2 * TURNS_AT_ONCE + 1
        assert turns.behind_s > 0
        await asyncio.gather(*tasks)
        assert [name for name in given if name[1] < count] == [
            *(("waits", number) for number in range(count)),
            *(("due", number) for number in range(count)),
        ]
        await turns.close()

    asyncio.run(play())
