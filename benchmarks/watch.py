"""Does every watcher see every room end, and what do the watchers cost the other calls?

    python -m benchmarks.watch [--quick] [--watchers N] [--changes-per-s N] [--seconds S]

A feature service with 1,000 entities (250 each of courses, hosts, rooms, videos) that change at a
steady rate: every event names one of each. Rooms end meanwhile, one every 250 ms. GetFeatures (20
courses) is called at a steady rate all the time: before the watchers come, while they are there,
and after they left. Watchers are real streams, in several processes and over several connections.

An end counts from the moment Ingest acknowledged it to the moment a watcher has the step that says
so. ``ratio`` is GetFeatures' p99 with watchers over the one without, from the same run: the mean of
before and after. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.processes import ROOT, await_serving, child, free_port
from benchmarks.watching import (
    Phase,
    ask,
    caller,
    cpu_report,
    percentiles_ms,
    phase,
    seen_by,
    streams_report,
    watchers,
)
from podium.common.v1.common_pb2 import Actor, AttributeValue, EntityRef
from podium.event.v1.event_pb2 import EntityUpsert, Event, RoomState
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.domain import load_domain
from services.feature.definitions import FeatureView, compile_views

DOMAIN_FILE = ROOT / "config" / "live_courses.yaml"
GET_METHOD = "/podium.feature.v1.FeatureService/GetFeatures"
TYPES = ("course", "host", "room", "video")
OF_EACH = 250
END_EVERY_S = 0.25
ROUND_S = 0.05
GETS_PER_S = 100.0


@dataclass
class Driver:
    """Sends events at a steady rate until stopped; ``ended_s`` says when each end was acknowledged
    (epoch seconds)."""

    stub: feature_pb2_grpc.FeatureServiceStub
    changes_per_s: float
    ended_s: dict[str, float] = field(default_factory=dict)
    sent: int = 0
    late_s: float = 0.0
    ending: bool = False
    stopped: bool = False

    def run(self) -> None:
        """Sends a batch every 50 ms; every few of them one that ends a room."""
        random = np.random.default_rng(1)
        started_s = time.monotonic()
        due_events, rounds, next_end_s = 0.0, 0, 0.0
        while not self.stopped:
            rounds += 1
            due_events += self.changes_per_s / len(TYPES) * ROUND_S
            count, due_events = int(due_events), due_events % 1
            now_s = time.monotonic()
            events = [self._click(random.integers(0, OF_EACH, len(TYPES))) for _ in range(count)]
            for start in range(0, count, 1_000):
                self._ingest(events[start : start + 1_000])
            if self.ending and now_s >= next_end_s and len(self.ended_s) < OF_EACH:
                next_end_s = now_s + END_EVERY_S
                room = f"room-{len(self.ended_s)}"
                self._ingest([_room(f"end-{room}", "room_ended", RoomState.STATE_ENDED, room)])
                self.ended_s[room] = time.time()
            pause_s = started_s + rounds * ROUND_S - time.monotonic()
            self.late_s = max(self.late_s, -pause_s)
            time.sleep(max(0.0, pause_s))

    def _ingest(self, events: list[Event]) -> None:
        response = self.stub.Ingest(feature_pb2.IngestRequest(events=events), timeout=30)
        assert response.accepted == len(events), response.rejections

    def _click(self, numbers: Any) -> Event:
        self.sent += 1
        event = _event(f"click-{self.sent}", "click", [])
        event.actor.CopyFrom(Actor(user_id=f"user-{self.sent % 1_000}"))
        for kind, number in zip(TYPES, numbers, strict=True):
            event.entities.add(type=kind, id=f"{kind}-{number}")
        return event


def main() -> None:
    """Prepares, measures, prints."""
    arguments = _arguments()
    workspace = Path(tempfile.mkdtemp(prefix="podium-watch-"))
    console = Console()
    try:
        report = measure(workspace, arguments, console)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    _print(console, report)
    print(json.dumps(report))


def measure(workspace: Path, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Runs the three phases; the report of the last line."""
    views = compile_views(load_domain(DOMAIN_FILE))
    with _service(workspace) as (service, port), ExitStack() as stack:
        target = f"127.0.0.1:{port}"
        channel = stack.enter_context(grpc.insecure_channel(target))
        stub = feature_pb2_grpc.FeatureServiceStub(channel)
        _fill(stub)
        driver = Driver(stub, arguments.changes_per_s)
        thread = threading.Thread(target=driver.run)
        thread.start()
        gets = stack.enter_context(caller(target, GET_METHOD, _get_requests(views["course"])))
        try:
            console.print("without watchers")
            before = phase(service, gets, GETS_PER_S, arguments.seconds / 2)
            console.print(f"{arguments.watchers} watchers join")
            joined_s = time.monotonic()
            with watchers("entities", target, _request(views), arguments.watchers) as clients:
                joined_s = time.monotonic() - joined_s
                ask(clients)
                driver.ending = True
                during = phase(service, gets, GETS_PER_S, arguments.seconds, clients)
                driver.ending = False
                time.sleep(2.0)
                reports = ask(clients)
            time.sleep(2.0)
            console.print("without watchers")
            after = phase(service, gets, GETS_PER_S, arguments.seconds / 2)
        finally:
            driver.stopped = True
            thread.join()
    return _report(arguments, driver, (before, during, after), reports, joined_s)


