"""The gate before publishing: exported graphs answer as torch does, the index as an exact scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offline.training.data import FloatArray, ItemRows
from offline.training.encode import item_tensors
from offline.training.first_pass import FirstPassHead
from offline.training.ranker import ItemFirstLayer, ServingRanker
from offline.training.ranking_rows import RankingRows
from offline.training.towers import ItemTower, ServingUserTower
from services.common.bundle.index import ItemIndex, recall_at_k
from services.common.bundle.loaded import GraphSession
from services.common.bundle.manifest import FIRST_LAYER_FILE, FIRST_PASS_FILE
from services.common.errors import BundleError

Inputs = dict[str, NDArray[Any]]

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest value where that is above one."""

ROWS = 512
RECALL_K = 500
LEAST_RECALL = 0.95


@dataclass(frozen=True)
class Parity:
    """Largest differences of the graphs, and the recall of each index. ``ranker``: in one piece,
    against the graphs of the items' share of the first layer and of all else together."""

    user_tower: float
    item_tower: float
    ranker: float
    recall: dict[str, float]
    first_layer: float = 0.0
    first_pass: float = 0.0

    def figures(self) -> dict[str, float]:
        """For the manifest's metrics."""
        graphs = {
            "parity.user_tower": self.user_tower,
            "parity.item_tower": self.item_tower,
            "parity.ranker": self.ranker,
            "parity.first_layer": self.first_layer,
            "parity.first_pass": self.first_pass,
        }
        return graphs | {f"index.{entity}.recall": r for entity, r in self.recall.items()}


def user_tower_difference(
    tower: ServingUserTower, session: GraphSession, rows: RankingRows
) -> float:
    """Largest difference of user vectors on real examples."""
    examples = rows.examples
    inputs: Inputs = {
        "items": examples.recent_items[:ROWS],
        "actions": examples.recent_actions[:ROWS],
        "user_features": examples.user_features[:ROWS],
        "surface": examples.surface[:ROWS],
    }
    with torch.inference_mode():
        expected = tower(*(torch.from_numpy(value) for value in inputs.values())).numpy()
    return difference(expected, session.run(inputs))


def item_tower_difference(tower: ItemTower, session: GraphSession, items: ItemRows) -> float:
    """Largest difference of item vectors on real items."""
    items = items.take(np.arange(min(ROWS, len(items.entity_type))))
    inputs: Inputs = {
        "entity_type": items.entity_type,
        "fields": items.fields,
        "numeric": items.numeric,
    }
    with torch.inference_mode():
        expected = tower(*item_tensors(items)).numpy()
    return difference(expected, session.run(inputs))


def first_layer_difference(
    ranker: ServingRanker, session: GraphSession | None, rows: RankingRows
) -> float:
    """Largest difference of what stands still of items adds to the first layer; 0 without one."""
    if session is None:
        return 0.0
    features = rows.examples.item_features[:ROWS]
    with torch.inference_mode():
        expected = ItemFirstLayer(ranker.ranker)(torch.from_numpy(features)).numpy()
    return difference(expected, session.run({"item_features": features}))


def first_pass_difference(
    head: FirstPassHead, session: GraphSession | None, rows: RankingRows
) -> float:
    """Largest difference of the first pass' logits of items; 0 without one."""
    if session is None:
        return 0.0
    inputs: Inputs = {
        "item_features": rows.examples.item_features[:ROWS],
        "surface": rows.examples.surface[:ROWS],
    }
    with torch.inference_mode():
        expected = head(*(torch.from_numpy(value) for value in inputs.values())).numpy()
    return difference(expected, session.run(inputs))


def ranker_difference(
    ranker: ServingRanker,
    session: GraphSession,
    first_layer: GraphSession | None,
    rows: RankingRows,
) -> float:
    """Largest difference of probabilities on real examples, at logged positions and at 0.

    ``ranker`` is in one piece; the graphs are ``session`` and the items' share of its first layer.
    """
    examples = rows.examples
    count = min(ROWS, len(rows))
    parts = np.zeros((count, 0), np.float32)
    if first_layer is not None:
        parts = first_layer.run({"item_features": examples.item_features[:count]})
    own = np.arange(count)
    crosses = examples.crosses.columns(own, own, own)
    worst = 0.0
    for position in (examples.position[:count], np.zeros(count, np.int64)):
        inputs: Inputs = {
            "user_vector": rows.user_vector[:count],
            "user_features": examples.user_features[:count],
            # Reversed owners: a graph that ignores them can't pass.
            "owner": np.arange(count, dtype=np.int64)[::-1].copy(),
            "item_vector": rows.item_vector[:count],
            "item_features": examples.item_features[:count],
            "position": position,
            "surface": examples.surface[:count],
            "cross_features": crosses,
        }
        with torch.inference_mode():
            expected = ranker(*(torch.from_numpy(value) for value in inputs.values())).numpy()
        worst = max(worst, difference(expected, session.run(inputs | {"item_part": parts})))
    return worst


def difference(expected: FloatArray, found: FloatArray) -> float:
    """Largest absolute difference, relative where values exceed one; infinite for other shapes."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    if expected.size == 0:
        return 0.0
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(expected - found).max()) / scale


def index_recall(index: ItemIndex, vectors: FloatArray, queries: FloatArray) -> float:
    """Share of the exact top ``RECALL_K`` that the index finds for real user vectors."""
    return recall_at_k(index, vectors, queries[:ROWS], RECALL_K)


def require_parity(parity: Parity) -> None:
    """Raises ``BundleError`` naming what does not answer as it was trained."""
    graphs = {
        "user_tower.onnx": parity.user_tower,
        "item_tower.onnx": parity.item_tower,
        FIRST_LAYER_FILE: parity.first_layer,
        FIRST_PASS_FILE: parity.first_pass,
        "ranker.onnx": parity.ranker,
    }
    for name, worst in graphs.items():
        if not worst <= TOLERANCE:
            raise BundleError(
                f"{name} differs from the trained model by {worst:.2e}, more than {TOLERANCE:.0e}: "
                "not published",
                reason="PARITY_FAILED",
            )
    for entity, recall in parity.recall.items():
        if recall < LEAST_RECALL:
            raise BundleError(
                f"index_{entity}.faiss finds {recall:.3f} of the exact top {RECALL_K}, less than "
                f"{LEAST_RECALL}: not published",
                reason="PARITY_FAILED",
            )
