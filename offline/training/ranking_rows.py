"""What the ranker learns from: examples with their vectors, and drawn negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.dataset.tables import Dataset
from offline.training.data import Catalogue, Examples, FloatArray, IntArray
from offline.training.encode import encode_items, encode_users
from offline.training.layout import Layout
from offline.training.retrieval import Towers
from services.common.domain import Domain, features_of

# Of retrieval's candidates, those that an example's item is held against.
RIVALS = 100
_ROWS_AT_ONCE = 1_024


@dataclass(frozen=True)
class RankingRows:
    """Examples with their vectors.

    ``user_vector``, ``item_vector`` float32 ``[N, dim]``. Where the log has no impressions,
    ``taken`` int64 ``[N, L]`` are ``CatalogueVectors`` rows (or -1) that can't be recommended any
    more, and the item of an example is held against what else retrieval yields: ``rivals`` int64
    ``[N, K]`` are rows or -1, all -1 where retrieval missed the item itself; ``rival_crosses``
    float32 ``[N, 1 + K, X]`` are the cross features of the item and of them.
    """

    examples: Examples
    user_vector: FloatArray
    item_vector: FloatArray
    taken: IntArray | None = None
    rivals: IntArray | None = None
    rival_crosses: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def told_apart(self) -> IntArray:
        """The rows that have rivals, where there are rivals at all; else all."""
        if self.rivals is None:
            return np.arange(len(self))
        return np.flatnonzero((self.rivals >= 0).any(axis=1))


@dataclass(frozen=True)
class CatalogueVectors:
    """What is ranked: the catalogues of all entity types, one after another.

    ``vectors [V, dim]``, raw ``features [V, I]``, ``entity_type [V]``; ``codes [V]``: rows of the
    sequence's vocabulary; ``first[t]`` is where the catalogue of type t begins.
    """

    vectors: FloatArray
    features: FloatArray
    entity_type: IntArray
    codes: IntArray
    first: IntArray

    def rows_of(self, examples: Examples) -> IntArray:
        """Row ``[N]`` of each example's item."""
        return self.first[examples.entity_type] + examples.catalogue_row


def candidates(
    rows: RankingRows, chosen: IntArray, catalogue: CatalogueVectors, count: int
) -> tuple[IntArray, FloatArray]:
    """The ``count`` nearest items of each chosen example's entity type, in no order: rows int64
    ``[n, count]``, and nearness, -inf of what is taken or of another type, which fills up where
    the catalogue is small."""
    examples = rows.examples
    nearness = rows.user_vector[chosen] @ catalogue.vectors.T
    nearness[examples.entity_type[chosen][:, None] != catalogue.entity_type[None, :]] = -np.inf
    if rows.taken is not None:
        row, place = np.nonzero(rows.taken[chosen] >= 0)
        nearness[row, rows.taken[chosen][row, place]] = -np.inf
    found = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
    return found, np.take_along_axis(nearness, found, axis=1)


def with_rivals(rows: RankingRows, catalogue: CatalogueVectors) -> RankingRows:
    """Finds the ``RIVALS`` nearest items of each row whose own item is among them.

    An item that is not would be told by its being further than all the others.
    """
    count = min(RIVALS, len(catalogue.vectors))
    crosses = rows.examples.crosses.of_items(catalogue.codes)
    wanted = catalogue.rows_of(rows.examples)
    rivals = np.full((len(rows), count), -1, np.int64)
    columns = np.zeros((len(rows), 1 + count, len(crosses.sides)), np.float32)
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        chosen = np.arange(first, min(first + _ROWS_AT_ONCE, len(rows)))
        found, nearness = candidates(rows, chosen, catalogue, count)
        own = found == wanted[chosen, None]
        other = np.isfinite(nearness) & ~own & own.any(axis=1, keepdims=True)
        rivals[chosen] = np.where(other, found, -1)
        items = np.c_[wanted[chosen], found]
        owner = np.repeat(np.arange(len(chosen)), 1 + count)
        columns[chosen] = crosses.columns(chosen, owner, items.ravel()).reshape(*items.shape, -1)
    return replace(rows, rivals=rivals, rival_crosses=columns)


def with_vectors(towers: Towers, examples: Examples) -> RankingRows:
    users = encode_users(
        towers.serving_user,
        examples.recent_items,
        examples.recent_actions,
        examples.user_features,
        examples.surface,
    )
    return RankingRows(examples, users, encode_items(towers.item, examples.items))


def catalogue_vectors(
    domain: Domain,
    dataset: Dataset,
    layout: Layout,
    catalogues: dict[str, Catalogue],
    towers: Towers,
) -> CatalogueVectors:
    """Vectors and features of all catalogues, for logs without impressions."""
    vectors: list[FloatArray] = []
    features: list[FloatArray] = []
    types: list[IntArray] = []
    codes: list[IntArray] = []
    own = layout.tower_fields.index(layout.sequence_vocabulary)
    first = np.zeros(len(layout.entity_types) + 1, np.int64)
    for entity, catalogue in catalogues.items():
        index = layout.entity_index(entity)
        first[index] = sum(len(part) for part in types)
        size = len(catalogue.ids)
        vectors.append(encode_items(towers.item, catalogue.items))
        features.append(_catalogue_features(domain, dataset, entity, layout.item_features))
        types.append(np.full(size, index, np.int64))
        codes.append(catalogue.items.fields[:, own])
    return CatalogueVectors(
        np.concatenate(vectors),
        np.concatenate(features),
        np.concatenate(types),
        np.concatenate(codes),
        first,
    )


def _catalogue_features(
    domain: Domain, dataset: Dataset, entity: str, names: tuple[str, ...]
) -> FloatArray:
    """Attribute features of a catalogue, raw float32 ``[V, I]``; 0 where the type lacks one."""
    table = dataset.catalogue[entity]
    features = np.zeros((len(table), len(names)), np.float32)
    declared = features_of(domain, entity)
    for column, name in enumerate(names):
        if name in declared:
            attribute = getattr(declared[name], "attribute", None) or name
            values = pc.fill_null(table[attribute].cast(pa.float32()), 0.0)
            features[:, column] = values.to_numpy()
    return features
