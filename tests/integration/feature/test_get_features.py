"""GetFeatures of a real service: every kind of value and status, as the proto says it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import yaml

from podium.feature.v1 import feature_pb2
from services.common.clock import system_clock_ms as now_ms
from services.common.convert_feature_block import block_columns
from tests.support.eventually import eventually
from tests.support.feature_server import FeatureClient, RunningService, running_service
from tests.support.feature_streams import interaction
from tests.support.feature_worlds import world_with
from tests.support.world_streams import attributed, profile_event, upsert_of

FEATURES: dict[str, Any] = {
    "segment": {"kind": "attribute", "entities": ["user"], "ttl": "1h"},
    "interests": {"kind": "attribute", "entities": ["user"]},
    "taste": {"kind": "attribute", "entities": ["user"]},
    "clicks": {
        "kind": "count",
        "entities": ["user", "course", "category", "user_course"],
        "events": ["click"],
        "window": "1d",
    },
    "watched_ms": {
        "kind": "mean",
        "entities": ["user", "user_course"],
        "events": ["watch"],
        "value": "duration_ms",
        "window": "1d",
    },
    "age_s": {"kind": "recency", "entities": ["user"], "events": ["click"]},
    "depth": {
        "kind": "expression",
        "entities": ["user_course"],
        "formula": "watched_ms / clicks",
        "default": -1,
    },
    "courses": {
        "kind": "pairs",
        "entities": ["user"],
        "events": ["click"],
        "of": "user_course",
        "limit": 2,
    },
    "course_clicks": {
        "kind": "pairs",
        "entities": ["user"],
        "events": ["click"],
        "of": "user_course",
        "limit": 2,
        "emit": "clicks",
    },
    "title": {"kind": "attribute", "entities": ["course"]},
    "embedding": {"kind": "attribute", "entities": ["course"]},
}
STATUS = {1: "PRESENT", 2: "NULL", 3: "NOT_FOUND", 4: "STALE"}
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    directory = tmp_path_factory.mktemp("features")
    domain_file = directory / "domain.yaml"
    described = world_with(FEATURES).model_dump(mode="json", exclude_defaults=True)
    domain_file.write_text(yaml.safe_dump(described, sort_keys=False))
    with running_service(domain_file, directory) as service:
        yield service


@pytest.fixture(scope="module")
def client(running: RunningService) -> FeatureClient:
    return running.client


def answer(
    client: FeatureClient, request: feature_pb2.GetFeaturesRequest, position: int
) -> feature_pb2.GetFeaturesResponse:
    """The answer to a request once everything before ``position`` is applied."""
    found: list[feature_pb2.GetFeaturesResponse] = []

    def applied() -> bool:
        found[:] = [client.stub.GetFeatures(request, timeout=30)]
        return found[0].log_position >= position

    eventually(applied, f"applying the log up to {position}")
    return found[0]


def cells(response: feature_pb2.GetFeaturesResponse) -> list[dict[str, tuple[Any, str, int]]]:
    """(value, status, event time) by name of every row, read by the words of the proto alone."""
    block = response.block
    rows, width = block.rows, 0
    values: list[list[tuple[str, Any]]] = [[] for _ in range(rows)]
    for names, packed, code, size in (
        (block.float_features, block.float_values, "f", 4),
        (block.int_features, block.int_values, "q", 8),
    ):
        assert len(packed) == rows * len(names) * size
        flat = struct.unpack(f"<{rows * len(names)}{code}", packed)
        for row in range(rows):
            start = row * len(names)
            values[row] += zip(names, flat[start : start + len(names)], strict=True)
    count = len(block.string_features)
    assert len(block.string_values) == rows * count
    for row in range(rows):
        start = row * count
        values[row] += zip(
            block.string_features, block.string_values[start : start + count], strict=True
        )
    count = len(block.list_features)
    offsets = struct.unpack(f"<{len(block.list_offsets) // 4}i", block.list_offsets)
    assert len(offsets) == (rows * count + 1 if count else 0)
    for row in range(rows):
        for place, name in enumerate(block.list_features):
            cell = row * count + place
            values[row].append((name, list(block.list_values[offsets[cell] : offsets[cell + 1]])))
    elements = struct.unpack(f"<{len(block.vector_values) // 4}f", block.vector_values)
    assert len(elements) == rows * sum(block.vector_dims)
    taken = iter(elements)
    for row in range(rows):
        for name, dim in zip(block.vector_features, block.vector_dims, strict=True):
            values[row].append((name, [next(taken) for _ in range(dim)]))
    width = len(values[0])
    statuses = block.statuses or b"\1" * (rows * width)
    times = struct.unpack(f"<{len(response.event_times_ms) // 8}q", response.event_times_ms)
    assert len(statuses) == rows * width
    assert len(times) in (0, rows * width)
    return [
        {
            name: (
                value,
                STATUS[statuses[row * width + place]],
                times[row * width + place] if times else 0,
            )
            for place, (name, value) in enumerate(values[row])
        }
        for row in range(rows)
    ]


def test_a_row_has_values_statuses_and_times_of_every_kind(client: FeatureClient) -> None:
    now = now_ms()
    at = {name: now - age for name, age in (("old", 2 * HOUR_MS), ("a", 3_000), ("b", 2_000))}
    receipt = client.ingest(
        upsert_of("k-c", at["old"], "course:k-c1", category="music", title="One"),
        profile_event(
            "k-p", at["old"], "k-ann", segment="new", interests=["x", "y"], taste=[0.5, 1.0, -2.0]
        ),
        interaction("k-1", "click", at["a"], "k-ann", "course:k-c1"),
        interaction("k-2", "click", at["a"] + 1, "k-ann", "course:k-c1"),
        interaction("k-3", "click", at["b"], "k-ann", "course:k-c2"),
        attributed(interaction("k-4", "watch", at["b"], "k-ann", "course:k-c1"), duration_ms=500),
    )
    request = client.request("user", "k-ann", "k-nobody")
    request.include_event_times = True
    response = answer(client, request, receipt.log_position)
    ann, nobody = cells(response)

    evaluated_ms = response.evaluated_at.ToMilliseconds()
    age_s, status, age_ms = ann.pop("age_s")
    assert (age_s, status, age_ms) == (
        pytest.approx((evaluated_ms - at["b"]) / 1000, abs=1e-3), "PRESENT", at["b"],
    )  # fmt: skip
    assert ann == {
        "watched_ms": (500.0, "PRESENT", at["b"]),
        "clicks": (3, "PRESENT", at["b"]),
        "segment": ("", "STALE", at["old"]),
        "recent": (["k-c1", "k-c1", "k-c2", "k-c1"], "PRESENT", at["b"]),
        "actions": (["click", "click", "watch"], "PRESENT", at["b"]),
        "interests": (["x", "y"], "PRESENT", at["old"]),
        "taste": ([0.5, 1.0, -2.0], "PRESENT", at["old"]),
        "courses": (["k-c2", "k-c1"], "PRESENT", at["b"]),
        "course_clicks": ([1.0, 2.0], "PRESENT", at["b"]),
    }
    assert {(status, event_ms) for _, status, event_ms in nobody.values()} == {("NOT_FOUND", 0)}
    assert nobody["taste"][0] == [0.0, 0.0, 0.0]
    assert nobody["courses"][0] == []


def test_times_come_only_when_asked_for(client: FeatureClient) -> None:
    response = client.stub.GetFeatures(client.request("course", "t-c"), timeout=30)
    assert response.event_times_ms == b""


def test_statuses_are_absent_when_all_are_present(client: FeatureClient) -> None:
    receipt = client.ingest(
        upsert_of("s-c", now_ms(), "course:s-c1", title="One", embedding=[1.0, 2.0])
    )
    response = answer(client, client.request("course", "s-c1"), receipt.log_position)

    assert response.block.statuses == b""
    assert cells(response)[0]["embedding"] == ([1.0, 2.0], "PRESENT", 0)
    assert block_columns(response.block).values(0)["embedding"] == [1.0, 2.0]


def test_an_event_counts_for_the_category_of_its_course(client: FeatureClient) -> None:
    now = now_ms()
    receipt = client.ingest(
        upsert_of("g-c", now - 10, "course:g-c1", category="g-art"),
        interaction("g-1", "click", now, "g-ann", "course:g-c1"),
    )
    response = answer(client, client.request("category", "g-art"), receipt.log_position)
    assert cells(response)[0]["clicks"][:2] == (1, "PRESENT")


def pair_request(
    client: FeatureClient, users: list[str], others: list[str]
) -> feature_pb2.GetFeaturesRequest:
    request = client.request("user_course", *users)
    request.pair_ids.extend(others)
    return request


def test_pairs_are_asked_for_by_both_their_ids(client: FeatureClient) -> None:
    now = now_ms()
    receipt = client.ingest(
        interaction("q-1", "click", now, "q-ann", "course:q-c1"),
        attributed(interaction("q-2", "watch", now, "q-ann", "course:q-c1"), duration_ms=300),
        attributed(interaction("q-3", "watch", now, "q-bob", "course:q-c1"), duration_ms=200),
    )
    request = pair_request(client, ["q-ann", "q-bob", "q-bob"], ["q-c1", "q-c1", "q-c2"])
    ann, bob, nothing = cells(answer(client, request, receipt.log_position))

    assert [found["clicks"][:2] for found in (ann, bob, nothing)] == [
        (1, "PRESENT"), (0, "PRESENT"), (0, "NOT_FOUND"),
    ]  # fmt: skip
    assert [found["depth"][:2] for found in (ann, bob, nothing)] == [
        (300.0, "PRESENT"), (-1.0, "NULL"), (-1.0, "NOT_FOUND"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entity", "ids", "pair_ids", "field"),
    [
        ("user_course", ["a", "b"], ["c"], "pair_ids"),
        ("user_course", ["a"], [], "pair_ids"),
        ("user_course", ["a"], ["c", "d"], "pair_ids"),
        ("user_course", ["a"], [""], "pair_ids[0]"),
        ("user_course", [""], ["c"], "ids[0]"),
        ("user_course", ["a"], ["c" * 129], "pair_ids[0]"),
        ("course", ["a"], ["c"], "pair_ids"),
        ("user", ["a"], ["c"], "pair_ids"),
        ("course", [], [], "ids"),
        ("course", ["a"] * 1_001, [], "ids"),
    ],
)
def test_ids_that_do_not_fit_the_type_are_refused(
    client: FeatureClient, entity: str, ids: list[str], pair_ids: list[str], field: str
) -> None:
    request = client.request(entity, *ids)
    request.pair_ids.extend(pair_ids)
    with pytest.raises(grpc.RpcError) as raised:
        client.stub.GetFeatures(request, timeout=30)
    assert raised.value.code().name == "INVALID_ARGUMENT"
    assert raised.value.details().startswith(f"{field}: ")


def test_a_thousand_rows_come_in_request_order(client: FeatureClient) -> None:
    now = now_ms()
    receipt = client.ingest(
        *(
            interaction(f"m-{number}", "click", now, "m-ann", f"course:m-{number}")
            for number in range(0, 1_000, 7)
        )
    )
    ids = [f"m-{number}" for number in range(1_000)]
    response = answer(client, client.request("course", *ids), receipt.log_position)
    rows = cells(response)

    assert len(rows) == 1_000
    assert [row["clicks"][0] for row in rows] == [int(n % 7 == 0) for n in range(1_000)]
    assert [row["clicks"][1] == "PRESENT" for row in rows] == [n % 7 == 0 for n in range(1_000)]
