"""How soon is what must not be shown gone from slates, and a price the new one?

    python -m benchmarks.liveness [--quick] [--seconds S] [--workspace DIR]

A simulated world of the shipped domain, a bundle trained on it, the real feature service and the
real ranker. Rooms begin all the time; two callers ask for slates of rooms and of courses, steadily,
for a few users. Meanwhile things happen to items that those users were just shown, in turn: a room
ends, a course is withdrawn, blocked for compliance, sold out, or gets another price. Some seconds
later a course is put right again.

A change counts from the moment Ingest acknowledged it until its reader asks for the first slate
without the item (or the old price) after which none has it: true delays are shorter, by up to the
160 ms between two slates of a reader. ``never``: changes that were seen in no slate
before they were put right. The goal is a ``p99_ms`` of 1,000. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.processes import ROOT, child, cores
from benchmarks.rank_services import off_the_server, services, workspace_at
from podium.common.v1.common_pb2 import (
    TRAFFIC_CLASS_LOAD,
    Actor,
    AttributeValue,
    EntityRef,
    Money,
)
from podium.event.v1.event_pb2 import EntityUpsert, EntityWithdrawal, Event, RoomState
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc

SURFACES = ("rooms", "courses")
USERS = 4
SLATE = 20
ROOMS_ON_AIR = 40
CALLS_PER_S = 25.0
"""Of each caller: a user is ranked for some twelve times a second on each surface."""

CHANGES_PER_S = 5.0
PUT_RIGHT_S = 3.0
_DOMAIN_FILE = ROOT / "config" / "live_courses.yaml"
_CURRENCY = "USD"
_KINDS = ("room_ended", "withdrawn", "blocked", "sold_out", "price")


@dataclass(frozen=True)
class Size:
    """How large a world and how long a run."""

    users: int
    courses: int
    weeks: int
    seconds: float


FULL = Size(400, 120, 4, 60.0)
QUICK = Size(100, 60, 2, 6.0)


@dataclass(frozen=True)
class Shown:
    """A slate: when it was asked for, and the price of every item (-1 where unknown)."""

    asked_s: float
    prices: dict[str, int]


@dataclass(frozen=True)
class Change:
    """What happened to an item that ``reader`` was shown; ``until_s``: when it is put right."""

    kind: str
    item: str
    reader: tuple[str, str]
    price_before: int
    acknowledged_s: float
    until_s: float


@dataclass
class Slates:
    """What each reader (surface, user) was shown, in order. Safe for several threads."""

    by_reader: dict[tuple[str, str], deque[Shown]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, reader: tuple[str, str], shown: Shown) -> None:
        """Keeps a slate."""
        with self.lock:
            self.by_reader.setdefault(reader, deque()).append(shown)

    def latest(self, surface: str) -> list[tuple[tuple[str, str], Shown]]:
        """The last slate of each reader of a surface."""
        with self.lock:
            return [(r, s[-1]) for r, s in self.by_reader.items() if r[0] == surface]


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small smoke test")
    parser.add_argument("--seconds", type=float, help="length of the measurement")
    parser.add_argument("--workspace", type=Path, help="a directory that is kept and used again")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    console = Console()
    with workspace_at(arguments.workspace) as workspace:
        _prepare(workspace, size, console)
        with services(workspace, console) as ranker, off_the_server():
            target = ranker.feature_target
            with grpc.insecure_channel(target) as to_feature:
                stub = feature_pb2_grpc.FeatureServiceStub(to_feature)
                changes, slates = _run(
                    stub, ranker.target, arguments.seconds or size.seconds, console
                )
    report = {"benchmark": "liveness"} | summarise(changes, slates)
    _print(console, report)
    print(json.dumps(report))


def _prepare(workspace: Path, size: Size, console: Console) -> None:
    """Simulates a world and trains on it, unless the workspace has a bundle."""
    (workspace / "domain.yaml").write_bytes(_DOMAIN_FILE.read_bytes())
    if (workspace / "bundles" / "current").exists():
        return
    log, dataset, bundles = (str(workspace / name) for name in ("log", "dataset", "bundles"))
    shape = ["--users", str(size.users), "--courses", str(size.courses), "--hosts", "20"]
    steps: list[list[str]] = [
        ["simulate", "--log", log, *shape, "--weeks", str(size.weeks)],
        ["dataset", "--log", log, "--out", dataset],
        ["train", "--dataset", dataset, "--bundles", bundles, "--promote"],
    ]
    for step in steps:
        with (
            console.status(step[0]),
            child(["-m", "cli.main", *step], set().union(*cores()), {}, is_heard=False) as process,
        ):
            if process.wait():
                raise RuntimeError(f"podium {step[0]} failed")


def _run(
    feature: feature_pb2_grpc.FeatureServiceStub, target: str, seconds: float, console: Console
) -> tuple[list[Change], Slates]:
    slates, over = Slates(), threading.Event()
    callers = [
        threading.Thread(target=_call, args=(target, surface, slates, over)) for surface in SURFACES
    ]
    world = _World(feature, time.time_ns() // 1_000_000)
    for _ in range(ROOMS_ON_AIR):
        world.begin_room()
    for caller in callers:
        caller.start()
    try:
        with console.status("until the new rooms are shown"):
            _await_rooms(slates)
        with console.status("changing what is shown"):
            changes = _change(world, slates, seconds)
            time.sleep(PUT_RIGHT_S)
    finally:
        over.set()
        for caller in callers:
            caller.join()
    return changes, slates


def _call(target: str, surface: str, slates: Slates, over: threading.Event) -> None:
    """Asks for slates of a surface for one user after the other, steadily."""
    with grpc.insecure_channel(target) as channel:
        stub = ranker_pb2_grpc.RankerServiceStub(channel)
        started_s, count = time.perf_counter(), 0
        while not over.is_set():
            user = f"reader_{count % USERS}"
            asked_s = time.perf_counter()
            response = stub.Rank(
                ranker_pb2.RankRequest(
                    actor=Actor(user_id=user),
                    surface=surface,
                    k=SLATE,
                    traffic_class=TRAFFIC_CLASS_LOAD,
                    dry_run=True,
                ),
                timeout=10,
                wait_for_ready=True,
            )
            ids = response.slate.ids
            prices = response.slate.prices_minor or [-1] * len(ids)
            slates.add((surface, user), Shown(asked_s, dict(zip(ids, prices, strict=True))))
            count += 1
            over.wait(max(0.0, started_s + count / CALLS_PER_S - time.perf_counter()))


def _await_rooms(slates: Slates) -> None:
    """Waits until readers are shown rooms of this run. Raises ``RuntimeError`` if they are not."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        shown = [s for _, s in slates.latest("rooms") if any(map(_is_own, s.prices))]
        if len(shown) == USERS and slates.latest("courses"):
            return
        time.sleep(0.1)
    raise RuntimeError("the rooms that began were not shown")


