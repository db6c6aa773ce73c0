"""Slates and exposures at and over their limits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from podium.common.v1.common_pb2 import Assignment
from podium.event.v1.event_pb2 import Event, SlateServed
from services.common.clock import system_clock_ms as now_ms
from tests.support.feature_server import FeatureClient
from tests.support.feature_streams import interaction


def _slate(**parts: Any) -> Event:
    event = interaction("slate", "slate_served", now_ms(), "ann")
    event.slate_served.CopyFrom(SlateServed(surface="courses", **parts))
    return event


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"entity_type": "x" * 65}, "entity_type"),
        ({"bundle_version": "x" * 129}, "bundle_version"),
        ({"policy": "x" * 129}, "policy"),
        ({"feature_view_hash": "x" * 129}, "feature_view_hash"),
        ({"item_ids": ["c"] * 201}, "item_ids"),
        ({"item_ids": ["c", "x" * 129]}, "item_ids[1]"),
        ({"item_ids": [""]}, "item_ids[0]"),
        ({"item_ids": ["c"], "selling_course_ids": ["x" * 129]}, "selling_course_ids[0]"),
        ({"item_ids": ["c"], "sources": ["x" * 65]}, "sources[0]"),
        ({"item_ids": ["c"], "positions": [0, 1]}, "positions"),
        ({"item_ids": ["c"], "positions": [-1]}, "positions[0]"),
        ({"item_ids": ["c"], "prices_minor": [1, 2]}, "prices_minor"),
        ({"item_ids": ["c", "d"], "prices_minor": [-1, -2]}, "prices_minor[1]"),
        ({"item_ids": ["c"], "prices_minor": [10**12 + 1]}, "prices_minor[0]"),
        ({"parent_rank_id": "x" * 129}, "parent_rank_id"),
        ({"objectives": ["o"] * 65}, "objectives"),
        ({"objectives": ["x" * 65]}, "objectives[0]"),
        ({"degraded": ["d"] * 33}, "degraded"),
        ({"degraded": ["x" * 65]}, "degraded[0]"),
        ({"assignments": [Assignment(experiment_key="e")] * 1_001}, "assignments"),
        ({"assignments": [Assignment(experiment_key="e", bucket=1)]}, "assignments[0].bucket"),
    ],
)
def test_a_slate_over_the_limits_is_rejected(
    client: FeatureClient, parts: dict[str, Any], field: str
) -> None:
    (rejection,) = client.ingest(_slate(**parts)).rejections
    assert rejection.code == 3
    assert rejection.message.startswith(f"events[0].slate_served.{field}: ")


def test_the_largest_slate_is_accepted(client: FeatureClient) -> None:
    assignment = Assignment(experiment_key="e" * 128, variant_key="v" * 128, bucket=0.5)
    largest = _slate(
        entity_type="course",
        item_ids=["c" * 128] * 200,
        selling_course_ids=[""] * 200,
        sources=["s" * 64] * 200,
        positions=range(300, 500),
        prices_minor=[-1, 10**12] * 100,
        parent_rank_id="p" * 128,
        objectives=["o" * 64] * 64,
        bundle_version="b" * 128,
        policy="p" * 128,
        degraded=["d" * 64] * 32,
        assignments=[assignment] * 1_000,
    )
    assert client.ingest(largest).accepted == 1


def test_an_exposure_over_the_limits_is_rejected(client: FeatureClient) -> None:
    for assignment, field in (
        (Assignment(), "experiment_key"),
        (Assignment(experiment_key="e", variant_key="x" * 5_000), "variant_key"),
        (Assignment(experiment_key="e", variant_key="v", bucket=math.nan), "bucket"),
    ):
        event = interaction("exposure", "exposure", now_ms(), "ann")
        event.exposure.assignment.CopyFrom(assignment)
        (rejection,) = client.ingest(event).rejections
        assert rejection.message.startswith(f"events[0].exposure.assignment.{field}: ")
