"""Many real watchers of one service: each sees every room end once and in order, and one that does
not read holds nobody up. How fast is measured by ``benchmarks.watch``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.clock import system_clock_ms as now_ms
from tests.support.eventually import eventually
from tests.support.feature_server import FeatureClient, RunningService, columns
from tests.support.feature_streams import interaction, room_event, upsert_event
from tests.support.watching import WatchingReplica

WATCHERS = 40
ROOMS = 60
Step = feature_pb2.WatchEntitiesResponse


def _open_rooms(client: FeatureClient, prefix: str, rooms: int) -> None:
    client.ingest(
        *(
            upsert_event(f"{prefix}{n}", now_ms(), f"room:{prefix}{n}", title="x")
            for n in range(rooms)
        ),
        *(
            room_event(f"{prefix}{n}-on", "room_started", now_ms(), f"{prefix}{n}", course="c")
            for n in range(rooms)
        ),
    )


def _is_open(replica: WatchingReplica, prefix: str, rooms: int) -> bool:
    return all(replica.rows.get(f"room:{prefix}{n}", {}).get("live") == 1 for n in range(rooms))


class _Ends:
    """The rooms that a watcher saw end, in the order of its steps."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.seen: list[list[int]] = []
        """One list a step; what is in one step came at once."""

    def take(self, step: Step) -> None:
        found = []
        for rows in step.delta.upserts:
            for identity, row in zip(rows.ids, columns(rows.block), strict=True):
                if identity.startswith(self._prefix) and row["live"][0] == 0:
                    found.append(int(identity.removeprefix(self._prefix)))
        if found:
            self.seen.append(found)

    @property
    def rooms(self) -> list[int]:
        return [room for step in self.seen for room in step]


def test_each_of_many_watchers_sees_every_room_end_once_and_in_order(
    running: RunningService,
) -> None:
    client = running.client
    _open_rooms(client, "many", ROOMS + 1)
    all_open = threading.Barrier(WATCHERS + 1)

    def watch(_: int) -> list[int]:
        replica, ends = WatchingReplica(), _Ends("many")
        steps = client.watch("room")
        replica.until(steps, lambda: _is_open(replica, "many", ROOMS + 1))
        all_open.wait(60)
        while len(ends.rooms) < ROOMS:
            step = next(steps)
            replica.take(step)
            ends.take(step)
        assert replica.steps.count("reset") == 1
        steps.cancel()  # type: ignore[attr-defined]
        return ends.rooms

    with ThreadPoolExecutor(WATCHERS) as pool:
        found = pool.map(watch, range(WATCHERS))
        all_open.wait(60)
        for room in range(ROOMS):
            # A room goes on being watched while others end; it does not end itself: entities that
            # one transaction touches are told in the order in which it touched them first.
            client.ingest(
                room_event(f"many{room}-off", "room_ended", now_ms(), f"many{room}"),
                interaction(f"k{room}", "click", now_ms(), "ann", f"room:many{ROOMS}"),
            )
        assert list(found) == [list(range(ROOMS))] * WATCHERS


def test_a_watcher_that_does_not_read_holds_nobody_up_and_gets_the_latest_rows(
    running: RunningService,
) -> None:
    client = running.client
    # Rows so large that the stalled stream's flow control closes long before they all are sent.
    rooms, changes, title = 200, 8, "t" * 1_000

    def describe(change: int) -> None:
        events = [
            upsert_event(f"s{n}-{change}", now_ms(), f"room:s{n}", title=f"{change}{title}")
            for n in range(rooms)
        ]
        assert client.ingest(*events).accepted == rooms

    def all_at(replica: WatchingReplica, change: int) -> Callable[[], bool]:
        return lambda: all(
            str(replica.rows.get(f"room:s{n}", {}).get("title", "")) == f"{change}{title}"
            for n in range(rooms)
        )

    describe(0)
    stalled, reading = WatchingReplica(), WatchingReplica()
    reading_steps = client.watch("room")
    # A window that does not grow: what is not read stays with the server.
    options = [("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{running.port}", options) as channel:
        slow = FeatureClient(feature_pb2_grpc.FeatureServiceStub(channel), client.views)
        stalled_steps = slow.watch("room")
        stalled.until(stalled_steps, all_at(stalled, 0))
        for change in range(1, changes + 1):
            describe(change)
            reading.until(reading_steps, all_at(reading, change))
        stalled.until(stalled_steps, all_at(stalled, changes))

    # Rows of other rooms may still move.
    rows = [
        {key: row for key, row in replica.rows.items() if key.startswith("room:s")}
        for replica in (stalled, reading)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == rooms
    assert stalled.steps.count("reset") == 1
    assert stalled.steps.count("delta") < reading.steps.count("delta")


def test_a_large_catalogue_comes_in_chunks_and_an_unfinished_snapshot_gives_no_token(
    running: RunningService,
) -> None:
    client = running.client
    videos, title = 1_200, "w" * 1_000
    for start in range(0, videos, 300):
        events = [
            upsert_event(f"large{n}", now_ms(), f"video:large{n}", title=title)
            for n in range(start, start + 300)
        ]
        assert client.ingest(*events).accepted == 300
    whole = WatchingReplica()
    eventually(lambda: _watched_once(client, whole) == videos, "every video in the catalogue")
    assert whole.steps.count("snapshot_chunk") > 1

    broken = WatchingReplica()
    steps = client.watch("video")
    while broken.steps.count("snapshot_chunk") < 1:
        broken.take(next(steps))
    steps.cancel()  # type: ignore[attr-defined]

    assert (broken.token, broken.rows) == (b"", {})
    again = client.watch("video", token=broken.token)
    broken.until(again, lambda: "snapshot_end" in broken.steps)
    assert broken.rows == whole.rows


def _watched_once(client: FeatureClient, replica: WatchingReplica) -> int:
    """Rows of a new snapshot."""
    replica.steps.clear()
    steps = client.watch("video")
    replica.until(steps, lambda: "snapshot_end" in replica.steps)
    steps.cancel()  # type: ignore[attr-defined]
    return len(replica.rows)
