"""What the ranker learns from: examples with their vectors, and drawn negatives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.dataset.tables import TRAIN, Dataset
from offline.training.data import Catalogue, Examples, FloatArray, Histories, IntArray
from offline.training.encode import encode_items, encode_users
from offline.training.layout import Layout
from offline.training.retrieval import Towers
from services.common.domain import Domain, features_of

# Drawn per positive where the log has no impressions.
NEGATIVES = 30
# Share of negatives drawn evenly, the rest by popularity: rare items get their due as well.
EVEN_SHARE = 0.5


@dataclass(frozen=True)
class RankingRows:
    """Examples with their vectors.

    ``user_vector``, ``item_vector`` float32 ``[N, dim]``. Where the log has no impressions,
    ``negatives`` int64 ``[N, K]`` are ``CatalogueVectors`` rows drawn for each, ``log_expected``
    float32 ``[N, K + 1]`` the log of how often positive and drawn items are expected in K draws;
    ``taken`` int64 ``[N, L]`` are rows of it (or -1) that can't be recommended any more.
    """

    examples: Examples
    user_vector: FloatArray
    item_vector: FloatArray
    negatives: IntArray | None = None
    log_expected: FloatArray | None = None
    taken: IntArray | None = None

    def __len__(self) -> int:
        return len(self.examples)


@dataclass(frozen=True)
class CatalogueVectors:
    """What negatives are drawn from: the catalogues of all entity types, one after another.

    ``vectors [V, dim]``, raw ``features [V, I]``, ``entity_type [V]``; ``share [V]`` is q, which
    sums to 1 within an entity type; ``first[t]`` is where the catalogue of type t begins.
    """

    vectors: FloatArray
    features: FloatArray
    entity_type: IntArray
    share: FloatArray
    first: IntArray

    def rows_of(self, examples: Examples) -> IntArray:
        """Row ``[N]`` of each example's item."""
        return self.first[examples.entity_type] + examples.catalogue_row


def sampling_share(interactions: IntArray, size: int) -> FloatArray:
    """q over a catalogue of ``size``: part even, part by smoothed popularity; sums to 1."""
    counts = np.bincount(interactions[interactions >= 0], minlength=size) + 1.0
    share: FloatArray = EVEN_SHARE / size + (1 - EVEN_SHARE) * counts / counts.sum()
    share /= share.sum()
    return share


def with_negatives(
    rows: RankingRows, catalogue: CatalogueVectors, random: np.random.Generator
) -> RankingRows:
    """Draws ``NEGATIVES`` catalogue items for each row."""
    drawn = np.zeros((len(rows), NEGATIVES), np.int64)
    for entity_type in np.unique(rows.examples.entity_type):
        own = rows.examples.entity_type == entity_type
        pool = np.flatnonzero(catalogue.entity_type == entity_type)
        drawn[own] = random.choice(pool, (int(own.sum()), NEGATIVES), p=catalogue.share[pool])
    positives = catalogue.rows_of(rows.examples)[:, None]
    expected = np.log(catalogue.share)[np.c_[positives, drawn]] + math.log(NEGATIVES)
    return replace(rows, negatives=drawn, log_expected=expected.astype(np.float32))


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
    histories: Histories,
    towers: Towers,
) -> CatalogueVectors:
    """Vectors, features and draw shares of all catalogues, for logs without impressions."""
    vectors: list[FloatArray] = []
    features: list[FloatArray] = []
    types: list[IntArray] = []
    shares: list[FloatArray] = []
    first = np.zeros(len(layout.entity_types) + 1, np.int64)
    for entity, catalogue in catalogues.items():
        index = layout.entity_index(entity)
        first[index] = sum(len(part) for part in types)
        size = len(catalogue.ids)
        targets = histories.targets[histories.split == TRAIN]
        counted = targets if entity == layout.sequence_entity else np.zeros(0, np.int64)
        vectors.append(encode_items(towers.item, catalogue.items))
        features.append(_catalogue_features(domain, dataset, entity, layout.item_features))
        types.append(np.full(size, index, np.int64))
        shares.append(sampling_share(counted, size))
    return CatalogueVectors(
        np.concatenate(vectors),
        np.concatenate(features),
        np.concatenate(types),
        np.concatenate(shares),
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
