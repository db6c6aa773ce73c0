"""A spool, a log that takes what it ships, and a shipper between them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.errors import Unavailable
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.spool import Spool
from services.common.spool_shipping import BATCH_BYTES, SpoolMetrics, SpoolShipper

NAMES = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
BOTH_KEYS = Pseudonymiser.from_text(
    f"{DEVELOPMENT_KEYS},2:{base64.b64encode(b'second'.ljust(64)).decode()}"
)


def spooled_event(number: int, padding: int = 0) -> event_pb2.Event:
    actor = common_pb2.Actor(user_id=f"user-{number}", device_id=f"device-{number}")
    return event_pb2.Event(event_id=f"e{number}{'.' * padding}", type="exposure", actor=actor)


class Sink:
    """Takes what is shipped; fails as told."""

    def __init__(self) -> None:
        self.taken: dict[int, event_pb2.Event] = {}
        self.calls = 0
        self.fail: Callable[[], None] = lambda: None

    def send(self, events: list[event_pb2.Event], first_sequence: int) -> None:
        self.calls += 1
        self.fail()
        assert sum(event.ByteSize() for event in events) <= BATCH_BYTES
        self.taken.update(enumerate(events, first_sequence))


def open_spool(path: Path, **options: int) -> Spool:
    return Spool(path, "ranker", NAMES, **options)


def append_under(path: Path, names: Pseudonymiser, *events: event_pb2.Event) -> None:
    """Spools events in a process of their own, with other keys."""
    spool = Spool(path, "ranker", names)
    spool.append(events)
    spool.close()


class Shipping:
    """A shipper at work, and its metrics."""

    def __init__(self, spool: Spool, sink: Sink) -> None:
        self.registry = CollectorRegistry()
        self.shipper = SpoolShipper(spool, sink.send, SpoolMetrics(self.registry))
        self.shipper.start()

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(f"podium_spool_{name}") or 0.0


def no_log() -> None:
    """As ``Sink.fail``: the log is away."""
    raise Unavailable("no log")
