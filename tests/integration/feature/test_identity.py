"""Alias and EraseUser of a real service: who signs in keeps a history, who is erased has none."""

from __future__ import annotations

import grpc
import pytest

from podium.common.v1.common_pb2 import Actor
from podium.event.v1.event_pb2 import Alias as EventAlias
from podium.event.v1.event_pb2 import Event
from podium.feature.v1 import feature_pb2
from services.common.clock import system_clock_ms as now_ms
from services.common.status import error_from_rpc
from tests.support.feature_server import FeatureClient
from tests.support.feature_streams import interaction


def _alias(
    client: FeatureClient, event_id: str, user: str, device: str
) -> feature_pb2.AliasResponse:
    request = feature_pb2.AliasRequest(
        event_id=event_id, actor=Actor(user_id=user, device_id=device)
    )
    return client.stub.Alias(request, timeout=30)


def test_a_visitor_who_signs_in_keeps_the_history_of_the_device(client: FeatureClient) -> None:
    def click(event_id: str, user: str, course: str) -> Event:
        event = interaction(event_id, "click", now_ms(), user, f"course:{course}")
        event.actor.device_id = "a-phone"
        return event

    client.ingest(click("a-1", "", "a-c1"), click("a-2", "a-ann", "a-c2"))
    first = _alias(client, "a-login", "a-ann", "a-phone")
    (ann, phone) = client.get("user", "a-ann", "device:a-phone", position=first.log_position)
    client.ingest(click("a-3", "", "a-c3"))
    again = _alias(client, "a-login", "a-ann", "a-phone")
    (ann_later, phone_later) = client.get(
        "user", "a-ann", "device:a-phone", position=again.log_position
    )

    assert (first.duplicate, again.duplicate) == (False, True)
    assert ann["recent_courses"] == (["a-c1", "a-c2"], "PRESENT")
    assert ann["user_clicks_7d"] == (2, "PRESENT")
    assert phone["user_clicks_7d"] == (0, "NOT_FOUND")
    # A repeated call merges nothing: what the device did since is its own.
    assert ann_later["user_clicks_7d"] == (2, "PRESENT")
    assert phone_later["user_clicks_7d"] == (1, "PRESENT")

    with pytest.raises(grpc.RpcError) as conflict:
        _alias(client, "a-login", "a-bob", "a-phone")
    assert conflict.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_from_rpc(conflict.value).reason == "EVENT_ID_CONFLICT"


@pytest.mark.parametrize(
    ("event_id", "user", "device", "field"),
    [
        ("", "u", "d", "event_id"),
        ("e" * 129, "u", "d", "event_id"),
        ("e", "", "d", "actor.user_id"),
        ("e", "u", "", "actor.device_id"),
        ("e", "device:u", "d", "actor.user_id"),
        ("e", "", "", "actor"),
    ],
)
def test_an_alias_names_both(
    client: FeatureClient, event_id: str, user: str, device: str, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        _alias(client, event_id, user, device)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_from_rpc(refused.value).message.startswith(f"{field}: ")


def test_a_user_is_forgotten(client: FeatureClient) -> None:
    clicks = [
        interaction(f"x-{user}", "click", now_ms(), user, "course:x-c")
        for user in ("x-ann", "x-bob")
    ]
    client.ingest(*clicks)
    request = feature_pb2.EraseUserRequest(event_id="x-1", actor=Actor(user_id="x-ann"))
    first = client.stub.EraseUser(request, timeout=30)
    gone, bob = client.get("user", "x-ann", "x-bob", position=first.log_position)
    (course,) = client.get("course", "x-c")
    later = client.ingest(interaction("x-2", "click", now_ms(), "x-ann", "course:x-c"))
    again = client.stub.EraseUser(request, timeout=30)
    (back,) = client.get("user", "x-ann", position=max(later.log_position, again.log_position))

    assert (first.duplicate, again.duplicate) == (False, True)
    assert gone["user_clicks_7d"] == (0, "NOT_FOUND")
    assert bob["user_clicks_7d"] == (1, "PRESENT")
    assert course["clicks_1h"] == (2, "PRESENT")
    # What comes later begins a new history, which a repeated call does not touch.
    assert back["user_clicks_7d"] == (1, "PRESENT")

    for event_id, actor in (("", Actor(user_id="u")), ("e", Actor())):
        request = feature_pb2.EraseUserRequest(event_id=event_id, actor=actor)
        with pytest.raises(grpc.RpcError) as refused:
            client.stub.EraseUser(request, timeout=30)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_alias_does_not_come_by_ingest(client: FeatureClient) -> None:
    event = Event(event_id="by-ingest", type="alias", alias=EventAlias())
    event.event_time.FromMilliseconds(now_ms())
    event.actor.CopyFrom(Actor(user_id="u", device_id="d"))
    (refused,) = client.ingest(event).rejections
    assert (refused.reason, refused.message.split(":")[0]) == (
        "INVALID_ARGUMENT",
        "events[0].payload",
    )
