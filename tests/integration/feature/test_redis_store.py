"""The feature service over real Redis servers: single, Cluster, killed, emptied, shared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.feature.v1 import feature_pb2
from services.common.clock import system_clock_ms as now_ms
from services.common.event_log import read_log
from services.common.log_marks import read_duplicate_marks
from services.common.status import error_from_rpc
from services.feature.ingest.log import IngestLimits
from services.feature.store.opening import StoreOptions
from tests.support.eventually import eventually
from tests.support.feature_server import RunningService, running_service
from tests.support.feature_streams import (
    interaction,
    purchase_event,
    refund_event,
    sticky_event,
    upsert_event,
)
from tests.support.redis_servers import RedisServer, redis_cluster, redis_server

DOMAIN_FILE = Path(__file__).parents[3] / "config" / "live_courses.yaml"


def click(event_id: str, course: str = "c", user: str = "ann") -> Event:
    return interaction(event_id, "click", now_ms(), user, f"course:{course}")


def over(server: RedisServer) -> StoreOptions:
    return StoreOptions("redis", redis_url=server.url, redis_timeout_s=2)


def clicks(running: RunningService, position: int, course: str = "c") -> object:
    (row,) = running.client.get("course", course, position=position)
    return row["clicks_1d"][0]


def is_found(running: RunningService) -> bool:
    try:
        running.client.stub.GetFeatures(running.client.request("course", "c"), timeout=10)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    return True


def shown(step: feature_pb2.WatchEntitiesResponse) -> list[str]:
    return [i for rows in (step.snapshot_chunk, *step.delta.upserts) for i in rows.ids]


def is_taken(running: RunningService, event: Event) -> bool:
    try:
        return running.client.ingest(event).accepted == 1
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return False
        raise


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_the_service_serves_from_redis_and_goes_on_after_a_restart(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "redis":
        options = over(request.getfixturevalue("server"))
        check_service(tmp_path, options)
    else:
        with redis_cluster(tmp_path / "cluster") as servers:
            check_service(
                tmp_path,
                StoreOptions("redis_cluster", redis_url=servers[2].url, redis_timeout_s=5),
            )


def check_service(directory: Path, options: StoreOptions) -> None:
    events = [
        upsert_event("up", now_ms() - 5_000, "course:c", title="Chords", category="music"),
        *(click(f"click{n}", user=f"ann{n % 7}") for n in range(300)),
    ]
    bought = purchase_event("buy", now_ms() - 500, 100, "ann0", "course:c")
    events += [bought, refund_event("back", now_ms() - 400, 40, bought)]
    events.append(sticky_event("kept", now_ms() - 300, "ann0"))
    with running_service(DOMAIN_FILE, directory, store=options) as running:
        position = running.client.ingest(*events).log_position
        (row,) = running.client.get("course", "c", position=position)
        assert (row["clicks_1d"][0], row["title"][0]) == (300, "Chords")
        (ann,) = running.client.get("user", "ann0")
        assert ann["user_spend_30d"][0] == 60
        assert any("c" in shown(step) for step in running.client.watch("course"))
        running.service.apply.kill()
        again = running.client.ingest(*events[:50], click("later"))
        assert (again.accepted, again.duplicates) == (1, 50)
        assert clicks(running, again.log_position) == 301

    with running_service(DOMAIN_FILE, directory, store=options) as running:
        again = running.client.ingest(*events)
        assert (again.accepted, again.duplicates) == (0, len(events))
        assert clicks(running, again.log_position) == 301
        assert running.client.kept("ann1", "ann0") == [{}, {"experiment__0": "b"}]


def refusal(running: RunningService) -> grpc.RpcError | None:
    """What a lookup is refused with, if it is."""
    try:
        running.client.get("course", "c")
    except grpc.RpcError as error:
        return error
    return None


def test_redis_down_and_back_loses_nothing(tmp_path: Path, server: RedisServer) -> None:
    with running_service(DOMAIN_FILE, tmp_path, store=over(server)) as running:
        first = running.client.ingest(click("before"))
        assert clicks(running, first.log_position) == 1

        server.kill()
        during = running.client.ingest(*(click(f"during{n}") for n in range(100)))
        assert during.accepted == 100
        # What Redis said last counts for a moment.
        refused = eventually(lambda: refusal(running), "a lookup that is refused")
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert error_from_rpc(refused).reason == "STORE_UNAVAILABLE"
        eventually(
            lambda: running.metric("podium_feature_apply_paused", reason="STORE_UNAVAILABLE"),
            "a pause that is told",
        )

        server.start()
        eventually(lambda: is_found(running), "lookups that work again")
        assert clicks(running, during.log_position) == 101
        # A duplicate that came while nobody could know it is found when it is applied.
        server.kill()
        twice = running.client.ingest(click("during0"), click("new"))
        server.start()
        eventually(lambda: is_found(running), "lookups that work again")
        assert clicks(running, twice.log_position) == 102
        eventually(
            lambda: not running.metric("podium_feature_apply_paused", reason="STORE_UNAVAILABLE"),
            "no pause any more",
        )


def test_an_emptied_redis_is_filled_again_from_the_log(tmp_path: Path, server: RedisServer) -> None:
    with running_service(DOMAIN_FILE, tmp_path, store=over(server)) as running:
        events = [click(f"{n}", course=f"c{n % 5}") for n in range(500)]
        position = running.client.ingest(*events).log_position
        assert clicks(running, position, "c3") == 100

        server.kill()
        server.empty()
        server.start()

        later = running.client.ingest(click("later", course="c3"), events[0])
        eventually(lambda: is_found(running), "lookups that work again")
        assert clicks(running, later.log_position, "c3") == 101
        assert clicks(running, later.log_position, "c0") == 100


def test_too_much_unapplied_is_refused_while_redis_is_down(
    tmp_path: Path, server: RedisServer
) -> None:
    limits = IngestLimits(max_unapplied_events=50)
    with running_service(DOMAIN_FILE, tmp_path, store=over(server), limits=limits) as running:
        server.kill()
        assert running.client.ingest(*(click(f"{n}") for n in range(60))).accepted == 60
        with pytest.raises(grpc.RpcError) as refused:
            running.client.ingest(click("more"))
        assert error_from_rpc(refused.value).reason == "APPLY_BACKLOG"

        server.start()
        eventually(lambda: is_found(running), "lookups that work again")
        assert clicks(running, 60) == 60
        eventually(lambda: is_taken(running, click("more")), "room for events")


def test_two_replicas_over_one_redis_apply_an_event_once(
    tmp_path: Path, server: RedisServer
) -> None:
    options = over(server)
    with (
        running_service(DOMAIN_FILE, tmp_path / "one", store=options) as one,
        running_service(DOMAIN_FILE, tmp_path / "two", store=options) as two,
    ):
        mine = [click(f"one{n}") for n in range(200)]
        theirs = [click(f"two{n}") for n in range(200)]
        one_end = one.client.ingest(*mine).log_position
        two_end = two.client.ingest(*theirs).log_position
        for running, end in ((one, one_end), (two, two_end)):
            clicks(running, end)
        # Told at once, since the other replica has applied it.
        known = two.client.ingest(*mine[:50])
        assert (known.accepted, known.duplicates) == (0, 50)
        for running in (one, two):
            eventually(lambda running=running: clicks(running, 0) == 400, "both replicas' events")
        # Unknown to both when they come: whoever applies it first has it.
        server.kill()
        raced = [click(f"raced{n}") for n in range(20)]
        one_end = one.client.ingest(*raced).log_position
        two_end = two.client.ingest(*raced).log_position
        server.start()
        for running, end in ((one, one_end), (two, two_end)):
            eventually(lambda running=running: is_found(running), "lookups that work again")
            clicks(running, end)
        for running in (one, two):
            assert clicks(running, 0) == 420

    kept: list[str] = []
    for name in ("one", "two"):
        directory = tmp_path / name / "log"
        marked = read_duplicate_marks(directory)
        records = [LoggedEvent.FromString(data) for _, data in read_log(directory)]
        kept += [r.event.event_id for r in records if not r.duplicate and r.arrival not in marked]
    assert sorted(kept) == sorted(e.event_id for e in (*mine, *theirs, *raced))
