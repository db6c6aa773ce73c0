"""WatchEntities of a real service: snapshots, changes, resumption and heartbeats."""

from __future__ import annotations

import grpc
import pytest

from services.common.clock import system_clock_ms as now_ms
from tests.support.feature_server import FeatureClient
from tests.support.feature_streams import (
    interaction,
    room_event,
    upsert_event,
    withdrawal_event,
)
from tests.support.watching import WatchingReplica


def test_watchers_see_rooms_come_change_and_go(client: FeatureClient) -> None:
    start_ms = now_ms() - 60_000
    client.ingest(
        upsert_event("w-room", start_ms, "room:w-r", title="Evening algebra"),
        room_event("w-start", "room_started", start_ms + 1, "w-r", course="w-c", viewers=3),
    )
    replica = WatchingReplica()
    steps = client.watch("course", "room")
    replica.until(steps, lambda: replica.rows.get("room:w-r", {}).get("viewers") == 3)
    assert replica.steps[0] == "reset"
    assert replica.rows["room:w-r"]["live"] == 1

    client.ingest(room_event("w-sell", "room_now_selling", start_ms + 2, "w-r", course="w-d"))
    replica.until(steps, lambda: replica.rows["room:w-r"]["selling_course_id"] == "w-d")
    client.ingest(room_event("w-end", "room_ended", start_ms + 3, "w-r"))
    replica.until(steps, lambda: replica.rows["room:w-r"]["live"] == 0)

    client.ingest(withdrawal_event("w-gone", start_ms + 4, "room:w-r"))
    replica.until(steps, lambda: "room:w-r" not in replica.rows)
    client.ingest(upsert_event("w-back", start_ms + 5, "room:w-r", title="Again"))
    replica.until(steps, lambda: replica.rows.get("room:w-r", {}).get("title") == "Again")


def test_watchers_see_moving_features(client: FeatureClient) -> None:
    client.ingest(upsert_event("m-c", now_ms(), "course:m-c", title="Moving"))
    replica = WatchingReplica()
    steps = client.watch("course")
    replica.until(steps, lambda: "course:m-c" in replica.rows)

    client.ingest(interaction("m-click", "click", now_ms(), "m-ann", "course:m-c"))

    replica.until(steps, lambda: replica.rows["course:m-c"]["clicks_1h"] == 1)
    assert "reset" not in replica.steps[1:]


def test_an_event_ahead_of_the_clock_shows_when_its_time_comes(client: FeatureClient) -> None:
    client.ingest(
        upsert_event("a-c", now_ms(), "course:a-c", title="Now"),
        interaction("a-click", "click", now_ms() + 1_500, "a-ann", "course:a-c"),
    )
    replica = WatchingReplica()
    steps = client.watch("course")
    replica.until(steps, lambda: replica.rows.get("course:a-c", {}).get("title") == "Now")
    replica.until(steps, lambda: replica.rows["course:a-c"]["clicks_1h"] == 1)


def test_what_is_said_of_the_catalogue_shows_at_once_whatever_its_clock(
    client: FeatureClient,
) -> None:
    client.ingest(upsert_event("h-c", now_ms() + 240_000, "course:h-c", title="Ahead"))
    replica = WatchingReplica()
    replica.until(
        client.watch("course"),
        lambda: replica.rows.get("course:h-c", {}).get("title") == "Ahead",
    )


def test_a_watcher_resumes_where_it_stopped(client: FeatureClient) -> None:
    client.ingest(upsert_event("r-1", now_ms(), "course:r-c", title="One"))
    replica = WatchingReplica()
    steps = client.watch("course")
    replica.until(steps, lambda: "course:r-c" in replica.rows and bool(replica.token))
    steps.cancel()  # type: ignore[attr-defined]

    response = client.ingest(
        upsert_event("r-2", now_ms(), "course:r-c", title="Two"),
        upsert_event("r-3", now_ms(), "course:r-d", title="New"),
    )
    client.get("course", "r-c", position=response.log_position)
    replica.steps.clear()
    steps = client.watch("course", token=replica.token)
    replica.until(
        steps,
        lambda: replica.rows["course:r-c"]["title"] == "Two" and "course:r-d" in replica.rows,
    )

    assert set(replica.steps) <= {"delta", "heartbeat"}


@pytest.mark.parametrize("entities", [("course",), ("host", "course")])
def test_an_unknown_token_gives_a_snapshot(
    client: FeatureClient, entities: tuple[str, ...]
) -> None:
    steps = client.watch("room")
    other = WatchingReplica()
    other.until(steps, lambda: bool(other.token))

    for token in (b"nonsense", b"\0" * len(other.token), other.token):
        replica = WatchingReplica()
        steps = client.watch(*entities, token=token)
        replica.until(steps, lambda seen=replica: "snapshot_end" in seen.steps)
        assert replica.steps[0] == "reset"


def test_silence_is_filled_with_heartbeats_that_carry_time(client: FeatureClient) -> None:
    steps = client.watch("video")
    replica = WatchingReplica()
    replica.until(steps, lambda: "snapshot_end" in replica.steps)
    beats = [next(steps) for _ in range(2)]

    assert [beat.WhichOneof("step") for beat in beats] == ["heartbeat", "heartbeat"]
    assert beats[1].as_of.ToMilliseconds() > beats[0].as_of.ToMilliseconds()
    assert all(beat.resume_token for beat in beats)


def test_users_cannot_be_watched(client: FeatureClient) -> None:
    with pytest.raises(grpc.RpcError, match="no catalogue entity type") as caught:
        next(client.watch("user"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
