"""How often came true what a bundle predicts: over logged impressions of a held-out period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from offline.dataset.tables import Dataset
from offline.training.crosses import read_crosses
from offline.training.data import right_aligned
from offline.training.measures import Reliability, reliability
from services.common.bundle.loaded import LoadedBundle

Floats = NDArray[np.float32]
_AT_ONCE = 4_096
MOST = 200_000
"""Impressions read; of more, so many are drawn."""


@dataclass(frozen=True)
class ObjectiveReliability:
    """Of one objective: ``table`` over its mature impressions, None where there are none among the
    ``impressions`` of the period; ``positives`` of the mature ones."""

    objective: str
    impressions: int
    mature: int
    positives: int
    table: Reliability | None


def held_out_reliability(
    bundle: LoadedBundle, dataset: Dataset, surface: str, entity: str, split: str, *, seed: int
) -> list[ObjectiveReliability]:
    """Of every objective that the bundle predicts and the dataset labels.

    Predictions are those of serving: at the neutral position, of what was known when the slate was
    made. Labels that can still change are left out.
    """
    table = dataset.examples
    chosen = pc.equal(table["split"], split)
    for column, value in (("surface", surface), ("entity_type", entity)):
        chosen = pc.and_(chosen, pc.equal(table[column], value))
    table = table.filter(chosen)
    if table.num_rows > MOST:
        drawn = np.random.default_rng(seed).choice(table.num_rows, MOST, replace=False)
        table = table.take(pa.array(np.sort(drawn)))
    predicted = [
        predictions(bundle, table.slice(first, _AT_ONCE), surface, entity)
        for first in range(0, table.num_rows, _AT_ONCE)
    ]
    objectives = [objective.name for objective in bundle.manifest.objectives]
    every = np.concatenate([np.zeros((0, len(objectives)), np.float32), *predicted])
    found = []
    for place, name in enumerate(objectives):
        if f"y.{name}" not in table.column_names:
            continue
        mature = pc.fill_null(table[f"m.{name}"], False).to_numpy()
        labels = table[f"y.{name}"].to_numpy()[mature]
        of_it = reliability(every[mature, place], labels) if mature.any() else None
        found.append(
            ObjectiveReliability(name, table.num_rows, len(labels), int(labels.sum()), of_it)
        )
    return found


def predictions(bundle: LoadedBundle, table: pa.Table, surface: str, entity: str) -> Floats:
    """Probabilities float32 [n, O] of examples of one surface and entity type."""
    manifest, rows = bundle.manifest, table.num_rows
    sequence = manifest.sequence
    own = np.full(rows, manifest.surface_index(surface), np.int64)
    users = bundle.encode_users(
        _looked_up(bundle, table),
        right_aligned(
            table["recent_actions"],
            pa.array(sequence.action_names, pa.string()),
            sequence.length,
        ),
        _numbers(table, [f"u.{name}" for name in manifest.user_features]),
        own,
    )
    fields = np.zeros((rows, len(manifest.tower_fields)), np.int64)
    for column, vocabulary in enumerate(manifest.tower_fields):
        fields[:, column] = bundle.lookup(vocabulary, table[f"f.{vocabulary}"].to_pylist())
    items = bundle.encode_items(
        np.full(rows, manifest.entity_index(entity), np.int64),
        fields,
        _numbers(table, [f"n.{name}" for name in manifest.tower_numeric]),
    )
    crosses = {named.name: named.cross for named in manifest.crosses}
    every = np.arange(rows)
    return bundle.score(
        user_vector=users,
        user_features=_numbers(table, [f"u.{name}" for name in manifest.user_features]),
        owner=every,
        item_vector=items,
        item_features=_numbers(table, [f"i.{name}" for name in manifest.item_features]),
        position=np.zeros(rows, np.int64),
        surface=own,
        cross_features=read_crosses(crosses, table).columns(every, every, every)
        if crosses
        else None,
    )


def _looked_up(bundle: LoadedBundle, table: pa.Table) -> NDArray[np.int64]:
    """Histories as rows of the sequence's vocabulary, int64 [n, L], right-aligned."""
    sequence = bundle.manifest.sequence
    lists = table["recent_items"].to_pylist()
    found = np.zeros((len(lists), sequence.length), np.int64)
    for row, ids in enumerate(lists):
        known = bundle.lookup(sequence.vocabulary, ids[-sequence.length :])
        found[row, sequence.length - len(known) :] = known
    return found


def _numbers(table: pa.Table, names: list[str]) -> Floats:
    found = np.zeros((table.num_rows, len(names)), np.float32)
    for column, name in enumerate(names):
        found[:, column] = pc.fill_null(table[name].cast(pa.float32()), 0.0).to_numpy()
    return found
