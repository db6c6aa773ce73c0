"""Torch models to ONNX, with dynamic numbers of users and items."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from offline.training.first_pass import FirstPassHead
from offline.training.layout import Layout
from offline.training.ranker import ItemFirstLayer, SplitRanker
from offline.training.towers import ItemTower, ServingUserTower

OPSET = 17


def export_user_tower(tower: ServingUserTower, layout: Layout, path: Path) -> None:
    """Writes the user tower; inputs as in ``LoadedBundle.encode_users``."""
    rows = 3
    length = layout.sequence_length
    inputs = {
        "items": torch.ones(rows, length, dtype=torch.long),
        "actions": torch.ones(rows, length, dtype=torch.long),
        "user_features": torch.zeros(rows, len(layout.user_features)),
        "surface": torch.zeros(rows, dtype=torch.long),
    }
    _export(tower, inputs, dict.fromkeys(inputs, "users"), path)


def export_item_tower(tower: ItemTower, layout: Layout, path: Path) -> None:
    """Writes the item tower; inputs as in ``LoadedBundle.encode_items``."""
    rows = 3
    inputs = {
        "entity_type": torch.ones(rows, dtype=torch.long),
        "fields": torch.zeros(rows, len(layout.tower_fields), dtype=torch.long),
        "numeric": torch.zeros(rows, len(layout.tower_numeric)),
    }
    _export(tower, inputs, dict.fromkeys(inputs, "items"), path)


def export_first_layer(layer: ItemFirstLayer, layout: Layout, path: Path) -> None:
    """Writes the items' share of the ranker's first layer; see ``LoadedBundle.item_parts``."""
    inputs = {"item_features": torch.zeros(3, len(layout.item_features))}
    _export(layer, inputs, dict.fromkeys(inputs, "items"), path)


def export_first_pass(head: FirstPassHead, layout: Layout, path: Path) -> None:
    """Writes the items' logits of the first pass; see ``LoadedBundle.item_logits``."""
    rows = 3
    inputs = {
        "item_features": torch.zeros(rows, len(layout.item_features)),
        "surface": torch.zeros(rows, dtype=torch.long),
    }
    _export(head, inputs, dict.fromkeys(inputs, "items"), path)


def export_ranker(ranker: SplitRanker, layout: Layout, path: Path) -> None:
    """Writes the ranker; inputs as in ``LoadedBundle.score``."""
    users, items = 3, 5
    shape = ranker.ranker.shape
    dim, part = shape.dim, shape.hidden[0] if shape.still else 0
    inputs = {
        "user_vector": torch.zeros(users, dim),
        "user_features": torch.zeros(users, len(layout.user_features)),
        "owner": torch.zeros(items, dtype=torch.long),
        "item_vector": torch.zeros(items, dim),
        "item_features": torch.zeros(items, len(layout.item_features)),
        "position": torch.zeros(items, dtype=torch.long),
        "surface": torch.zeros(users, dtype=torch.long),
        "item_part": torch.zeros(items, part),
        "cross_features": torch.zeros(items, shape.crosses),
    }
    axes = {
        name: "users" if name in ("user_vector", "user_features", "surface") else "items"
        for name in inputs
    }
    _export(ranker, inputs, axes, path)


def _export(model: nn.Module, inputs: dict[str, Tensor], axes: dict[str, str], path: Path) -> None:
    """Exports with the first axis of every input dynamic.

    By tracing: the models have no branch that depends on data, and the other exporter takes fifteen
    times as long. Its deprecation warnings are hidden; the parity gate checks what it wrote.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["output"],
            opset_version=OPSET,
            dynamo=False,
            dynamic_axes={name: {0: axes[name]} for name in inputs},
        )
