"""What keeps a watch open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

from services.ranker.watch_loop import WatchLoop, WatchTimes
from tests.support.eventually import eventually


class Silent:
    """A stream without messages, which ends when it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[str]:
        self.cancelled.wait()
        return iter(())

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_watch_that_is_closed_while_it_opens_is_cancelled() -> None:
    stream = Silent()

    def opened() -> Silent:
        # On the loop's own thread it marks the loop as closing, and can't wait for its end.
        with suppress(RuntimeError):
            loop.close()
        return stream

    taken: list[str] = []
    loop: WatchLoop[str] = WatchLoop("test", opened, taken.append, WatchTimes(silent_s=600.0))
    loop.start()
    eventually(stream.cancelled.is_set, "the stream is cancelled")
    loop.close()
    assert not taken
