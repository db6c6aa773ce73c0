"""Logs applied to a Redis that may be cut off at any command, and gone on with after it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, Unavailable
from services.common.event_log import LogWriter
from services.feature.applying.apply import Applier
from services.feature.definitions import catalogue_entities
from services.feature.store.redis import RedisStore
from services.feature.store.redis_loop import LoopServer
from services.feature.store.redis_servers import Command, Servers
from tests.support.feature_streams import START_MS

examples = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
cuts = st.dictionaries(
    st.integers(1, 40),
    st.sampled_from(["before", "first half", "second half", "after"]),
    max_size=8,
)
sizes = st.lists(st.integers(1, 30), min_size=1, max_size=4)


def fixed_clock() -> int:
    return START_MS


@dataclass
class CutOff:
    """Servers that do not answer some calls: before, in the middle of or after executing them."""

    servers: Servers
    cuts: dict[int, str] = field(default_factory=dict)
    before_call: Callable[[int], None] = lambda _: None
    calls: int = 0
    single = True

    def run(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        self.calls += 1
        self.before_call(self.calls)
        cut = self.cuts.pop(self.calls, None)
        if cut is None:
            return self.servers.run(commands, together=together)
        if cut == "after":
            self.servers.run(commands)
        elif cut == "first half":
            self.servers.run(commands[: len(commands) // 2])
        elif cut == "second half":
            self.servers.run(commands[len(commands) // 2 :])
        raise Unavailable("cut off", reason="STORE_UNAVAILABLE")

    def keys(self, pattern: bytes) -> Iterator[list[bytes]]:
        return self.servers.keys(pattern)

    def unlink(self, keys: Sequence[bytes]) -> None:
        self.servers.unlink(keys)

    def close(self) -> None:
        self.servers.close()


def redis_store(
    servers: Servers,
    name: str,
    domain: Domain,
    log_id: str = "a" * 16,
    pause: Callable[[float], None] = time.sleep,
    on_loop: LoopServer | None = None,
    monotonic_s: Callable[[], float] | None = None,
) -> RedisStore:
    """A store to which every look at its clock is a second later, without another clock."""
    return RedisStore(
        servers,
        name=name,
        log_id=log_id,
        listed=catalogue_entities(domain),
        pause=pause,
        on_loop=on_loop,
        monotonic_s=monotonic_s or itertools.count().__next__,
    )


def write_log(directory: Path, log: Sequence[LoggedEvent]) -> None:
    with LogWriter(directory) as writer:
        writer.append([record.SerializeToString() for record in log])


@dataclass
class Follower:
    """Applies a log in batches, going on after whatever happens."""

    applier: Applier
    log: Sequence[LoggedEvent]
    log_dir: Path
    position: int | None = None

    @property
    def is_done(self) -> bool:
        return self.position is not None and self.position >= len(self.log)

    def step(self, size: int) -> None:
        try:
            if self.position is None:
                self.position = self.applier.prepare(self.log_dir)
            batch = self.log[self.position : self.position + size]
            if batch:
                self.applier.apply([(r.arrival, r.SerializeToString()) for r in batch])
                self.position += len(batch)
        except Unavailable:
            self.position = None
        except FailedPrecondition as error:
            if error.reason != "STORE_MOVED":
                raise
            self.position = None


def with_one_id_each(log: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    for number, record in enumerate(log):
        record.event.event_id = f"{record.event.event_id}-{number}"
    return list(log)
