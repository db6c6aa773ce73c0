"""Requests that a real service refuses as a whole."""

from __future__ import annotations

import grpc
import pytest

from podium.event.v1.event_pb2 import Event
from podium.feature.v1 import feature_pb2
from services.common.status import error_from_rpc
from tests.support.feature_server import (
    FeatureClient,
    RunningService,
)


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (feature_pb2.IngestRequest(), "events"),
        (feature_pb2.IngestRequest(events=[Event()] * 1_001), "events"),
        (feature_pb2.IngestRequest(events=[Event()], producer="p" * 129), "producer"),
        (feature_pb2.IngestRequest(events=[Event()], first_sequence=0), "first_sequence"),
        (
            feature_pb2.IngestRequest(events=[Event()] * 2, producer="p", first_sequence=2**63 - 1),
            "first_sequence: is 9223372036854775807, must be 0 to",
        ),
    ],
)
def test_a_bad_request_is_refused(
    client: FeatureClient, request_message: feature_pb2.IngestRequest, field: str
) -> None:
    with pytest.raises(grpc.RpcError, match=field) as caught:
        client.stub.Ingest(request_message, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_view_name_without_end_is_refused_not_repeated(client: FeatureClient) -> None:
    # A message of that size would not fit the trailers, and reach the caller as another error.
    endless = "x" * 100_000
    for field in ("entity_type", "view_name", "view_hash"):
        request = client.request("user", "ann")
        setattr(request, field, endless)
        with pytest.raises(grpc.RpcError, match=f"{field}: has 100000 bytes") as caught:
            client.stub.GetFeatures(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    watch = feature_pb2.WatchEntitiesRequest(views=[feature_pb2.EntityView(entity_type=endless)])
    with pytest.raises(grpc.RpcError, match=r"views\[0\]\.entity_type") as caught:
        next(iter(client.stub.WatchEntities(watch, timeout=10)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_undecodable_bytes_are_an_invalid_argument(running: RunningService) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        call = channel.unary_unary("/podium.feature.v1.FeatureService/Ingest")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_views_are_known_by_hash(client: FeatureClient) -> None:
    wrong_hash = client.request("user", "ann")
    wrong_hash.view_hash = "0" * 64
    wrong_type = client.request("user", "ann")
    wrong_type.entity_type = "planet"
    too_many = client.request("course", *["c"] * 1_001)

    reasons = []
    for request in (wrong_hash, wrong_type, too_many):
        with pytest.raises(grpc.RpcError) as caught:
            client.stub.GetFeatures(request, timeout=10)
        reasons.append((caught.value.code().name, error_from_rpc(caught.value).reason))

    assert reasons == [
        ("FAILED_PRECONDITION", "UNKNOWN_FEATURE_VIEW"),
        ("NOT_FOUND", "UNKNOWN_ENTITY_TYPE"),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ]
