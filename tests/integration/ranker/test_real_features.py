"""The ranker with the real feature service: events in, a slate out, the slate in the log."""

from __future__ import annotations

import time
from pathlib import Path

import grpc

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.domain import Domain
from services.common.event_log import read_log
from tests.integration.ranker.conftest import make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureService


def _event(kind: str, number: int, **fields: object) -> event_pb2.Event:
    event = event_pb2.Event(event_id=f"{kind}-{number}", type=kind, **fields)
    event.event_time.FromMilliseconds(time.time_ns() // 1_000_000 - 1_000)
    return event


def _course(number: int) -> event_pb2.Event:
    attributes = {
        "title": common_pb2.AttributeValue(string_value=f"Course {number}"),
        "host_id": common_pb2.AttributeValue(string_value=f"host_{number % 6}"),
        "level": common_pb2.AttributeValue(int_value=number % 4),
    }
    upsert = event_pb2.EntityUpsert(attributes=attributes, seats_left=int(number != 3))
    entity = common_pb2.EntityRef(type="course", id=f"course_{number}")
    return _event("entity_upsert", number, entities=[entity], entity_upsert=upsert)


def _purchase(number: int) -> event_pb2.Event:
    purchase = event_pb2.Purchase(
        order_id="o1",
        line_id="1",
        amount=common_pb2.Money(amount_minor=500, currency_code="USD"),
    )
    return _event(
        "purchase",
        number,
        actor=common_pb2.Actor(user_id="ann"),
        entities=[
            common_pb2.EntityRef(type="course", id=f"course_{number}"),
            common_pb2.EntityRef(type="host", id=f"host_{number % 6}"),
        ],
        purchase=purchase,
    )


def test_events_become_a_slate_and_the_slate_an_event(
    tmp_path: Path, tiny_bundles: Path, domain: Domain, feature_target: str
) -> None:
    unused = FakeFeatureService(domain, {}, {})
    settings = make_settings(tmp_path, tiny_bundles, feature_target)
    with (
        grpc.insecure_channel(feature_target) as channel,
        running_ranker(settings, unused) as ranker,
    ):
        stub = feature_pb2_grpc.FeatureServiceStub(channel)

        def ingest(*events: event_pb2.Event) -> None:
            response = stub.Ingest(feature_pb2.IngestRequest(events=events), timeout=20)
            assert not response.rejections

        ingest(*(_course(n) for n in range(10)))
        sold_out = {"course_3"}
        every = {f"course_{n}" for n in range(10)}
        eventually(lambda: set(ranker.rank("courses").slate.ids) == every - sold_out)
        ingest(_purchase(5))
        eventually(lambda: set(ranker.rank("courses").slate.ids) == every - sold_out - {"course_5"})
        response = ranker.rank("courses", actor=common_pb2.Actor(user_id="bob"))
        assert not response.degraded

        def logged() -> list[event_pb2.Event]:
            records = read_log(tmp_path / "log")
            events = [event_pb2.LoggedEvent.FromString(payload).event for _, payload in records]
            return [event for event in events if event.rank_id == response.rank_id]

        slate, exposure = eventually(lambda: len(logged()) == 2 and logged())
        assert list(slate.slate_served.item_ids) == list(response.slate.ids)
        assert exposure.type == "exposure"
