"""Dataset tables as the arrays that models read: vocabularies, catalogue, histories, examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from offline.dataset.tables import TRAIN, Dataset
from offline.training.crosses import CrossRows, HistorySides, read_crosses
from offline.training.layout import Layout
from services.common.affinities import Affinities

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Vocabularies:
    """Values of each tower vocabulary that training saw, sorted; row 0 is everything else."""

    values: dict[str, pa.Array]

    def rows(self, vocabulary: str, column: pa.Array | pa.ChunkedArray) -> IntArray:
        """Rows of a string column, int64 ``[n]``; 0 for what the vocabulary does not hold."""
        found = pc.index_in(column, value_set=self.values[vocabulary])
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        rows: IntArray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        return rows

    def size(self, vocabulary: str) -> int:
        """Number of values, unknown not counted."""
        return len(self.values[vocabulary])


@dataclass(frozen=True)
class ItemRows:
    """Inputs of the item tower, one row an item.

    ``entity_type`` int64 ``[N]``, ``fields`` int64 ``[N, F]``, ``numeric`` raw float32 ``[N, M]``.
    """

    entity_type: IntArray
    fields: IntArray
    numeric: FloatArray

    def take(self, rows: IntArray | BoolArray) -> ItemRows:
        """The chosen rows."""
        return ItemRows(self.entity_type[rows], self.fields[rows], self.numeric[rows])


@dataclass(frozen=True)
class Catalogue:
    """Items of one entity type as of the end of the log, ordered by id."""

    entity: str
    ids: tuple[str, ...]
    withdrawn: BoolArray
    first_time_ms: IntArray
    items: ItemRows


@dataclass(frozen=True)
class Histories:
    """Each user's interactions with the sequence entity, oldest first, users one after another.

    ``items``: vocabulary rows; ``targets``: catalogue rows, -1 where the catalogue lacks the item;
    ``actions``, ``surfaces``: indices; ``times_ms``; all int64 ``[n]``. ``split``: names. User u
    owns ``offsets[u]:offsets[u + 1]``, the training split first.
    """

    items: IntArray
    targets: IntArray
    actions: IntArray
    surfaces: IntArray
    times_ms: IntArray
    split: NDArray[np.object_]
    offsets: IntArray


@dataclass(frozen=True)
class Examples:
    """Rows the ranker learns from.

    ``recent_items`` (vocabulary rows) and ``recent_actions`` int64 ``[N, L]``, right-aligned.
    ``user_features``, ``item_features`` raw float32. ``items``: the item as it was then.
    ``catalogue_row`` int64 ``[N]``: -1 where the catalogue lacks it. ``position``: 0 when none was
    logged, else logged + 1. ``labels``, ``mature``: float32 ``[N, O]``. ``crosses``: what cross
    features are made of.
    """

    users: NDArray[np.object_]
    surface: IntArray
    entity_type: IntArray
    catalogue_row: IntArray
    recent_items: IntArray
    recent_actions: IntArray
    user_features: FloatArray
    item_features: FloatArray
    items: ItemRows
    position: IntArray
    labels: FloatArray
    mature: FloatArray
    crosses: CrossRows = field(default_factory=lambda: CrossRows(()))

    def __len__(self) -> int:
        return len(self.surface)


def build_vocabularies(layout: Layout, dataset: Dataset) -> Vocabularies:
    """Values that occur in the training split: of its examples, and of the items interacted with.

    What is first seen later stays unknown, so that an untrained embedding never reaches a score.
    """
    train = dataset.interactions.filter(pc.equal(dataset.interactions["split"], TRAIN))
    seen_items = pc.unique(train["item"])
    catalogue = dataset.catalogue[layout.sequence_entity]
    seen = catalogue.filter(pc.is_in(catalogue["id"], value_set=seen_items))
    examples = dataset.examples.filter(pc.equal(dataset.examples["split"], TRAIN))
    values = {}
    for vocabulary in layout.tower_fields:
        found = [pc.unique(examples[f"f.{vocabulary}"].cast(pa.string()))]
        attribute = layout.towers[layout.sequence_entity].fields.get(vocabulary)
        if attribute is not None:
            found.append(pc.unique(seen[attribute].cast(pa.string())))
        merged = pc.unique(pa.chunked_array(found, type=pa.string()))
        kept = merged.filter(pc.and_(pc.is_valid(merged), pc.not_equal(merged, "")))
        values[vocabulary] = kept.take(pc.sort_indices(kept))
    return Vocabularies(values)


def read_catalogue(
    layout: Layout, vocabularies: Vocabularies, dataset: Dataset, entity: str
) -> Catalogue:
    """Item tower inputs of a catalogue table."""
    table = dataset.catalogue[entity]
    tower = layout.towers[entity]
    fields = np.zeros((len(table), len(layout.tower_fields)), np.int64)
    for vocabulary, attribute in tower.fields.items():
        column = table[attribute].cast(pa.string())
        fields[:, layout.tower_fields.index(vocabulary)] = vocabularies.rows(vocabulary, column)
    numeric = np.zeros((len(table), len(layout.tower_numeric)), np.float32)
    for attribute in tower.numeric:
        numeric[:, layout.tower_numeric.index(attribute)] = _floats(table[attribute])
    entity_type = np.full(len(table), layout.entity_index(entity), np.int64)
    return Catalogue(
        entity,
        tuple(table["id"].to_pylist()),
        table["withdrawn"].to_numpy().astype(bool),
        table["first_time_ms"].to_numpy().astype(np.int64),
        ItemRows(entity_type, fields, numeric),
    )


def read_histories(
    layout: Layout, vocabularies: Vocabularies, catalogue: Catalogue, table: pa.Table
) -> Histories:
    """Histories from the interactions table, which is sorted by user, time and arrival."""
    users = table["user"].combine_chunks().dictionary_encode()
    codes = _dictionary_codes(users)
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.zeros(0)
    return Histories(
        items=vocabularies.rows(layout.sequence_vocabulary, table["item"]),
        targets=_index_in(table["item"], catalogue.ids) - 1,
        actions=_index_in(table["action"], layout.action_names),
        surfaces=_surfaces(layout, table),
        times_ms=table["time_ms"].to_numpy().astype(np.int64),
        split=table["split"].to_numpy(zero_copy_only=False),
        offsets=np.r_[starts, len(codes)].astype(np.int64),
    )


def read_examples(
    layout: Layout,
    vocabularies: Vocabularies,
    catalogues: dict[str, Catalogue],
    table: pa.Table,
    affinities: Affinities,
) -> Examples:
    """Arrays of examples rows. ``affinities``: what cross features of that kind read."""
    rows = len(table)
    entity = table["entity_type"].to_numpy(zero_copy_only=False)
    catalogue_row = np.full(rows, -1, np.int64)
    for name, catalogue in catalogues.items():
        own = entity == name
        ids = table["entity_id"].filter(pa.array(own))
        catalogue_row[own] = _index_in(ids, catalogue.ids) - 1
    items = ItemRows(
        entity_type=_index_in(table["entity_type"], layout.entity_types),
        fields=_integers(
            [vocabularies.rows(v, table[f"f.{v}"].cast(pa.string())) for v in layout.tower_fields],
            rows,
        ),
        numeric=_matrix([_floats(table[f"n.{n}"]) for n in layout.tower_numeric], rows),
    )
    own_vocabulary = vocabularies.values[layout.sequence_vocabulary]
    recent_items = right_aligned(table["recent_items"], own_vocabulary, layout.sequence_length)
    own_rows = items.fields[:, layout.tower_fields.index(layout.sequence_vocabulary)]
    position = pc.fill_null(table["position"].cast(pa.int64()), -1).to_numpy() + 1
    return Examples(
        users=table["user"].to_numpy(zero_copy_only=False),
        surface=np.where(
            items.entity_type == layout.entity_index(layout.sequence_entity),
            _surfaces(layout, table),
            _index_in(table["surface"], layout.surfaces),
        ),
        entity_type=items.entity_type,
        catalogue_row=catalogue_row,
        recent_items=recent_items,
        recent_actions=right_aligned(
            table["recent_actions"],
            pa.array(layout.action_names, pa.string()),
            layout.sequence_length,
        ),
        user_features=_matrix([_floats(table[f"u.{n}"]) for n in layout.user_features], rows),
        item_features=_matrix([_floats(table[f"i.{n}"]) for n in layout.item_features], rows),
        items=items,
        position=position.astype(np.int64),
        labels=_matrix([_floats(table[f"y.{o}"]) for o in layout.objectives], rows),
        mature=_matrix([_floats(table[f"m.{o}"]) for o in layout.objectives], rows),
        crosses=read_crosses(
            layout.crosses, table, histories=HistorySides(recent_items, own_rows, affinities)
        ),
    )


def right_aligned(column: pa.ChunkedArray, values: pa.Array, length: int) -> IntArray:
    """Lists of strings to indices ``[n, length]``: the last ``length``, the latest in the end."""
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks)
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    flat = pc.fill_null(pc.index_in(lists.flatten(), value_set=values), -1)
    codes = flat.to_numpy(zero_copy_only=False).astype(np.int64) + 1
    ends = np.cumsum(sizes)
    # Place c of a row holds the element (length - c) before the row's end, if it has that many.
    back = np.arange(length, 0, -1)
    source = ends[:, None] - back[None, :]
    inside = back[None, :] <= sizes[:, None]
    if len(codes) == 0:
        return np.zeros((len(sizes), length), np.int64)
    return np.where(inside, codes[np.where(inside, source, 0)], 0)


def _surfaces(layout: Layout, table: pa.Table) -> IntArray:
    """Surfaces of events on the sequence entity; those not declared count as not named."""
    named = _index_in(table["surface"], layout.surfaces)
    return np.where(named > 0, named, layout.unnamed_surface)


def _index_in(column: pa.ChunkedArray | pa.Array, values: Sequence[str]) -> IntArray:
    found = pc.index_in(column, value_set=pa.array(list(values), pa.string()))
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    indices: IntArray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    return indices


def _floats(column: pa.ChunkedArray) -> FloatArray:
    filled = pc.fill_null(column.cast(pa.float32()), 0.0)
    values: FloatArray = filled.to_numpy().astype(np.float32)
    return values


def _integers(columns: list[IntArray], rows: int) -> IntArray:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), np.int64)


def _matrix(columns: list[FloatArray], rows: int) -> FloatArray:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), np.float32)


def _dictionary_codes(column: pa.Array | pa.ChunkedArray) -> IntArray:
    chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    codes: IntArray = chunk.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes
