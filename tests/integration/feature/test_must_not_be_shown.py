"""What must not be shown any more reaches every watcher: by an event, or by silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podium.event.v1.event_pb2 import Event
from services.common.clock import system_clock_ms as now_ms
from tests.support.feature_server import RunningService, running_service
from tests.support.feature_streams import room_event, upsert_event, withdrawal_event
from tests.support.watching import WatchingReplica

DOMAIN_FILE = Path(__file__).parents[3] / "config" / "live_courses.yaml"
AHEAD_MS = 240_000
WATCHERS = 3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    directory = tmp_path_factory.mktemp("shown")
    shipped = DOMAIN_FILE.read_text()
    domain_file = directory / "domain.yaml"
    domain_file.write_text(shipped.replace("ttl: 90m}", "ttl: 2s}"))
    assert domain_file.read_text() != shipped
    with running_service(domain_file, directory) as service:
        yield service


def _ended() -> Event:
    return room_event("end", "room_ended", now_ms(), "r")


def _withdrawn() -> Event:
    return withdrawal_event("gone", now_ms(), "room:r")


def _blocked() -> Event:
    event = upsert_event("blocked", now_ms(), "room:r")
    event.entity_upsert.attributes["blocked"].bool_value = True
    return event


def _sold_out() -> Event:
    event = upsert_event("sold-out", now_ms(), "course:c")
    event.entity_upsert.seats_left = 0
    return event


def _dearer() -> Event:
    return upsert_event("dearer", now_ms(), "course:c", price_minor=900)


@pytest.mark.parametrize(
    ("happens", "seen"),
    [
        (_ended, lambda rows: rows["room:r"]["live"] == 0),
        (_withdrawn, lambda rows: "room:r" not in rows),
        (_blocked, lambda rows: rows["room:r"]["blocked"] == 1),
        (_sold_out, lambda rows: rows["course:c"]["seats_left"] == 0),
        (_dearer, lambda rows: rows["course:c"]["price_minor"] == 900),
    ],
)
def test_every_watcher_gets_it_with_the_next_change(
    running: RunningService,
    happens: Callable[[], Event],
    seen: Callable[[dict[str, dict[str, object]]], bool],
) -> None:
    client = running.client
    start = f"{happens.__name__}-{now_ms()}"
    course = upsert_event(f"{start}-c", now_ms(), "course:c", title="C", price_minor=500)
    course.entity_upsert.seats_left = 3
    room = upsert_event(f"{start}-r", now_ms(), "room:r", title=start)
    room.entity_upsert.attributes["blocked"].bool_value = False
    client.ingest(course, room, room_event(f"{start}-s", "room_started", now_ms(), "r", course="c"))
    replicas = [WatchingReplica() for _ in range(WATCHERS)]
    streams = [client.watch("course", "room") for _ in replicas]
    for replica, steps in zip(replicas, streams, strict=True):
        replica.until(
            steps,
            lambda found=replica: (
                found.rows.get("room:r", {}).get("title") == start
                and found.rows["room:r"]["live"] == 1
                and found.rows["course:c"]["price_minor"] == 500
            ),
        )

    event = happens()
    event.event_id = f"{start}-happens"
    # Whose clock is ahead does not keep it shown until then.
    event.event_time.FromMilliseconds(now_ms() + AHEAD_MS)
    client.ingest(event)

    for replica, steps in zip(replicas, streams, strict=True):
        replica.until(steps, lambda found=replica: seen(found.rows))
        assert replica.steps.count("reset") == 1
        steps.cancel()  # type: ignore[attr-defined]


def test_a_block_survives_upserts_that_say_nothing_of_it(running: RunningService) -> None:
    client = running.client
    blocked = upsert_event("b-1", now_ms(), "host:b-h", title="One")
    blocked.entity_upsert.attributes["blocked"].bool_value = True
    client.ingest(blocked)
    response = client.ingest(upsert_event("b-2", now_ms(), "host:b-h", title="Two"))

    (row,) = client.get("host", "b-h", position=response.log_position)

    assert (row["title"], row["blocked"]) == (("Two", "PRESENT"), (1, "PRESENT"))


def test_a_room_that_falls_silent_is_told_without_an_event_and_is_back_when_heard_again(
    running: RunningService,
) -> None:
    client = running.client
    client.ingest(
        upsert_event("q-new", now_ms(), "room:q-r", title="Quiet"),
        room_event("q-start", "room_started", now_ms(), "q-r", course="c"),
    )
    replica = WatchingReplica()
    steps = client.watch("room")
    replica.until(steps, lambda: replica.rows.get("room:q-r", {}).get("heard") == 1)
    replica.until(steps, lambda: replica.rows["room:q-r"]["heard"] == 0)
    assert replica.statuses["room:q-r"]["heard"] == "STALE"
    # It did not end: the room was not heard of, that is all.
    assert replica.rows["room:q-r"]["live"] == 1

    client.ingest(room_event("q-beat", "room_heartbeat", now_ms(), "q-r", viewers=5))
    replica.until(steps, lambda: replica.rows["room:q-r"]["heard"] == 1)
    assert replica.statuses["room:q-r"]["heard"] == "PRESENT"
    assert replica.rows["room:q-r"]["viewers"] == 5
    # Heartbeats keep it so, until they cease.
    replica.until(steps, lambda: replica.rows["room:q-r"]["heard"] == 0)


def test_a_heartbeat_brings_no_room_back_that_has_ended(running: RunningService) -> None:
    client = running.client
    client.ingest(
        upsert_event("e-new", now_ms(), "room:e-r", title="Over"),
        room_event("e-start", "room_started", now_ms(), "e-r", course="c"),
        room_event("e-end", "room_ended", now_ms() + 1, "e-r"),
    )
    response = client.ingest(room_event("e-beat", "room_heartbeat", now_ms() + 2, "e-r", viewers=5))

    (row,) = client.get("room", "e-r", position=response.log_position)

    assert (row["live"], row["heard"]) == ((0, "PRESENT"), (1, "PRESENT"))


def test_the_lag_of_what_watchers_are_told_is_measured(running: RunningService) -> None:
    client = running.client
    client.ingest(upsert_event("l-1", now_ms(), "course:l-c", title="One"))
    replica = WatchingReplica()
    steps = client.watch("course")
    replica.until(steps, lambda: "course:l-c" in replica.rows)

    def told(kind: str) -> float:
        return running.metric("podium_feature_watch_lag_seconds_count", kind=kind)

    before = told("urgent")
    client.ingest(upsert_event("l-2", now_ms(), "course:l-c", title="Two"))
    replica.until(steps, lambda: replica.rows["course:l-c"]["title"] == "Two")
    assert told("urgent") == before + 1
