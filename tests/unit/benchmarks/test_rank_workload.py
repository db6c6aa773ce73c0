"""The pinned workload of ``benchmarks.rank``, and its load generator, on a small scale."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks.empty_server import METHOD, EmptyHandler
from benchmarks.load import Load
from benchmarks.rank_kernel import precomputed, run_batch
from benchmarks.rank_workload import (
    DIM,
    OBJECTIVES,
    draw,
    publish_bundle,
    write_bundle,
    write_domain,
    write_log,
    write_whole_ranker,
)
from podium.event.v1 import event_pb2
from services.common.bundle.loaded import GraphSession, LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.event_log import read_log

SHIPPED = Path(__file__).parents[3] / "config" / "live_courses.yaml"


def test_the_workload_is_pinned_and_clustered() -> None:
    first, second = draw(2_000, 5), draw(2_000, 5)
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_array_equal(first.histories, second.histories)
    same = first.items[first.centre_of == first.centre_of[0]]
    assert np.linalg.norm(same - same.mean(axis=0), axis=1).mean() < 0.5 * np.sqrt(DIM)


def test_bundle_and_log_fit_the_workload(tmp_path: Path) -> None:
    workload = draw(3_000, 4)
    domain = write_domain(tmp_path / "domain.yaml", SHIPPED)
    assert list(domain.surfaces) == ["minimal", "default"]
    version = write_bundle(tmp_path / "bundles", domain, workload)
    assert publish_bundle(tmp_path / "bundles", domain, workload, number=1) != version
    bundle = LoadedBundle.load(BundleStore(tmp_path / "bundles").path(version), device="cpu")
    assert bundle.manifest.indexes["course"].kind == "ivf"
    length = bundle.manifest.sequence.length
    items = np.zeros((4, length), np.int64)
    items[:, -workload.histories.shape[1] :] = workload.histories + 1
    vectors = bundle.encode_users(items, items, np.zeros((4, 5), np.float32), np.ones(4, np.int64))
    np.testing.assert_allclose(vectors, workload.user_vectors(), atol=1e-5)
    fields = np.zeros((3_000, len(bundle.manifest.tower_fields)), np.int64)
    column = bundle.manifest.tower_fields.index("course")
    fields[:, column] = bundle.lookup("course", workload.item_ids())
    encoded = bundle.encode_items(
        np.ones(3_000, np.int64),
        fields,
        np.zeros((3_000, len(bundle.manifest.tower_numeric)), np.float32),
    )
    np.testing.assert_array_equal(encoded, bundle.item_vectors["course"])
    run_batch(bundle, precomputed(bundle), vectors)
    write_whole_ranker(tmp_path / "whole.onnx")
    whole = GraphSession(tmp_path / "whole.onnx", threads=1, device="cpu")
    one = {"user_vector": vectors[:1], "owner": np.zeros(9, np.int64)}
    split = bundle.score(
        user_features=np.zeros((1, 5), np.float32),
        item_vector=encoded[:9],
        item_features=np.zeros((9, len(bundle.manifest.item_features)), np.float32),
        position=np.zeros(9, np.int64),
        surface=np.ones(1, np.int64),
        **one,
    )
    together = whole.run({**one, "item_vector": encoded[:9]})
    np.testing.assert_allclose(split, together, atol=1e-6)
    assert [objective.name for objective in bundle.manifest.objectives] == list(OBJECTIVES)
    written = write_log(tmp_path / "log", workload, domain, 1_790_000_000_000)
    types = [
        event_pb2.LoggedEvent.FromString(payload).event.type
        for _, payload in read_log(tmp_path / "log")
    ]
    assert len(types) == written
    assert types.count("entity_upsert") == 3_000
    assert types.count("click") == workload.histories.size


@pytest.fixture
def empty_target() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([EmptyHandler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def test_the_load_generator_counts_answers_and_errors(empty_target: str) -> None:
    load = Load(empty_target, METHOD, [b""])
    closed = load.closed_loop(3, 0.1)
    assert closed.per_s > 0
    assert len(closed.latencies_ms) >= 3
    assert not closed.errors
    opened = load.open_loop(100, 0.1)
    assert len(opened.latencies_ms) == 10
    assert 0 < opened.percentile_ms(0.5) <= opened.percentile_ms(0.99)
    asked = iter([False, False, False, True])
    calls = load.steadily(100, lambda: next(asked))
    assert [(call.error, call.answer) for call in calls] == [("", b"")] * 3
    due_s = sorted(call.due_s for call in calls)
    assert np.diff(due_s) == pytest.approx(0.01)
    load.close()
    wrong = Load(empty_target, "/benchmark.Empty/NoSuch", [b""])
    outcome = wrong.open_loop(100, 0.03)
    assert outcome.errors == {"UNIMPLEMENTED": 3}
    assert outcome.per_s == 0
    wrong.close()
