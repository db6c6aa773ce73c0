"""Nearest items by inner product: FAISS, exact for small catalogues, inverted lists for large.

Where FAISS has a GPU, an index can be copied there; what the GPU does not do stays on the CPU.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from services.common.errors import BundleError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

# An exact scan of fewer rows costs less than probing lists, and recalls everything.
FLAT_ROWS = 20_000
PROBES = 16

LARGEST_GPU_K = 2048
"""Most rows of one query that FAISS selects on a GPU (its GPU_MAX_SELECTION_K)."""


class ItemIndex:
    """Inner-product search over the vectors of one entity type; row numbers are index order.

    ``threads``: of one search, whichever thread asks; None leaves it to FAISS.
    """

    def __init__(self, index: Any, threads: int | None = None) -> None:
        self._index = index
        self._threads = threads

    @classmethod
    def build(
        cls,
        vectors: FloatArray,
        *,
        kind: Literal["auto", "flat", "ivf"] = "auto",
        seed: int = 0,
        probes: int = PROBES,
    ) -> ItemIndex:
        """Indexes ``vectors`` float32 ``[rows, dim]``; "auto" is exact up to ``FLAT_ROWS`` rows.

        Of inverted lists, as many as the square root of the rows, ``probes`` are searched.
        """
        rows, dim = vectors.shape
        if kind == "flat" or (kind == "auto" and rows <= FLAT_ROWS):
            index: Any = faiss.IndexFlatIP(dim)
        else:
            lists = max(1, round(rows**0.5))
            quantizer = faiss.IndexFlatIP(dim)
            index = faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
            index.cp.seed = seed + 1
            index.nprobe = min(probes, lists)
            index.train(np.ascontiguousarray(vectors, np.float32))
        index.add(np.ascontiguousarray(vectors, np.float32))
        return cls(index)

    @classmethod
    def read(cls, path: Path, threads: int | None = None) -> ItemIndex:
        """Reads an index file. Raises ``BundleError`` naming it."""
        try:
            return cls(faiss.read_index(str(path)), threads)
        except RuntimeError as error:
            raise BundleError(f"{path}: not a FAISS index") from error

    def write(self, path: Path) -> None:
        """Writes the index to ``path``."""
        faiss.write_index(self._index, str(path))

    @property
    def kind(self) -> Literal["flat", "ivf"]:
        """Exact or inverted lists."""
        return "ivf" if isinstance(self._index, faiss.IndexIVF) else "flat"

    @property
    def rows(self) -> int:
        """Number of indexed vectors."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return int(self._index.d)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
        """Best ``k`` rows of each query ``[B, dim]``: (scores ``[B, k]``, rows ``[B, k]``).

        Where fewer are found, rows are -1 and scores -inf.
        """
        if self._threads is not None:
            # OpenMP keeps the number for each thread that asks.
            faiss.omp_set_num_threads(self._threads)
        scores, rows = self._search(np.ascontiguousarray(queries, np.float32), k)
        scores[rows < 0] = -np.inf
        return scores, rows

    def on_gpu(self) -> ItemIndex:
        """The same index with a copy on the first GPU. Raises ``BundleError`` without one."""
        if gpus() == 0:
            raise BundleError("this FAISS has no GPU")
        resources = faiss.StandardGpuResources()
        copy = faiss.index_cpu_to_gpu(resources, 0, self._index)
        return CopiedIndex(self._index, copy, LARGEST_GPU_K, resources, self._threads)

    def _search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
        found: tuple[FloatArray, IntArray] = self._index.search(queries, k)
        return found


class CopiedIndex(ItemIndex):
    """An index with a ``copy`` on another device, which answers up to ``largest_k`` rows a query.

    One search at a time is given to the copy: FAISS' GPU indexes are not safe for concurrent ones.
    ``keep`` is what the copy needs to stay alive.
    """

    def __init__(
        self,
        index: Any,
        copy: Any,
        largest_k: int,
        keep: object = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(index, threads)
        self._copy = copy
        self._largest_k = largest_k
        self._keep = keep
        self._one_at_a_time = threading.Lock()

    def _search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
        if k > self._largest_k:
            return super()._search(queries, k)
        with self._one_at_a_time:
            found: tuple[FloatArray, IntArray] = self._copy.search(queries, k)
        return found


def gpus() -> int:
    """GPUs that this FAISS can use; 0 for one built without."""
    return int(faiss.get_num_gpus())


def recall_at_k(index: ItemIndex, vectors: FloatArray, queries: FloatArray, k: int) -> float:
    """Share of the exact top ``k`` that the index finds, by score (ties count); 1.0 when empty."""
    k = min(k, len(vectors))
    if k == 0 or len(queries) == 0:
        return 1.0
    exact = queries @ vectors.T
    kth = np.partition(exact, len(vectors) - k, axis=1)[:, len(vectors) - k]
    _, rows = index.search(queries, k)
    found = np.take_along_axis(exact, np.maximum(rows, 0), axis=1)
    # float32 sums differ by the order of addition: the tolerance is far below any real gap.
    tolerance = 1e-5 * np.maximum(1.0, np.abs(kth))
    hits = (rows >= 0) & (found >= (kth - tolerance)[:, None])
    return float(hits.mean())
