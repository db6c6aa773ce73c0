"""gRPC's C core without the Python server over it. The one home of ``grpc._cython.cygrpc``.

``grpc.server`` hands every call to a thread of a pool, ``grpc.aio`` takes one call a turn of its
loop; here one thread polls and answers, and what it does between two polls is its own affair.
``grpc`` itself is built on these classes; they are not among what it promises to keep.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no stubs

_NO_FLAGS = 0
_LONGEST_S = 1e9
"""A caller without a deadline states one centuries away."""

_ON_ITS_WAY_S = 0.05
"""A deadline passes at the caller first: by what the call was on its way."""

_AT_ONCE = 256
"""Events taken in a row at most: the work comes to its turn however many callers there are."""

OK: int = cygrpc.StatusCode.ok
INVALID_ARGUMENT: int = cygrpc.StatusCode.invalid_argument
NOT_FOUND: int = cygrpc.StatusCode.not_found
UNIMPLEMENTED: int = cygrpc.StatusCode.unimplemented
ONE_REQUEST = "the method takes exactly one request"

Metadata = Sequence[tuple[str, str | bytes]]
Received = Callable[["IncomingCall", bytes | None], None]


class IncomingCall:
    """One call of a client. ``deadline_s`` is on the monotonic clock, None without one.

    Belongs to the thread that polls, but for ``send`` and ``end``.
    """

    __slots__ = (
        "_call",
        "_closed_already",
        "_due",
        "_gone",
        "_lock",
        "_next",
        "_on_end",
        "_sending",
        "_started",
        "_status",
        "_unsent",
        "deadline_s",
        "ended",
        "metadata",
        "method",
    )

    def __init__(self, event: Any) -> None:
        self._call = event.call
        self.method: str = event.call_details.method.decode(errors="replace")
        self.metadata: Metadata = event.invocation_metadata
        left_s = event.call_details.deadline - time.time()
        self.deadline_s: float | None = None if left_s > _LONGEST_S else time.monotonic() + left_s
        self.ended = False
        """Whether its status is on the way."""
        self._gone = False
        self._closed_already = False
        self._lock = threading.Lock()
        self._started = False
        self._due = 1
        self._on_end: Callable[[], None] | None = None
        # Of a stream: messages wait for one another, and the status for all of them.
        self._unsent: deque[bytes] = deque()
        self._sending = False
        self._next: Received | None = None
        self._status: tuple[int, str, Metadata] | None = None
        self._call.start_server_batch(
            (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), _Tag(self, self._closed)
        )

    def is_active(self) -> bool:
        """Whether its caller still waits."""
        return not self._gone

    def has_left(self) -> bool:
        """Whether its caller ended it before the deadline it had set."""
        if not self._gone or self.deadline_s is None:
            return self._gone
        return time.monotonic() < self.deadline_s - _ON_ITS_WAY_S

    def identities(self) -> Sequence[bytes]:
        """Who the caller is by its certificate; empty without one."""
        found: Sequence[bytes] | None = cygrpc.peer_identities(self._call)
        return found or ()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Calls back when the caller has its status, or is gone."""
        if self._closed_already:
            callback()
        else:
            self._on_end = callback

    def receive(self, received: Received) -> None:
        """Hands over the next message when it is there; None where there is none."""
        with self._lock:
            self._due += 1
        self._call.start_server_batch(
            (cygrpc.ReceiveMessageOperation(_NO_FLAGS),),
            _Tag(self, lambda event: received(self, event.batch_operations[0].message())),
        )

    def receive_when_sent(self, received: Received) -> None:
        """As ``receive``, once the messages sent so far are on their way: who does not read them
        is not heard further."""
        with self._lock:
            if self._sending or self._unsent:
                self._next = received
                return
        self.receive(received)

    def answer(self, message: bytes, trailers: Metadata) -> None:
        """Ends a call that has one answer, with OK."""
        with self._lock:
            if self.ended or self._gone:
                return
            self.ended = True
            self._start(
                cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),
                cygrpc.SendMessageOperation(message, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(trailers, OK, b"", _NO_FLAGS),
            )

    def send(self, message: bytes) -> None:
        """Sends a message of a stream, after those before it."""
        with self._lock:
            self._unsent.append(message)
            self._send_on()

    def end(self, code: int, details: str, trailers: Metadata) -> None:
        """Ends a call with a status, after the messages of its stream; the first status counts."""
        with self._lock:
            if self._status is None:
                self._status = (code, details, trailers)
                self._send_on()

    def _send_on(self) -> None:
        if self._sending or self.ended or self._gone:
            return
        first = () if self._started else (cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),)
        if self._unsent:
            self._sending = self._started = True
            self._start(*first, cygrpc.SendMessageOperation(self._unsent.popleft(), _NO_FLAGS))
        elif self._status is not None:
            code, details, trailers = self._status
            self.ended = self._started = True
            self._start(
                *first,
                cygrpc.SendStatusFromServerOperation(trailers, code, details.encode(), _NO_FLAGS),
            )

    def _start(self, *operations: Any) -> None:
        self._due += 1
        self._call.start_server_batch(operations, _Tag(self, self._sent))

    def _sent(self, _event: Any) -> None:
        with self._lock:
            self._sending = False
            self._send_on()
            received = None
            if not self._sending:
                received, self._next = self._next, None
        if received is not None:
            self.receive(received)

    def _closed(self, event: Any) -> None:
        if event.batch_operations[0].cancelled():
            self._gone = True
        self._closed_already = True
        callback, self._on_end = self._on_end, None
        if callback is not None:
            callback()

    def done(self) -> bool:
        """Something of the call that was under way is over; whether that was the last."""
        with self._lock:
            self._due -= 1
            return not self._due


