"""The models of a Rank call without a service: search, row gather, ONNX, on one thread.

``python -m benchmarks.rank_kernel BUNDLE QUERIES SECONDS`` prints one JSON line with the rate for
each batch size from 1 to 32 and the index's recall. The graphs, the index and the vectors are the
bundle's; runs of the ranker are chunked as the service chunks them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.rank_workload import CANDIDATES, FloatArray
from services.common.bundle.index import ItemIndex, recall_at_k
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.manifest import index_file
from services.ranker.scoring.chunks import SCORED_ROWS

ENTITY = "course"
BATCHES = (1, 2, 4, 8, 16, 32)
_RECALL_QUERIES = 500
_RECALL_CHUNK = 50
"""Queries held against every item at once: of a million items that is 200 MB."""


def precomputed(bundle: LoadedBundle) -> FloatArray:
    """What is computed once an item, as the service keeps it: its part of the first layer."""
    vectors = bundle.item_vectors[ENTITY]
    features = np.zeros((len(vectors), len(bundle.manifest.item_features)), np.float32)
    return bundle.item_parts(vectors, features)


def run_batch(bundle: LoadedBundle, parts: FloatArray, queries: FloatArray) -> None:
    """Search, gather and score for a batch of users; only what the ranker reads is gathered."""
    _, rows = bundle.search(ENTITY, queries, CANDIDATES)
    at_once = max(1, SCORED_ROWS // CANDIDATES)
    vectors = bundle.item_vectors[ENTITY]
    reads_vectors = "item_vector" in bundle.ranker_inputs
    for first in range(0, len(queries), at_once):
        some = rows[first : first + at_once]
        found = some.ravel()
        users = len(some)
        bundle.score(
            user_vector=queries[first : first + at_once],
            user_features=np.zeros((users, len(bundle.manifest.user_features)), np.float32),
            owner=np.repeat(np.arange(users), some.shape[1]),
            item_vector=vectors[found if reads_vectors else found[:0]],
            item_features=np.zeros((len(found), len(bundle.manifest.item_features)), np.float32),
            position=np.zeros(len(found), np.int64),
            surface=np.ones(users, np.int64),
            item_part=parts[found],
        )


def rate(
    bundle: LoadedBundle, parts: FloatArray, queries: FloatArray, batch: int, seconds: float
) -> float:
    """Users a second at one batch size."""
    done, place = 0, 0
    started_s = time.perf_counter()
    while (elapsed_s := time.perf_counter() - started_s) < seconds:
        if place + batch > len(queries):
            place = 0
        run_batch(bundle, parts, queries[place : place + batch])
        place += batch
        done += batch
    return done / elapsed_s


def main() -> None:
    """Measures and prints."""
    directory, queries_file, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    bundle = LoadedBundle.load(directory, threads=1, device="cpu")
    queries = np.load(queries_file, allow_pickle=False)
    index = ItemIndex.read(directory / index_file(ENTITY))
    vectors, asked = bundle.item_vectors[ENTITY], queries[:_RECALL_QUERIES]
    chunks = [asked[at : at + _RECALL_CHUNK] for at in range(0, len(asked), _RECALL_CHUNK)]
    recalls = [recall_at_k(index, vectors, chunk, CANDIDATES) for chunk in chunks]
    recall = float(np.average(recalls, weights=[len(chunk) for chunk in chunks]))
    parts = precomputed(bundle)
    run_batch(bundle, parts, queries[:32])
    rates = {batch: rate(bundle, parts, queries, batch, seconds) for batch in BATCHES}
    print(json.dumps({"rates": rates, "recall": recall}))


if __name__ == "__main__":
    main()