def _report(
    arguments: argparse.Namespace,
    driver: Driver,
    phases: tuple[Phase, Phase, Phase],
    reports: list[dict[str, Any]],
    joined_s: float,
) -> dict[str, Any]:
    before, during, after = phases
    ends = seen_by(reports, driver.ended_s, arguments.watchers)
    without = (before.calls.percentile_ms(0.99) + after.calls.percentile_ms(0.99)) / 2
    return {
        "benchmark": "watch",
        "watchers": arguments.watchers,
        "entities": OF_EACH * len(TYPES),
        "changes_per_s": arguments.changes_per_s,
        "rooms_ended": len(driver.ended_s),
        "ends_missed": ends.pop("missed"),
        **{f"end_seen_{key}": value for key, value in ends.items()},
        "get_p50_ms": percentiles_ms(phases, 0.5),
        "get_p99_ms": percentiles_ms(phases, 0.99),
        "ratio": round(during.calls.percentile_ms(0.99) / without, 2),
        "get_errors": dict(before.calls.errors + during.calls.errors + after.calls.errors),
        **streams_report(reports, during.calls.seconds + 2.0),
        **cpu_report(phases),
        "joined_s": round(joined_s, 1),
        "driver_late_s": round(driver.late_s, 2),
    }


@contextmanager
def _service(workspace: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    environment = {
        "PODIUM_DOMAIN_FILE": str(DOMAIN_FILE),
        "PODIUM_FEATURE_PORT": str(port),
        "PODIUM_FEATURE_METRICS_PORT": "0",
        "PODIUM_LOG_DIR": str(workspace / "log"),
        "PODIUM_STORE_DIR": str(workspace / "store"),
        "PODIUM_LOG_LEVEL": "ERROR",
    }
    with child(["-m", "services.feature"], os.sched_getaffinity(0), environment) as process:
        await_serving(process, port, 60)
        yield process, port


def _request(views: dict[str, FeatureView]) -> bytes:
    """A watch of all four types."""
    request = feature_pb2.WatchEntitiesRequest(
        views=[
            feature_pb2.EntityView(
                entity_type=kind, view_name=views[kind].name, view_hash=views[kind].hash
            )
            for kind in TYPES
        ]
    )
    return request.SerializeToString()


def _fill(stub: feature_pb2_grpc.FeatureServiceStub) -> None:
    events = []
    for kind in TYPES:
        for number in range(OF_EACH):
            identity = f"{kind}-{number}"
            event = _event(f"new-{identity}", "entity_upsert", [(kind, identity)])
            title = AttributeValue(string_value=f"Title of {identity}")
            event.entity_upsert.CopyFrom(EntityUpsert(attributes={"title": title}))
            events.append(event)
            if kind == "room":
                state = RoomState.STATE_STARTED
                events.append(_room(f"start-{identity}", "room_started", state, identity))
    for start in range(0, len(events), 500):
        part = events[start : start + 500]
        response = stub.Ingest(feature_pb2.IngestRequest(events=part), timeout=30)
        assert response.accepted == len(part), response.rejections


def _room(event_id: str, kind: str, state: RoomState.State, room: str) -> Event:
    event = _event(event_id, kind, [("room", room)])
    event.room_state.CopyFrom(RoomState(state=state))
    if state == RoomState.STATE_STARTED:
        event.room_state.selling_course_id = "course-0"
        event.room_state.viewers = 1
    return event


def _event(event_id: str, kind: str, refs: list[tuple[str, str]]) -> Event:
    event = Event(event_id=event_id, type=kind)
    event.entities.extend(EntityRef(type=entity, id=identity) for entity, identity in refs)
    event.event_time.FromMilliseconds(time.time_ns() // 1_000_000)
    return event


def _get_requests(view: FeatureView) -> list[bytes]:
    random = np.random.default_rng(2)
    return [
        feature_pb2.GetFeaturesRequest(
            entity_type=view.entity,
            ids=[f"course-{number}" for number in random.integers(0, OF_EACH, 20)],
            view_name=view.name,
            view_hash=view.hash,
        ).SerializeToString()
        for _ in range(50)
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100 watchers, a few seconds")
    parser.add_argument("--watchers", type=int, default=None)
    parser.add_argument("--changes-per-s", type=float, default=10.0, help="over all entities")
    parser.add_argument("--seconds", type=float, default=None)
    arguments = parser.parse_args()
    arguments.watchers = arguments.watchers or (100 if arguments.quick else 2_000)
    arguments.seconds = arguments.seconds or (4.0 if arguments.quick else 30.0)
    return arguments


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table(title=f"{report['watchers']} watchers, {report['changes_per_s']:g} changes/s")
    table.add_column("")
    table.add_column("seen", justify="right")
    for key, value in report.items():
        if key not in ("benchmark", "watchers", "changes_per_s"):
            table.add_row(key, str(value))
    console.print(table)


if __name__ == "__main__":
    main()
