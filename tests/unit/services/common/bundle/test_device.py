"""What goes to a GPU where there is one, through the same interface on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.common.bundle.index import CopiedIndex, FloatArray, IntArray, ItemIndex, gpus
from services.common.bundle.loaded import GraphSession
from services.common.errors import BundleError


class Copy:
    """An index elsewhere that notes how many rows it was asked for."""

    def __init__(self, index: ItemIndex) -> None:
        self._index = index
        self.asked: list[int] = []

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
        self.asked.append(k)
        return self._index.search(queries, k)


def faiss_of(index: ItemIndex) -> object:
    return index._index


@pytest.fixture
def vectors() -> FloatArray:
    return np.random.default_rng(5).normal(size=(300, 8)).astype(np.float32)


def test_a_copy_answers_what_it_can_and_the_cpu_the_rest(vectors: FloatArray) -> None:
    exact = ItemIndex.build(vectors, kind="flat")
    copy = Copy(exact)
    copied = CopiedIndex(faiss_of(exact), copy, largest_k=50)
    for k in (1, 50, 51):
        scores, rows = copied.search(vectors[:4], k)
        expected_scores, expected_rows = exact.search(vectors[:4], k)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_array_equal(scores, expected_scores)
    assert copy.asked == [1, 50]
    assert copied.rows == 300


def test_more_probes_find_more(vectors: FloatArray) -> None:
    def found(probes: int) -> int:
        index = ItemIndex.build(vectors, kind="ivf", probes=probes)
        return int((index.search(vectors[:20], 300)[1] >= 0).sum())

    assert found(1) < found(4) < found(300) == 20 * 300


@pytest.mark.skipif(gpus() > 0, reason="there is a GPU")
def test_without_a_gpu_nothing_can_be_copied_there(vectors: FloatArray) -> None:
    with pytest.raises(BundleError, match="no GPU"):
        ItemIndex.build(vectors, kind="flat").on_gpu()


@pytest.mark.skipif(gpus() == 0, reason="FAISS has no GPU")
def test_on_the_gpu_the_same_is_found(vectors: FloatArray) -> None:
    index = ItemIndex.build(vectors, kind="ivf", probes=4)
    on_gpu = index.on_gpu()
    np.testing.assert_array_equal(on_gpu.search(vectors, 5)[1], index.search(vectors, 5)[1])


def test_a_bound_run_says_what_a_run_says(tmp_path: Path) -> None:
    path = tmp_path / "product.onnx"
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "right"], ["output"])],
        "product",
        [
            helper.make_tensor_value_info("left", kind, ["n", 3]),
            helper.make_tensor_value_info("right", kind, [3, 2]),
        ],
        [helper.make_tensor_value_info("output", kind, ["n", 2])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    random = np.random.default_rng(6)
    inputs = {
        "left": random.normal(size=(3, 4)).astype(np.float32).T,  # not contiguous
        "right": random.normal(size=(3, 2)).astype(np.float32),
        "unread": np.zeros(1, np.float32),
    }
    expected = inputs["left"] @ inputs["right"]
    direct = GraphSession(path, threads=1, device="cpu", bind=False)
    bound = GraphSession(path, threads=1, device="cpu", bind=True)
    np.testing.assert_allclose(direct.run(inputs), expected, rtol=1e-6)
    np.testing.assert_array_equal(bound.run(inputs), direct.run(inputs))
    held = direct.bound(inputs)
    for _ in range(2):
        held.run()
        np.testing.assert_array_equal(held.output(), direct.run(inputs))


def test_a_search_takes_its_threads_whichever_thread_asks(tmp_path: Path) -> None:
    ItemIndex.build(np.eye(3, dtype=np.float32)).write(tmp_path / "index")
    index = ItemIndex.read(tmp_path / "index", threads=3)

    def searched() -> int:
        index.search(np.ones((1, 3), np.float32), 1)
        return int(faiss.omp_get_max_threads())

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        assert [one.submit(searched).result(), other.submit(searched).result()] == [3, 3]
