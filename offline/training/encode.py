"""Runs trained towers over many rows."""

from __future__ import annotations

import numpy as np
import torch

from offline.training.data import FloatArray, IntArray, ItemRows
from offline.training.towers import ItemTower, ServingUserTower

ROWS = 1_024


def encode_items(tower: ItemTower, items: ItemRows) -> FloatArray:
    """Item vectors float32 ``[N, dim]``."""
    parts = [np.zeros((0, tower.entity_type.embedding_dim), np.float32)]
    with torch.inference_mode():
        for first in range(0, len(items.entity_type), ROWS):
            rows = np.arange(first, min(first + ROWS, len(items.entity_type)))
            parts.append(tower(*item_tensors(items.take(rows))).numpy())
    return np.concatenate(parts)


def item_tensors(items: ItemRows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs of the item tower as tensors."""
    return (
        torch.from_numpy(items.entity_type),
        torch.from_numpy(items.fields),
        torch.from_numpy(items.numeric),
    )


def encode_users(
    tower: ServingUserTower,
    items: IntArray,
    actions: IntArray,
    user_features: FloatArray,
    surface: IntArray,
) -> FloatArray:
    """User vectors float32 ``[N, dim]`` of right-aligned histories ``[N, L]``.

    Rows are grouped by length and their padding cut off: the tower counts distances from the
    right, so the answer is the same and short histories cost little.
    """
    length = items.shape[1]
    used = np.where((items > 0).any(axis=1), length - np.argmax(items > 0, axis=1), 1)
    order = np.argsort(used, kind="stable")
    vectors = np.zeros((len(items), tower.table.shape[1]), np.float32)
    with torch.inference_mode():
        for first in range(0, len(order), ROWS):
            rows = order[first : first + ROWS]
            kept = int(used[rows].max())
            vectors[rows] = tower(
                torch.from_numpy(items[rows, length - kept :]),
                torch.from_numpy(actions[rows, length - kept :]),
                torch.from_numpy(user_features[rows]),
                torch.from_numpy(surface[rows]),
            ).numpy()
    return vectors