def _is_own(room: str) -> bool:
    return room.startswith("liveness-")


def _change(world: _World, slates: Slates, seconds: float) -> list[Change]:
    changes: list[Change] = []
    random = np.random.default_rng(7)
    touched: dict[str, float] = {}
    waiting: deque[tuple[float, Change]] = deque()
    started_s = time.perf_counter()
    for number in range(int(seconds * CHANGES_PER_S)):
        due_s = started_s + number / CHANGES_PER_S
        time.sleep(max(0.0, due_s - time.perf_counter()))
        while waiting and waiting[0][0] <= time.perf_counter():
            world.put_right(waiting.popleft()[1])
        kind = _KINDS[number % len(_KINDS)]
        chosen = _choose(slates, kind, touched, random)
        if chosen is None:
            continue
        reader, item, price = chosen
        world.change(kind, item, price)
        now_s = time.perf_counter()
        change = Change(kind, item, reader, price, now_s, now_s + PUT_RIGHT_S)
        changes.append(change)
        touched[item] = now_s
        waiting.append((change.until_s, change))
        if kind == "room_ended":
            world.begin_room()
    return changes


def _choose(
    slates: Slates, kind: str, touched: dict[str, float], random: np.random.Generator
) -> tuple[tuple[str, str], str, int] | None:
    """A reader, an item that it was shown last, and its price; None where all were touched."""
    surface = "rooms" if kind == "room_ended" else "courses"
    rested_s = time.perf_counter() - 2 * PUT_RIGHT_S
    shown = [
        (reader, item, price)
        for reader, slate in slates.latest(surface)
        for item, price in slate.prices.items()
        if touched.get(item, 0.0) < rested_s
        and (kind != "room_ended" or _is_own(item))
        and (kind != "price" or price >= 0)
    ]
    return shown[int(random.integers(len(shown)))] if shown else None