class _Tag:
    """What is to be done when the core has done its part of a call."""

    __slots__ = ("call", "then")

    def __init__(self, call: IncomingCall, then: Callable[[Any], None]) -> None:
        self.call = call
        self.then = then


class Core:
    """The port, and what happens on it. ``poll`` belongs to one thread; ``arrived`` and what calls
    were asked to call back run within it."""

    def __init__(
        self,
        options: Sequence[tuple[str, int]],
        arrived: Callable[[IncomingCall], None],
        failed: Callable[[BaseException], None],
        *,
        waiting: int = 64,
    ) -> None:
        """``waiting``: calls that the core may take up between two polls."""
        self._arrived = arrived
        self._failed = failed
        self._waiting = waiting
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._open = 0
        self._requested = 0
        self._closing = self._shut = False
        self._lock = threading.Lock()
        self.closed = False

    def bind(self, target: str) -> int:
        """The port it listens on; 0 where it can't."""
        try:
            port: int = self._server.add_http2_port(target.encode())
        except RuntimeError:
            return 0
        return port

    def start(self) -> None:
        """Takes calls from now on."""
        self._server.start()
        for _ in range(self._waiting):
            self._accept()

    def poll(self, longest_s: float) -> None:
        """Waits for something to happen, and brings what has happened before those it is for."""
        until_s = time.time() + longest_s if longest_s > 0 else 0
        for _ in range(_AT_ONCE):
            event = self._queue.poll(until_s)
            until_s = 0
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                return
            try:
                self._happened(event)
            except Exception as error:
                self._failed(error)
            self._end_if_over()
            if self.closed:
                return
            # A call is to go before the next poll: its event would hold it.
            event = None

    def close(self) -> None:
        """Takes no more calls; ``closed`` is set once those that are open have ended. Thread-safe,
        once."""
        with self._lock:
            self._closing = True
            self._server.shutdown(self._queue, self._server)

    def cancel(self) -> None:
        """Ends the calls that are still open. After ``close``; thread-safe."""
        with self._lock:
            if not self.closed:
                self._server.cancel_all_calls()

    def _accept(self) -> None:
        self._requested += 1
        self._server.request_call(self._queue, self._queue, self)

    def _happened(self, event: Any) -> None:
        tag = event.tag
        if tag is self:
            self._requested -= 1
            if event.success:
                self._came(event)
        elif tag is self._server:
            self._shut = True
        else:
            try:
                tag.then(event)
            finally:
                self._open -= tag.call.done()

    def _end_if_over(self) -> None:
        # The core still has a word on every request: before the last there is no end.
        if self._shut and not self._requested and not self._open:
            # Whoever closes may still be within the core.
            with self._lock:
                self._server.destroy()
                self.closed = True

    def _came(self, event: Any) -> None:
        with self._lock:
            if not self._closing:
                self._accept()
        call = IncomingCall(event)
        self._open += 1
        self._arrived(call)
