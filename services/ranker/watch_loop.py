"""Keeps a watch open: one thread, which opens it anew when it ends, breaks or falls silent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from services.common.errors import PodiumError

Message = TypeVar("Message")
Sent_co = TypeVar("Sent_co", covariant=True)

_logger = logging.getLogger(__name__)


class Stream(Protocol[Sent_co]):
    """An open watch."""

    def __iter__(self) -> Iterator[Sent_co]:
        """Messages until the stream ends. Raises a PodiumError when it breaks."""

    def cancel(self) -> None:
        """Ends the stream from another thread."""


@dataclass(frozen=True)
class WatchTimes:
    """Patience, in seconds: a stream without a message for ``silent_s`` is given up; it is opened
    again after ``retry_s``, doubled each time without a message up to ``retry_most_s``."""

    silent_s: float = 10.0
    retry_s: float = 0.2
    retry_most_s: float = 5.0


class WatchLoop(Generic[Message]):
    """``take`` is called with each message, on the loop's thread; what it raises ends the stream.
    ``open_stream`` begins anew: what was taken of an unfinished snapshot counts for nothing.
    ``broke`` is told of the errors that end a stream, on the loop's thread, too."""

    def __init__(
        self,
        name: str,
        open_stream: Callable[[], Stream[Message]],
        take: Callable[[Message], None],
        times: WatchTimes,
        broke: Callable[[PodiumError], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._times = times
        self._stream: Stream[Message] | None = None
        self._closing = threading.Event()
        # Only the thread holds these, while it runs: with their owner they would be a cycle, which
        # nothing frees once it is kept for good.
        self._thread = threading.Thread(
            target=self._run, args=(open_stream, take, broke), name=name, daemon=True
        )

    def start(self) -> None:
        """Starts watching."""
        self._thread.start()

    def close(self) -> None:
        """Stops watching; returns when the last message is taken."""
        self._closing.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def _run(
        self,
        open_stream: Callable[[], Stream[Message]],
        take: Callable[[Message], None],
        broke: Callable[[PodiumError], None],
    ) -> None:
        pause_s = self._times.retry_s
        while not self._closing.is_set():
            taken = False
            try:
                with closing(self._messages(open_stream())) as messages:
                    for message in messages:
                        take(message)
                        taken = True
                _logger.info("%s: the watch ended; opening it again", self._name)
            except PodiumError as error:
                if not self._closing.is_set():
                    _logger.warning("%s: the watch broke: %s", self._name, error)
                broke(error)
            except Exception:
                _logger.exception("%s: the watch failed", self._name)
            if taken:
                pause_s = self._times.retry_s
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, self._times.retry_most_s)

    def _messages(self, stream: Stream[Message]) -> Generator[Message, None, None]:
        self._stream = stream
        patience = Patience(self._name, self._times.silent_s, stream.cancel)
        try:
            if self._closing.is_set():
                # Closed while it was opened: nobody else cancels it.
                return
            for message in stream:
                if self._closing.is_set():
                    return
                patience.renew()
                yield message
        finally:
            self._stream = None
            patience.end()
            stream.cancel()


class Patience:
    """Calls ``over``, on a thread of its own, once it was not renewed for ``seconds``."""

    def __init__(self, name: str, seconds: float, over: Callable[[], None]) -> None:
        self._name = name
        self._seconds = seconds
        self._over = over
        self._renewed_s = time.monotonic()
        self._ended = threading.Event()
        threading.Thread(target=self._wait, name=f"{name}-patience", daemon=True).start()

    def renew(self) -> None:
        """Starts the time anew."""
        self._renewed_s = time.monotonic()

    def end(self) -> None:
        """Never calls any more."""
        self._ended.set()

    def _wait(self) -> None:
        while not self._ended.wait(self._renewed_s + self._seconds - time.monotonic()):
            if time.monotonic() - self._renewed_s >= self._seconds:
                _logger.warning("%s: the watch is silent for %g s", self._name, self._seconds)
                self._over()
                return
