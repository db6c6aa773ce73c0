"""Events that a real service takes: what is stored of them, applied and served."""

from __future__ import annotations

import os
import sys

import pytest

from podium.common.v1.common_pb2 import TrafficClass
from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.clock import system_clock_ms as now_ms
from services.common.event_log import read_log
from services.feature.views.generation import APPLY_NICENESS
from tests.support.eventually import eventually
from tests.support.feature_server import (
    FeatureClient,
    RunningService,
)
from tests.support.feature_streams import (
    interaction,
    purchase_event,
    refund_event,
    upsert_event,
)


def test_accepted_events_show_in_features(client: FeatureClient) -> None:
    bought = purchase_event("f-buy", now_ms(), 900, "f-ann", "course:f-c1", "host:f-h1")
    response = client.ingest(
        interaction("f-click", "click", now_ms() - 1_000, "f-ann", "course:f-c1", "host:f-h1"),
        bought,
    )
    assert (response.accepted, response.duplicates, list(response.rejections)) == (2, 0, [])

    ann, nobody = client.get("user", "f-ann", "f-nobody", position=response.log_position)
    (host,) = client.get("host", "f-h1")

    assert ann["recent_courses"] == (["f-c1", "f-c1"], "PRESENT")
    assert ann["recent_actions"] == (["click", "purchase"], "PRESENT")
    assert ann["user_spend_30d"] == (900, "PRESENT")
    assert ann["user_purchases_30d"] == (1, "PRESENT")
    assert ann["user_purchase_recency"][1] == "PRESENT"
    assert nobody["user_spend_30d"] == (0, "NOT_FOUND")
    assert nobody["user_purchase_recency"] == (31_536_000.0, "NOT_FOUND")
    assert host["purchases_30d"] == (1, "PRESENT")
    assert host["title"] == ("", "NULL")

    response = client.ingest(refund_event("f-refund", now_ms(), 900, bought))
    (ann,) = client.get("user", "f-ann", position=response.log_position)
    assert (ann["user_spend_30d"][0], ann["user_purchases_30d"][0]) == (0, 0)


def test_anonymous_visitors_are_known_by_device(client: FeatureClient) -> None:
    event = interaction("d-1", "click", now_ms(), "", "course:d-c1")
    event.actor.device_id = "d-phone"
    response = client.ingest(event)

    (row,) = client.get("user", "device:d-phone", position=response.log_position)

    assert row["user_clicks_7d"] == (1, "PRESENT")


def test_an_event_is_stored_once(client: FeatureClient) -> None:
    event = interaction("once", "click", now_ms(), "once-ann", "course:once-c")
    other = interaction("once", "click", now_ms(), "once-bob", "course:once-c")
    copy = Event.FromString(event.SerializeToString())

    first = client.ingest(event, copy)
    # Once known from memory, once from the store.
    second = client.ingest(event, other)
    (row,) = client.get("course", "once-c", position=first.log_position)
    third = client.ingest(event, other)

    assert (first.accepted, first.duplicates) == (1, 1)
    for response in (second, third):
        assert (response.accepted, response.duplicates) == (0, 1)
        (conflict,) = response.rejections
        assert (conflict.index, conflict.event_id, conflict.reason) == (
            1,
            "once",
            "EVENT_ID_CONFLICT",
        )
    assert row["clicks_1h"] == (1, "PRESENT")


def test_unknown_types_and_other_traffic_are_kept_and_change_nothing(
    running: RunningService,
) -> None:
    unknown = interaction("u-unknown", "levitate", now_ms(), "u-ann", "course:u-c")
    load = interaction("u-load", "click", now_ms(), "u-ann", "course:u-c")
    load.traffic_class = TrafficClass.TRAFFIC_CLASS_LOAD
    response = running.client.ingest(unknown, load)
    assert response.accepted == 2

    (row,) = running.client.get("course", "u-c", position=response.log_position)

    assert {status for _, status in row.values()} == {"NOT_FOUND"}
    stored = [LoggedEvent.FromString(data) for _, data in read_log(running.files.log_dir)]
    assert {"u-unknown", "u-load"} <= {record.event.event_id for record in stored}


def slate_event(event_id: str, time_ms: int) -> Event:
    event = interaction(event_id, "slate_served", time_ms, "late-ann")
    event.slate_served.surface = "courses"
    return event


