"""How fast are events acknowledged and applied, and how long until they show?

    python -m benchmarks.ingest [--quick] [--seconds S] [--workspace DIR]

An event touches 4 keys and 12 window aggregates (``benchmarks.ingest_workload``). One client
process sends requests of 500 events over one IngestStream to a real service with an embedded store,
whose log is on the workspace's disk.

- ``acked_per_s``: acknowledged in a burst; each is fsynced in the log. ``serving_cpu_us``: time on
  a core that the serving process, which also answers reads, takes for one. ``bare_per_s`` is a bare
  loop in this process, before: parse the requests, serialise each event. ``fsync_per_s``: the same
  batches appended to a log and synced, one after another, and nothing else.
- ``applied_per_s``: how fast one process applies while the other takes the burst;
  ``applied_alone_per_s``: how fast it applies the rest of the burst, once nothing more comes.
- ``lag_ms``: from the acknowledgement until GetFeatures answers from a position that includes the
  event, at 80 % of ``applied_per_s``, 99th percentile; with the latencies of those GetFeatures (1
  user), and of the same calls while idle. ``replica_lag_ms``: meanwhile, from the acknowledgement
  of a withdrawal until a watching replica has it. ``floor_``: the same at 80 % of the 5,000 events
  a second that one core is to apply at least. ``read_ratio``: the p99 of GetFeatures over the one
  while idle, before and after, from the same run.
- ``empty_p99_ms``: of a grpc.aio server in another process that does nothing, called from the same
  client meanwhile; ``empty_ratio`` is over its own while idle. It is the machine's share: how much
  longer any call takes beside this load. ``waiting_share``: how much of each second the threads of
  the serving process were ready to run and waited for a core, added up.
- ``bytes_per_user``: state of a user with 8 base aggregates x 6 windows after 50 events in 30 days;
  ``file_bytes_per_user`` is the store's file over all users.
- ``read_us``: processor time of a row by the number of users (``benchmarks.ingest_reads``).

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.ingest_floor import empty_server
from benchmarks.ingest_freshness import Replica
from benchmarks.ingest_reads import USERS, measure_reads
from benchmarks.ingest_workload import (
    REQUEST_EVENTS,
    requests,
    wide_events,
    write_domain,
    write_wide_domain,
)
from benchmarks.processes import await_serving, child, cpu_seconds, free_port, waiting_seconds
from podium.event.v1.event_pb2 import LoggedEvent
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.clock import system_clock_ms
from services.common.domain import Domain
from services.common.event_log import LogWriter
from services.feature.applying.apply import Applier
from services.feature.definitions import compile_views
from services.feature.store.embedded import EmbeddedStore

STREAM_METHOD = "/podium.feature.v1.FeatureService/IngestStream"
EVENTS_PER_USER = 50
FLOOR_PER_S = 5_000
"""Events a second that one core is to apply at least."""


@dataclass(frozen=True)
class Size:
    """How much and how long."""

    burst_s: float
    burst_requests: int
    lag_s: float
    users: int
    read_users: tuple[int, ...]


FULL = Size(10.0, 800, 60.0, 2_000, USERS)
QUICK = Size(1.0, 40, 3.0, 100, (1_000, 2_000))


@dataclass
class Sent:
    """What a stream saw. ``acks`` are (log position, time of the acknowledgement)."""

    events: int = 0
    seconds: float = 0.0
    acks: list[tuple[int, float]] = field(default_factory=list)


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small smoke test")
    parser.add_argument("--seconds", type=float, help="length of the measurement of the lag")
    parser.add_argument("--workspace", type=Path, help="a directory on the disk to measure")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    console = Console()
    workspace = Path(tempfile.mkdtemp(prefix="podium-ingest-", dir=arguments.workspace))
    try:
        report = measure(workspace, size, arguments.seconds or size.lag_s, console)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    table = Table("", "")
    for key, value in report.items():
        table.add_row(key, f"{value:,}" if isinstance(value, int | float) else str(value))
    console.print(table)
    print(json.dumps(report))


def measure(workspace: Path, size: Size, lag_s: float, console: Console) -> dict[str, Any]:
    """Every part; the report of the last line."""
    domain = write_domain(workspace / "domain.yaml")
    with console.status("preparing events"):
        burst = list(requests(size.burst_requests, _now_ms(), "burst"))
    bare_per_s = measure_bare(burst)
    fsync_per_s = measure_fsync(workspace / "bare-log", burst[:100])
    port = free_port()
    environment = {
        "PODIUM_LOG_LEVEL": "WARNING",
        "PODIUM_DOMAIN_FILE": str(workspace / "domain.yaml"),
        "PODIUM_FEATURE_PORT": str(port),
        "PODIUM_FEATURE_METRICS_PORT": "0",
        "PODIUM_LOG_DIR": str(workspace / "log"),
        "PODIUM_STORE_DIR": str(workspace / "store"),
        "PODIUM_MAX_UNAPPLIED_EVENTS": "100000000",
    }
    every_core = os.sched_getaffinity(0)
    with (
        child(["-m", "services.feature"], every_core, environment) as service,
        empty_server(every_core) as empty,
    ):
        await_serving(service, port, 120)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            reader = Reader(channel, domain)
            with console.status("reads while idle"), empty.polling() as idle_empty:
                idle = reader.poll_for(min(lag_s, 5.0))
            with console.status("burst"):
                before_s, before = cpu_seconds(service), reader.position()
                sent = send(channel, iter(burst), size.burst_s)
                applied_per_s = (reader.position() - before) / sent.seconds
                serving_s = cpu_seconds(service) - before_s
            with console.status("applying what is left"):
                applied_alone_per_s = measure_applying(reader, sent.acks[-1][0])
            steady: dict[str, float] = {}
            for name, rate in (("", 0.8 * applied_per_s), ("floor_", 0.8 * FLOOR_PER_S)):
                with console.status(f"{rate:,.0f} events a second for {lag_s:.0f} s"):
                    course_view = compile_views(domain)["course"]
                    replica = Replica(channel, course_view, int(lag_s * 10), f"{name}offered-")
                    waited_s, started_s = waiting_seconds(service), time.perf_counter()
                    with empty.polling() as empty_ms:
                        found = measure_steady(
                            channel, reader, replica, rate, lag_s, name or "top_"
                        )
                    waited_s = waiting_seconds(service) - waited_s
                    found["waiting_share"] = round(waited_s / (time.perf_counter() - started_s), 3)
                    found["empty_p99_ms"] = round(_percentile(empty_ms, 99), 2)
                    steady |= {f"{name}{key}": value for key, value in found.items()}
            with console.status("reads while idle"), empty.polling() as idle_empty_after:
                idle_after = reader.poll_for(min(lag_s, 5.0))
    acked_per_s = sent.events / sent.seconds
    idle_ms = (_percentile(idle, 99) + _percentile(idle_after, 99)) / 2
    idle_empty_ms = (_percentile(idle_empty, 99) + _percentile(idle_empty_after, 99)) / 2
    for name in ("", "floor_"):
        steady[f"{name}read_ratio"] = round(steady[f"{name}read_p99_ms"] / idle_ms, 2)
        steady[f"{name}empty_ratio"] = round(steady[f"{name}empty_p99_ms"] / idle_empty_ms, 2)
    return {
        "benchmark": "ingest",
        "acked_per_s": round(acked_per_s),
        "burst_events": sent.events,
        "burst_s": round(sent.seconds, 2),
        "bare_per_s": round(bare_per_s),
        "acked_ratio": round(acked_per_s / bare_per_s, 3),
        "fsync_per_s": round(fsync_per_s),
        "serving_cpu_us": round(1e6 * serving_s / sent.events, 1),
        "applied_per_s": round(applied_per_s),
        "applied_alone_per_s": round(applied_alone_per_s),
        "idle_read_p99_ms": round(_percentile(idle, 99), 2),
        "idle_read_p50_ms": round(_percentile(idle, 50), 2),
        "idle_after_read_p99_ms": round(_percentile(idle_after, 99), 2),
        "idle_empty_p99_ms": round(idle_empty_ms, 2),
        **steady,
        **measure_users(workspace, size, console),
    }


def measure_bare(burst: list[bytes]) -> float:
    """Events a second that one core parses and serialises, and does nothing else with."""
    started_s = time.perf_counter()
    for data in burst:
        for event in feature_pb2.IngestStreamRequest.FromString(data).events:
            event.SerializeToString()
    return len(burst) * REQUEST_EVENTS / (time.perf_counter() - started_s)


def measure_fsync(directory: Path, burst: list[bytes]) -> float:
    """Events a second appended to a log and synced, a request at a time."""
    batches = [
        [e.SerializeToString() for e in feature_pb2.IngestStreamRequest.FromString(data).events]
        for data in burst
    ]
    with LogWriter(directory) as log:
        started_s = time.perf_counter()
        for batch in batches:
            log.append(batch)
            log.sync()
        return len(burst) * REQUEST_EVENTS / (time.perf_counter() - started_s)


def send(channel: grpc.Channel, burst: Iterator[bytes], limit_s: float) -> Sent:
    """Sends requests as fast as they are taken, for at most ``limit_s``."""
    started_s = time.perf_counter()
    end_s = started_s + limit_s

    def in_time() -> Iterator[bytes]:
        for data in burst:
            if time.perf_counter() >= end_s:
                return
            yield data

    sent = Sent()
    for data in _stream(channel, in_time()):
        _take(sent, data)
    sent.seconds = time.perf_counter() - started_s
    return sent


def _stream(channel: grpc.Channel, messages: Iterator[bytes]) -> Iterator[bytes]:
    call: Callable[..., Iterator[bytes]] = channel.stream_stream(STREAM_METHOD)
    return call(messages, timeout=600)


def _take(sent: Sent, data: bytes) -> None:
    answer = feature_pb2.IngestStreamResponse.FromString(data)
    if answer.accepted != REQUEST_EVENTS:
        raise RuntimeError(f"not every event was accepted: {answer}")
    sent.events += answer.accepted
    sent.acks.append((answer.log_position, time.perf_counter()))


def measure_applying(reader: Reader, end: int) -> float:
    """Events a second applied from now on up to a log position."""
    started_s, first = time.perf_counter(), reader.position()
    while (position := reader.position()) < end:
        time.sleep(0.02)
    seconds = time.perf_counter() - started_s
    if position - first < REQUEST_EVENTS:
        raise RuntimeError("nothing was left to apply: the burst was too short")
    return (position - first) / seconds


def measure_steady(
    channel: grpc.Channel,
    reader: Reader,
    replica: Replica,
    rate: float,
    seconds: float,
    prefix: str,
) -> dict[str, float]:
    """Lags and latencies while ``rate`` events a second come, whose ids begin with ``prefix``."""
    steady = list(requests(int(rate * seconds / REQUEST_EVENTS), _now_ms(), prefix))
    reader.take_latencies()
    replica.start()
    lags_ms, reads_ms = measure_lag(channel, reader, steady, rate)
    replica_lags_ms = replica.lags_ms()
    return {
        "rate_per_s": round(rate),
        "lag_ms": round(_percentile(lags_ms, 99), 1),
        "lag_p50_ms": round(_percentile(lags_ms, 50), 1),
        "read_p99_ms": round(_percentile(reads_ms, 99), 2),
        "read_p50_ms": round(_percentile(reads_ms, 50), 2),
        "replica_lag_ms": round(_percentile(replica_lags_ms, 99), 1),
        "replica_lag_p50_ms": round(_percentile(replica_lags_ms, 50), 1),
    }


def measure_lag(
    channel: grpc.Channel, reader: Reader, steady: list[bytes], rate: float
) -> tuple[list[float], list[float]]:
    """(milliseconds from acknowledgement to visibility of each request, latencies of the reads)
    while ``steady`` is sent at ``rate`` events a second."""
    waiting: deque[tuple[int, float]] = deque()
    sent = Sent()
    done = threading.Event()

    def paced() -> Iterator[bytes]:
        started_s = time.perf_counter()
        for number, data in enumerate(steady):
            ahead_s = started_s + number * REQUEST_EVENTS / rate - time.perf_counter()
            if ahead_s > 0:
                time.sleep(ahead_s)
            yield data

    def run() -> None:
        for data in _stream(channel, paced()):
            _take(sent, data)
            waiting.append(sent.acks[-1])
        done.set()

    sending = threading.Thread(target=run)
    sending.start()
    lags_ms: list[float] = []
    while not (done.is_set() and not waiting):
        position = reader.position()
        seen_s = time.perf_counter()
        while waiting and waiting[0][0] <= position:
            lags_ms.append(1_000 * (seen_s - waiting.popleft()[1]))
        time.sleep(0.002)
    sending.join()
    return lags_ms, reader.take_latencies()


class Reader:
    """Asks for the features of one user, and keeps how long it took."""

    def __init__(self, channel: grpc.Channel, domain: Domain) -> None:
        view = compile_views(domain)["user"]
        self._get = feature_pb2_grpc.FeatureServiceStub(channel).GetFeatures
        self._request = feature_pb2.GetFeaturesRequest(
            entity_type="user", ids=["user-1"], view_name=view.name, view_hash=view.hash
        )
        self._latencies_ms: list[float] = []

    def position(self) -> int:
        """Log position that the answer was computed from."""
        started_s = time.perf_counter()
        position = self._get(self._request, timeout=30).log_position
        self._latencies_ms.append(1_000 * (time.perf_counter() - started_s))
        return position

    def poll_for(self, seconds: float) -> list[float]:
        """Latencies in milliseconds of calls, one every 2 ms."""
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            self.position()
            time.sleep(0.002)
        return self.take_latencies()

    def take_latencies(self) -> list[float]:
        """Latencies since the last call of this."""
        taken, self._latencies_ms = self._latencies_ms, []
        return taken


def measure_users(workspace: Path, size: Size, console: Console) -> dict[str, Any]:
    """Bytes of a user's state and of the store's file; what reading a row costs."""
    users = size.users
    domain = write_wide_domain(workspace / "wide.yaml")
    store = EmbeddedStore(workspace / "wide")
    applier = Applier(domain, store, system_clock_ms)
    applier.prepare(workspace / "no-log")
    batch: list[tuple[int, bytes]] = []
    total = users * EVENTS_PER_USER
    for arrival, (event, time_ms) in enumerate(wide_events(users, EVENTS_PER_USER, _now_ms())):
        logged = LoggedEvent(event=event, arrival=arrival)
        logged.arrival_time.FromMilliseconds(time_ms)
        batch.append((arrival, logged.SerializeToString()))
        if len(batch) == 10_000 or arrival == total - 1:
            applier.apply(batch)
            batch = []
    with store.read() as view:
        states = list(view.states("user"))
    sizes = [len(identity) + len(state) for identity, state in states]
    store.close()
    file_bytes = (workspace / "wide" / "data.mdb").stat().st_blocks * 512
    with console.status("reading from stores of more and more users"):
        read_us = measure_reads(workspace, domain, [s for _, s in states[:500]], size.read_users)
    return {
        "bytes_per_user": round(sum(sizes) / len(sizes)),
        "file_bytes_per_user": round(file_bytes / len(sizes)),
        "read_us": read_us,
    }


def _percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else 0.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
