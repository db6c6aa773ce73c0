"""How fast are events acknowledged and applied, and how long until they show?

    python -m benchmarks.ingest [--quick] [--seconds S] [--workspace DIR]

An event touches 4 keys and 12 window aggregates (``benchmarks.ingest_workload``). A process sends
requests of 500 events over one IngestStream to a real service with an embedded store, whose log is
on the workspace's disk. GetFeatures is called from another process, where nothing else runs
(``benchmarks.poll_client``), in the same way while idle and while events come. At a given rate the
sender, which stands for other machines, gives way to everything else on this one.

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
  while idle, before and after, from the same run. ``shown_ms``: from the sending of a request until
  GetFeatures shows it, an upper bound of ``lag_ms``: a sender that gives way may see an
  acknowledgement late. ``sent_per_s`` and ``sent_late_ms``: whether it kept the rate.
- ``empty_p99_ms``: of a grpc.aio server in another process that does nothing, called meanwhile
  from a process of its own; ``empty_ratio`` is over its own while idle. It is the machine's share:
  how much longer any call takes beside this load. ``waiting_share``: how much of each second the
  threads of the serving process were ready to run and waited for a core, added up.
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
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from benchmarks.polling import Polled, Poller, poller
from benchmarks.processes import await_serving, child, cpu_seconds, free_port, waiting_seconds
from podium.event.v1.event_pb2 import LoggedEvent
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.clock import system_clock_ms
from services.common.domain import Domain
from services.common.event_log import LogWriter
from services.feature.applying.apply import Applier
from services.feature.definitions import compile_views
from services.feature.store.embedded import EmbeddedStore

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


@dataclass(frozen=True)
class Sent:
    """What a stream saw. ``acks`` are (log position, ``time.perf_counter`` of the
    acknowledgement); ``sent_s``: when each request was handed to gRPC; ``late_s``: by how much one
    missed its time at most."""

    seconds: float
    late_s: float
    sent_s: list[float]
    acks: list[tuple[int, float]]

    @property
    def events(self) -> int:
        """How many were acknowledged."""
        return REQUEST_EVENTS * len(self.acks)


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
        some = list(requests(100, _now_ms(), "bare"))
    bare_per_s = measure_bare(some)
    fsync_per_s = measure_fsync(workspace / "bare-log", some)
    port = free_port()
    target = f"127.0.0.1:{port}"
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
    with child(["-m", "services.feature"], every_core, environment) as service:
        await_serving(service, port, 120)
        with (
            empty_server(every_core) as empty,
            poller("features", target, _wanted(domain).SerializeToString()) as reader,
            grpc.insecure_channel(target) as channel,
        ):
            steps = Steps(service, channel, target, domain, reader, empty, console)
            idle = steps.idle(lag_s / 4)
            burst = steps.burst(size)
            steady: dict[str, float] = {}
            for name, rate in (("", 0.8 * burst["applied_per_s"]), ("floor_", 0.8 * FLOOR_PER_S)):
                found = steps.steady(rate, lag_s, name or "top_")
                steady |= {f"{name}{key}": value for key, value in found.items()}
            idle_after = steps.idle(lag_s / 4)
    idle_ms = (idle[0].percentile_ms(0.99) + idle_after[0].percentile_ms(0.99)) / 2
    idle_empty_ms = (idle[1].percentile_ms(0.99) + idle_after[1].percentile_ms(0.99)) / 2
    for name in ("", "floor_"):
        steady[f"{name}read_ratio"] = round(steady[f"{name}read_p99_ms"] / idle_ms, 2)
        steady[f"{name}empty_ratio"] = round(steady[f"{name}empty_p99_ms"] / idle_empty_ms, 2)
    return {
        "benchmark": "ingest",
        **burst,
        "bare_per_s": round(bare_per_s),
        "acked_ratio": round(burst["acked_per_s"] / bare_per_s, 3),
        "fsync_per_s": round(fsync_per_s),
        "idle_read_p50_ms": round(idle[0].percentile_ms(0.5), 2),
        "idle_read_p99_ms": round(idle[0].percentile_ms(0.99), 2),
        "idle_after_read_p99_ms": round(idle_after[0].percentile_ms(0.99), 2),
        "idle_empty_p99_ms": round(idle_empty_ms, 2),
        **steady,
        **measure_users(workspace, size, console),
    }


@dataclass(frozen=True)
class Steps:
    """What is done to one service, in turn. ``reader`` and ``empty`` call it and an empty server
    from processes of their own."""

    service: subprocess.Popen[str]
    channel: grpc.Channel
    target: str
    domain: Domain
    reader: Poller
    empty: Poller
    console: Console

    def idle(self, seconds: float) -> tuple[Polled, Polled]:
        """Calls of the service and of the empty server while nothing else comes."""
        with (
            self.console.status("reads while idle"),
            self.reader.polling() as reads,
            self.empty.polling() as empties,
        ):
            time.sleep(seconds)
        return reads, empties

    def burst(self, size: Size) -> dict[str, Any]:
        """How fast events are taken, applied meanwhile, and applied afterwards."""
        limits = (size.burst_requests, 0, size.burst_s)
        with self.console.status("burst"), sender(self.target, "burst", *limits) as send:
            before_s, before = cpu_seconds(self.service), self._position()
            sent = send()
            applied_per_s = (self._position() - before) / sent.seconds
            serving_s = cpu_seconds(self.service) - before_s
        with self.console.status("applying what is left"):
            started_s, first, end = time.perf_counter(), self._position(), sent.acks[-1][0]
            self._await_position(end)
            alone_s = time.perf_counter() - started_s
        if end - first < REQUEST_EVENTS:
            raise RuntimeError("nothing was left to apply: the burst was too short")
        return {
            "acked_per_s": round(sent.events / sent.seconds),
            "burst_events": sent.events,
            "burst_s": round(sent.seconds, 2),
            "serving_cpu_us": round(1e6 * serving_s / sent.events, 1),
            "applied_per_s": round(applied_per_s),
            "applied_alone_per_s": round((end - first) / alone_s),
        }

    def steady(self, rate: float, seconds: float, prefix: str) -> dict[str, float]:
        """Lags and latencies while ``rate`` events a second come, whose ids begin with
        ``prefix``."""
        course_view = compile_views(self.domain)["course"]
        replica = Replica(self.channel, course_view, int(seconds * 10), f"{prefix}offered-")
        limits = (int(rate * seconds / REQUEST_EVENTS), rate, 0)
        with (
            self.console.status(f"{rate:,.0f} events a second for {seconds:.0f} s"),
            sender(self.target, prefix, *limits) as send,
        ):
            waited_s, started_s = waiting_seconds(self.service), time.perf_counter()
            with self.reader.polling() as reads, self.empty.polling() as empties:
                replica.start()
                sent = send()
                self._await_position(sent.acks[-1][0])
                # The poller sees it, too.
                time.sleep(0.5)
            waited_s = waiting_seconds(self.service) - waited_s
            share = waited_s / (time.perf_counter() - started_s)
            replica_lags_ms = replica.lags_ms()
        pairs = zip(sent.acks, sent.sent_s, strict=True)
        lags_ms = [1_000 * max(0.0, reads.seen_s(at) - acked_s) for at, acked_s in sent.acks]
        shown_ms = [1_000 * (reads.seen_s(at) - sent_s) for (at, _), sent_s in pairs]
        return {
            "rate_per_s": round(rate),
            "sent_per_s": round(sent.events / sent.seconds),
            "sent_late_ms": round(1_000 * sent.late_s, 1),
            "lag_ms": round(_percentile(lags_ms, 99), 1),
            "lag_p50_ms": round(_percentile(lags_ms, 50), 1),
            "shown_ms": round(_percentile(shown_ms, 99), 1),
            "read_p99_ms": round(reads.percentile_ms(0.99), 2),
            "read_p50_ms": round(reads.percentile_ms(0.5), 2),
            "empty_p99_ms": round(empties.percentile_ms(0.99), 2),
            "replica_lag_ms": round(_percentile(replica_lags_ms, 99), 1),
            "replica_lag_p50_ms": round(_percentile(replica_lags_ms, 50), 1),
            "waiting_share": round(share, 3),
        }

    def _await_position(self, end: int) -> None:
        while self._position() < end:
            time.sleep(0.02)

    def _position(self) -> int:
        stub = feature_pb2_grpc.FeatureServiceStub(self.channel)
        return stub.GetFeatures(_wanted(self.domain), timeout=30).log_position


@contextmanager
def sender(
    target: str, prefix: str, count: int, events_per_s: float, limit_s: float
) -> Iterator[Callable[[], Sent]]:
    """A process of ``benchmarks.ingest_sender``, ready to send; calling sends and waits."""
    numbers = [str(number) for number in (count, events_per_s, limit_s)]
    arguments = ["-m", "benchmarks.ingest_sender", target, prefix, *numbers]
    with child(arguments, os.sched_getaffinity(0), {}, is_fed=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the process that sends ended")

        def send() -> Sent:
            print("send", file=process.stdin, flush=True)
            assert process.stdout is not None
            return Sent(**json.loads(process.stdout.readline()))

        yield send


def _wanted(domain: Domain) -> feature_pb2.GetFeaturesRequest:
    """All features of one user."""
    view = compile_views(domain)["user"]
    return feature_pb2.GetFeaturesRequest(
        entity_type="user", ids=["user-1"], view_name=view.name, view_hash=view.hash
    )


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