def test_events_that_come_too_late_are_kept_marked_and_not_applied(
    running: RunningService,
) -> None:
    client, day_ms = running.client, 86_400_000
    bought = purchase_event("late-buy", now_ms() - day_ms + 60_000, 9, "late-ann", "course:late-e")
    response = client.ingest(
        interaction("late", "click", now_ms() - day_ms - 1_000, "late-ann", "course:late-c"),
        interaction("in-time", "click", now_ms() - day_ms + 60_000, "late-ann", "course:late-e"),
        upsert_event("late-upsert", now_ms() - 90 * day_ms, "course:late-d", title="Old"),
        bought,
        refund_event("refund-in-time", now_ms() - 59 * day_ms, 4, bought),
        refund_event("late-refund", now_ms() - 61 * day_ms, 5, bought),
        # A spool may have waited out a long outage.
        slate_event("slate-in-time", now_ms() - 59 * day_ms),
        slate_event("late-slate", now_ms() - 61 * day_ms),
    )
    assert (response.accepted, response.too_late) == (8, 3)

    late, old, known = client.get(
        "course", "late-c", "late-d", "late-e", position=response.log_position
    )
    (ann,) = client.get("user", "late-ann")
    stored = [LoggedEvent.FromString(data) for _, data in read_log(running.files.log_dir)]

    assert late["clicks_7d"][1] == "NOT_FOUND"
    assert old["title"] == ("Old", "PRESENT")
    assert known["clicks_7d"] == (1, "PRESENT")
    assert ann["user_spend_30d"] == (5, "PRESENT")
    assert {record.event.event_id for record in stored if record.too_late} == {
        "late",
        "late-refund",
        "late-slate",
    }
    assert running.metric("podium_feature_events_total", outcome="too_late") == 3


def test_duplicates_are_kept_marked_and_not_applied(running: RunningService) -> None:
    client = running.client
    event = interaction("twice", "click", now_ms(), "twice-ann", "course:twice-c")
    before = running.metric("podium_feature_events_total", outcome="duplicate")
    first = client.ingest(event)
    second = client.ingest(event, event)

    (row,) = client.get("course", "twice-c", position=second.log_position)
    marks = [
        record.duplicate
        for record in (LoggedEvent.FromString(d) for _, d in read_log(running.files.log_dir))
        if record.event.event_id == "twice"
    ]

    assert (second.accepted, second.duplicates) == (0, 2)
    assert second.log_position == first.log_position + 2
    assert row["clicks_7d"] == (1, "PRESENT")
    assert marks == [False, True, True]
    assert running.metric("podium_feature_events_total", outcome="duplicate") == before + 2


def test_no_file_holds_a_raw_id(running: RunningService) -> None:
    raw_user, raw_device = "raw-user-4711", "raw-device-4711"
    events = [interaction("p-1", "click", now_ms(), raw_user, "course:p-c")]
    events.append(interaction("p-2", "click", now_ms(), "", "course:p-c"))
    events[1].actor.device_id = raw_device
    response = running.client.ingest(*events)
    rows = running.client.get(
        "user", raw_user, f"device:{raw_device}", position=response.log_position
    )
    assert [row["user_clicks_7d"][0] for row in rows] == [1, 1]

    written = [
        path.read_bytes()
        for directory in (running.files.log_dir, running.files.store_dir)
        for path in directory.rglob("*")
        if path.is_file()
    ]

    assert any(b"p-c" in data for data in written)
    for raw in (raw_user, raw_device):
        assert not any(raw.encode() in data for data in written)


@pytest.mark.skipif(sys.platform != "linux", reason="the nice values of Linux")
def test_the_applying_process_gives_way_to_the_serving_one(running: RunningService) -> None:
    pid = running.service.apply.pid
    assert pid is not None
    own = os.getpriority(os.PRIO_PROCESS, 0)
    eventually(
        lambda: os.getpriority(os.PRIO_PROCESS, pid) == min(own + APPLY_NICENESS, 19),
        "a process that is nicer",
    )


def test_a_killed_applying_process_is_replaced_and_counts_nothing_twice(
    running: RunningService,
) -> None:
    client = running.client
    accepted = 0
    for batch in range(6):
        accepted += client.ingest(
            *(
                interaction(f"k-{batch}-{n}", "click", now_ms(), f"k-{n % 7}", "course:k-c")
                for n in range(200)
            )
        ).accepted
        if batch in (1, 3):
            pid = running.service.apply.pid
            assert pid is not None
            running.service.apply.kill()
            eventually(lambda old=pid: running.service.apply.pid != old, "another process")
    response = client.ingest(interaction("k-last", "click", now_ms(), "k-0", "course:k-d"))

    course, *_ = client.get("course", "k-c", position=response.log_position)
    users = client.get("user", *(f"k-{n}" for n in range(7)))

    assert accepted == 1_200
    assert course["clicks_1h"] == (1_200, "PRESENT")
    assert sum(int(row["user_clicks_7d"][0]) for row in users) == 1_201  # type: ignore[arg-type]
