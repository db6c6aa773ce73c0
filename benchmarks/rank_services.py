"""The services that ``benchmarks.rank`` and its kin measure, and how one surface is measured.

A workspace is a directory with ``domain.yaml``, ``log`` and ``bundles`` of
``benchmarks.rank_workload``. The ranker has one core; feature service and load share another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.load import Load, Outcome
from benchmarks.processes import ROOT, await_serving, child, cores, cpu_seconds, free_port
from benchmarks.rank_workload import (
    INVERTED_LISTS,
    SLATE,
    IndexSetting,
    Workload,
    draw,
    write_bundle,
    write_domain,
    write_log,
)
from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.domain import Domain

RANK_METHOD = "/podium.ranker.v1.RankerService/Rank"
CONCURRENCIES = (8, 16, 32)


@dataclass(frozen=True)
class Variant:
    """What one surface showed: the best rate, and latencies at half of it."""

    best: Outcome
    concurrency: int
    cpu_share: float
    half: Outcome


@dataclass(frozen=True)
class RankerUnderTest:
    """A ranker that serves, how long it took from its start until it did, and where its feature
    service is."""

    process: subprocess.Popen[str]
    target: str
    ready_s: float
    feature_target: str


@contextmanager
def workspace_at(kept: Path | None) -> Iterator[Path]:
    """``kept``, made if absent, or a temporary directory."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(
        prefix="podium-rank-", ignore_cleanup_errors=True
    ) as directory:
        yield Path(directory)


def prepare(
    workspace: Path, items: int, users: int, index: IndexSetting = INVERTED_LISTS
) -> tuple[Workload, Domain]:
    """Draws the workload and writes what the workspace does not have yet."""
    workload = draw(items, users)
    domain = write_domain(workspace / "domain.yaml", ROOT / "config" / "live_courses.yaml")
    if not (workspace / "bundles" / "current").exists():
        write_log(workspace / "log", workload, domain, time.time_ns() // 1_000_000)
        write_bundle(workspace / "bundles", domain, workload, index)
    return workload, domain


def environment_of(workspace: Path, ports: tuple[int, int]) -> dict[str, str]:
    """Settings of a feature service and a ranker, which listen on ``ports``, over a workspace."""
    return {
        "PODIUM_LOG_LEVEL": "WARNING",
        "PODIUM_DOMAIN_FILE": str(workspace / "domain.yaml"),
        "PODIUM_FEATURE_PORT": str(ports[0]),
        "PODIUM_FEATURE_METRICS_PORT": "0",
        "PODIUM_RANKER_PORT": str(ports[1]),
        "PODIUM_RANKER_METRICS_PORT": "0",
        "PODIUM_FEATURE_TARGET": f"127.0.0.1:{ports[0]}",
        "PODIUM_LOG_DIR": str(workspace / "log"),
        "PODIUM_STORE_DIR": str(workspace / "store"),
        "PODIUM_BUNDLES_DIR": str(workspace / "bundles"),
        "PODIUM_SPOOL_DIR": str(workspace / "spool"),
        "PODIUM_CAPTURE_DIR": str(workspace / "captures"),
        "PODIUM_REPLICA_DIR": str(workspace / "replica"),
        "PODIUM_FEATURE_TIMEOUT_MS": "2000",
        # A ranker under more load than it holds would rank fewer candidates, and seem faster.
        "PODIUM_CANDIDATES_FLOOR": "1",
    }


@contextmanager
def services(
    workspace: Path,
    console: Console,
    *,
    settings: Mapping[str, str] | None = None,
    on: set[int] | None = None,
    ready_timeout_s: float = 300.0,
) -> Iterator[RankerUnderTest]:
    """Feature service and ranker. ``settings`` are added to the environment of both; ``on`` are the
    ranker's cores, by default the one of the server under test."""
    server_core, other_core = cores()
    # From an earlier run's copy a ranker would be ready before it has the catalogue.
    shutil.rmtree(workspace / "replica", ignore_errors=True)
    ports = free_port(), free_port()
    environment = environment_of(workspace, ports) | dict(settings or {})
    with child(["-m", "services.feature"], other_core, environment) as feature:
        started_s = time.monotonic()
        with console.status("feature service applies the log"):
            await_serving(feature, ports[0], 900)
        console.print(f"feature service ready after {time.monotonic() - started_s:.1f} s")
        with child(["-m", "services.ranker"], on or server_core, environment) as ranker:
            started_s = time.monotonic()
            with console.status("ranker takes catalogue and bundle"):
                await_serving(ranker, ports[1], ready_timeout_s)
            ready_s = time.monotonic() - started_s
            console.print(f"ranker ready after {ready_s:.1f} s")
            targets = [f"127.0.0.1:{port}" for port in ports]
            yield RankerUnderTest(ranker, targets[1], ready_s, targets[0])


@contextmanager
def off_the_server() -> Iterator[None]:
    """Keeps this process, the load generator, off the server's core."""
    _, other_core = cores()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, other_core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def rank_requests(surface: str, user_ids: Sequence[str]) -> list[bytes]:
    """A request for every user."""
    return [
        ranker_pb2.RankRequest(
            actor=common_pb2.Actor(user_id=user_id),
            surface=surface,
            k=SLATE,
            traffic_class=common_pb2.TRAFFIC_CLASS_LOAD,
            dry_run=surface == "minimal",
        ).SerializeToString()
        for user_id in user_ids
    ]


def measure_surface(
    ranker: RankerUnderTest, surface: str, workload: Workload, seconds: float, console: Console
) -> Variant:
    """The best throughput over some concurrencies, then latencies at half of it."""
    requests = rank_requests(surface, workload.user_ids())
    with off_the_server(), console.status(f"surface {surface}"):
        load = Load(ranker.target, RANK_METHOD, requests)
        check_slate(load.once(requests[0]))
        load.closed_loop(8, seconds / 4)
        best, concurrency, cpu_share = Outcome(), 0, 0.0
        for tried in CONCURRENCIES:
            before_s = cpu_seconds(ranker.process)
            outcome = load.closed_loop(tried, seconds)
            if outcome.per_s > best.per_s:
                best, concurrency = outcome, tried
                cpu_share = (cpu_seconds(ranker.process) - before_s) / outcome.seconds
        half = load.open_loop(best.per_s / 2, seconds)
        load.close()
    return Variant(best, concurrency, cpu_share, half)


def check_slate(answer: bytes) -> None:
    """A figure is worth nothing if the answer is wrong."""
    response = ranker_pb2.RankResponse.FromString(answer)
    if len(response.slate.ids) != SLATE or response.degraded:
        raise RuntimeError(f"not a whole slate: {response}")
