"""Calls a deployed Podium through its Services: ingest, rank, check; fails when a call does."""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time

import grpc

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc

COURSES = 40
# A pod that drains answers UNAVAILABLE, or closes the connection: the client library asks another.
RETRIES = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)


def channel(target: str) -> grpc.Channel:
    return grpc.insecure_channel(target, options=[("grpc.service_config", RETRIES)])


def course_event(index: int) -> event_pb2.Event:
    event = event_pb2.Event(event_id=f"smoke-course-{index}", type="entity_upsert")
    event.event_time.GetCurrentTime()
    event.entities.add(type="course", id=f"smoke-{index}")
    upsert = event.entity_upsert
    upsert.attributes["title"].string_value = f"Smoke course {index}"
    upsert.attributes["host_id"].string_value = f"smoke-host-{index}"
    upsert.attributes["category"].string_value = "music"
    upsert.price.amount_minor, upsert.price.currency_code = 1000 + index, "USD"
    upsert.seats_left = 10
    return event


def click_event(index: int) -> event_pb2.Event:
    event = event_pb2.Event(event_id=f"smoke-click-{index}", type="click", surface="courses")
    event.event_time.GetCurrentTime()
    event.actor.user_id = f"smoke-user-{index % 10}"
    event.entities.add(type="course", id=f"smoke-{index % COURSES}")
    return event


def ingest() -> None:
    stub = feature_pb2_grpc.FeatureServiceStub(channel("feature:50051"))
    events = [course_event(i) for i in range(COURSES)] + [click_event(i) for i in range(100)]
    response = stub.Ingest(feature_pb2.IngestRequest(events=events), timeout=10)
    print(f"ingested {response.accepted}, duplicates {response.duplicates}")
    assert response.accepted + response.duplicates == len(events), response.rejections


def rank(calls: int, pause_ms: int) -> None:
    stub = ranker_pb2_grpc.RankerServiceStub(channel("dns:///ranker-headless:50052"))
    assign = experiment_pb2_grpc.ExperimentServiceStub(channel("experiment:50053"))
    statuses: collections.Counter[str] = collections.Counter()
    degraded: collections.Counter[str] = collections.Counter()
    shown = 0
    # The catalogue reaches a ranker within moments of its ingestion, not before it.
    give_up = time.monotonic() + 30
    while not rank_once(stub, "smoke-user-0").slate.ids and time.monotonic() < give_up:
        time.sleep(0.2)
    for index in range(calls):
        user = f"smoke-user-{index % 10}"
        try:
            response = rank_once(stub, user)
        except grpc.RpcError as error:
            statuses[error.code().name] += 1
            print(f"call {index}: {error.code().name} {error.details()}", file=sys.stderr)
            continue
        statuses["OK"] += 1
        shown += len(response.slate.ids)
        degraded.update(ranker_pb2.Degradation.Part.Name(part.part) for part in response.degraded)
        time.sleep(pause_ms / 1000)
    actor = common_pb2.Actor(user_id="smoke-user-0")
    assigned = assign.Assign(experiment_pb2.AssignRequest(actor=actor), timeout=5)
    print(f"ranked {calls} times: {dict(statuses)}, {shown} items, degraded {dict(degraded)}")
    print("assigned:", [(a.experiment_key, a.variant_key) for a in assigned.assignments])
    assert statuses == {"OK": calls}, "a call failed"
    assert shown == 10 * calls, "a slate was short"


def rank_once(stub: ranker_pb2_grpc.RankerServiceStub, user: str) -> ranker_pb2.RankResponse:
    actor = common_pb2.Actor(user_id=user)
    request = ranker_pb2.RankRequest(actor=actor, surface="courses", k=10)
    return stub.Rank(request, timeout=10)


def check() -> None:
    """Everything ingested before is known by its id: sending it again stores nothing."""
    stub = feature_pb2_grpc.FeatureServiceStub(channel("feature:50051"))
    again = [click_event(index) for index in range(100)]
    response = stub.Ingest(feature_pb2.IngestRequest(events=again), timeout=30, wait_for_ready=True)
    print(f"sent again: {response.accepted} accepted anew")
    assert response.accepted == 0, "an acknowledged event was lost"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["ingest", "rank", "check"])
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--pause-ms", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "ingest":
        ingest()
    elif arguments.what == "rank":
        rank(arguments.calls, arguments.pause_ms)
    else:
        check()


main()