class _World:
    """Says to the feature service what happens."""

    def __init__(self, stub: feature_pb2_grpc.FeatureServiceStub, salt: int) -> None:
        self._stub = stub
        self._salt = salt
        self._events = 0
        self._rooms = 0

    def begin_room(self) -> None:
        """A new room goes on air and sells one of the simulated courses."""
        room = f"liveness-{self._salt}-{self._rooms}"
        course, host = f"course_{self._rooms % 50}", f"liveness-host-{self._rooms}"
        self._rooms += 1
        known = self._event("entity_upsert", "room", room)
        known.entity_upsert.CopyFrom(_upsert(title=room, host_id=host))
        began = self._event("room_started", "room", room)
        began.room_state.CopyFrom(
            RoomState(
                state=RoomState.STATE_STARTED, selling_course_id=course, viewers=100 + self._rooms
            )
        )
        self._tell([known, began])

    def change(self, kind: str, item: str, price: int) -> None:
        """One of the changes; returns when it is acknowledged."""
        if kind == "room_ended":
            event = self._event(kind, "room", item)
            event.room_state.CopyFrom(RoomState(state=RoomState.STATE_ENDED))
        elif kind == "withdrawn":
            event = self._event("entity_withdrawal", "course", item)
            event.entity_withdrawal.CopyFrom(EntityWithdrawal(reason="benchmark"))
        else:
            event = self._event("entity_upsert", "course", item)
            event.entity_upsert.CopyFrom(_changed(kind, price + 100))
        self._tell([event])

    def put_right(self, change: Change) -> None:
        """Takes a change of a course back."""
        if change.kind == "room_ended":
            return
        event = self._event("entity_upsert", "course", change.item)
        event.entity_upsert.CopyFrom(_upsert(blocked=False))
        event.entity_upsert.seats_left = 1_000
        if change.price_before >= 0:
            event.entity_upsert.price.CopyFrom(_money(change.price_before))
        self._tell([event])

    def _event(self, kind: str, entity: str, id_: str) -> Event:
        self._events += 1
        event = Event(event_id=f"liveness-{self._salt}-{self._events}", type=kind)
        event.entities.append(EntityRef(type=entity, id=id_))
        event.event_time.FromMilliseconds(time.time_ns() // 1_000_000)
        return event

    def _tell(self, events: Sequence[Event]) -> None:
        response = self._stub.Ingest(feature_pb2.IngestRequest(events=events), timeout=30)
        if response.accepted != len(events):
            raise RuntimeError(f"not accepted: {response.rejections}")


def _changed(kind: str, price: int) -> EntityUpsert:
    match kind:
        case "blocked":
            return _upsert(blocked=True)
        case "sold_out":
            return EntityUpsert(seats_left=0)
        case _:
            return EntityUpsert(price=_money(price))


def _upsert(**attributes: str | bool) -> EntityUpsert:
    return EntityUpsert(
        attributes={
            name: AttributeValue(bool_value=value)
            if isinstance(value, bool)
            else AttributeValue(string_value=value)
            for name, value in attributes.items()
        }
    )


def _money(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency_code=_CURRENCY)


def summarise(changes: Sequence[Change], slates: Slates) -> dict[str, Any]:
    """Delays of all changes and of each kind, in milliseconds."""
    delays: dict[str, list[float]] = {}
    never = slates_asked = 0
    for change in changes:
        delay_ms, asked = _delay_ms(change, slates.by_reader[change.reader])
        slates_asked += asked
        if delay_ms is None:
            never += 1
        else:
            delays.setdefault(change.kind, []).append(delay_ms)
    every = [delay for kind in delays.values() for delay in kind]
    if not every:
        raise RuntimeError("no change was followed by a slate without it")
    return {
        "changes": len(changes),
        "never": never,
        "slates_a_change": round(slates_asked / len(changes), 1),
        **_percentiles(every),
        "by_kind": {kind: _percentiles(found) for kind, found in sorted(delays.items())},
    }


def _delay_ms(change: Change, shown: Sequence[Shown]) -> tuple[float | None, int]:
    """How long the change was not seen, None where it never was; and slates looked at."""
    asked = [s for s in shown if change.acknowledged_s <= s.asked_s < change.until_s]
    if change.kind == "price":
        old = [s for s in asked if s.prices.get(change.item) == change.price_before]
    else:
        old = [s for s in asked if change.item in s.prices]
    last_s = old[-1].asked_s if old else change.acknowledged_s
    gone = [s.asked_s for s in asked if s.asked_s > last_s]
    return (1000 * (gone[0] - change.acknowledged_s) if gone else None), len(asked)


def _percentiles(delays_ms: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": round(float(np.percentile(delays_ms, 50)), 1),
        "p99_ms": round(float(np.percentile(delays_ms, 99)), 1),
        "max_ms": round(max(delays_ms), 1),
    }


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table("from acknowledged to gone", "p50, ms", "p99, ms", "most, ms")
    rows = {"all": report} | report["by_kind"]
    for name, found in rows.items():
        table.add_row(name, *(f"{found[key]:,}" for key in ("p50_ms", "p99_ms", "max_ms")))
    console.print(table)
    console.print(
        f"{report['changes']} changes, never seen {report['never']}; "
        f"{report['slates_a_change']} slates looked at a change"
    )


if __name__ == "__main__":
    main()
