"""What is read from a dataset before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.dataset.tables import TRAIN, Dataset
from offline.training.affinities import fit_affinities
from offline.training.data import (
    BoolArray,
    Catalogue,
    Examples,
    Histories,
    Vocabularies,
    read_catalogue,
    read_examples,
    read_histories,
)
from offline.training.layout import Layout
from offline.training.retrieval_data import RetrievalData
from offline.training.trend import Trend
from services.common.affinities import Affinities
from services.common.crosses import AffinityCross
from services.common.domain import Domain
from services.common.domain_features import CountFeature
from services.common.durations import duration_ms

# Rows a stage uses at most; more are drawn by seed. Beyond these the figures barely move.
POSITIVES = 200_000


@dataclass(frozen=True)
class TrainingInputs:
    """What is read from a dataset before anything is trained; and the affinities, which are solved
    at once, as examples read them."""

    catalogues: dict[str, Catalogue]
    reader: ExampleReader
    retrieval: RetrievalData
    affinities: Affinities

    @classmethod
    def read(
        cls,
        domain: Domain,
        layout: Layout,
        dataset: Dataset,
        vocabularies: Vocabularies,
        trend: Trend | None,
        random: np.random.Generator,
    ) -> TrainingInputs:
        catalogues = {
            entity: read_catalogue(layout, vocabularies, dataset, entity)
            for entity in layout.entity_types
        }
        catalogue = catalogues[layout.sequence_entity]
        histories = read_histories(layout, vocabularies, catalogue, dataset.interactions)
        affinities = _affinities(layout, vocabularies, histories)
        reader = ExampleReader(
            domain, layout, vocabularies, catalogues, affinities, dataset.examples, random
        )
        retrieval = RetrievalData(
            layout,
            vocabularies,
            catalogue,
            histories,
            reader.positives(),
            _available(dataset, catalogue, histories),
            trend,
        )
        return cls(catalogues, reader, retrieval, affinities)


def read_trend(domain: Domain, layout: Layout, dataset: Dataset) -> Trend | None:
    """The domain's trend over the events of a dataset; None where it names none.

    Read as of a time, events of any split may be in it.
    """
    name = domain.model.retrieval.trend
    if name is None:
        return None
    feature = domain.features[name]
    if not isinstance(feature, CountFeature):
        raise TypeError(f"{name} is a {feature.kind} feature, and no count")
    table = dataset.interactions.filter(
        pc.is_in(dataset.interactions["action"], value_set=pa.array(feature.events))
    )
    ids = dataset.catalogue[layout.sequence_entity]["id"]
    rows = pc.index_in(table["item"], value_set=ids.combine_chunks())
    known = pc.is_valid(rows)
    return Trend(
        table["time_ms"].filter(known).to_numpy().astype(np.int64),
        rows.filter(known).to_numpy().astype(np.int64),
        len(ids),
        duration_ms(feature.window),
        layout.item_features.index(name),
    )


class ExampleReader:
    """Reads parts of the examples table; what is over a limit is drawn by seed."""

    def __init__(
        self,
        domain: Domain,
        layout: Layout,
        vocabularies: Vocabularies,
        catalogues: dict[str, Catalogue],
        affinities: Affinities,
        table: pa.Table,
        random: np.random.Generator,
    ) -> None:
        self._domain = domain
        self._layout = layout
        self._vocabularies = vocabularies
        self._catalogues = catalogues
        self._affinities = affinities
        self._table = table
        self._random = random
        self._split = table["split"].to_numpy(zero_copy_only=False)

    def split(self, split: str, limit: int) -> Examples:
        """Examples of one split. Without impressions, those of items the catalogue holds."""
        return self._read(self._of(split), limit)

    def in_two(self, split: str, share: float, most: int, limit: int) -> tuple[Examples, Examples]:
        """A random ``share`` of a split's examples, at most ``most``; at most ``limit`` others."""
        own = self._of(split)
        order = self._random.permutation(np.flatnonzero(own))
        first = np.zeros(len(own), bool)
        first[order[: min(most, math.ceil(share * len(order)))]] = True
        return self._read(first, most), self._read(own & ~first, limit)

    def _of(self, split: str) -> BoolArray:
        chosen: BoolArray = self._split == split
        if not self._domain.log.impressions:
            for entity in self._layout.entity_types:
                own = pc.equal(self._table["entity_type"], entity)
                known = pc.is_in(
                    self._table["entity_id"], value_set=pa.array(self._catalogues[entity].ids)
                )
                chosen &= ~(_flags(own) & ~_flags(known))
        return chosen

    def positives(self) -> Examples:
        """Training examples with a good outcome; none where the histories hold all there is."""
        ranked = {surface.entity for surface in self._domain.surfaces.values()}
        needed = bool(self._layout.user_features) or ranked != {self._layout.sequence_entity}
        chosen = np.zeros(len(self._table), bool)
        for name, objective in self._domain.objectives.items():
            if needed and objective.weight > 0:
                met = pc.equal(self._table[f"y.{name}"], 1)
                chosen |= _flags(pc.and_(met, self._table[f"m.{name}"]))
        return self._read(chosen & (self._split == TRAIN), POSITIVES)

    def _read(self, chosen: BoolArray, limit: int) -> Examples:
        rows = np.flatnonzero(chosen)
        if len(rows) > limit:
            rows = np.sort(self._random.choice(rows, limit, replace=False))
        table = self._table.take(pa.array(rows))
        return read_examples(
            self._layout, self._vocabularies, self._catalogues, table, self._affinities
        )


def _affinities(layout: Layout, vocabularies: Vocabularies, histories: Histories) -> Affinities:
    if not any(isinstance(cross, AffinityCross) for cross in layout.crosses.values()):
        return Affinities.nothing()
    return fit_affinities(histories, vocabularies.size(layout.sequence_vocabulary))


def _available(dataset: Dataset, catalogue: Catalogue, histories: Histories) -> BoolArray:
    """Items that existed when the training split ended, or that it interacts with."""
    cut_ms = dataset.meta.validation_start_ms
    known = np.ones(len(catalogue.ids), bool)
    if cut_ms is not None:
        known = catalogue.first_time_ms < cut_ms
    targets = histories.targets[histories.split == TRAIN]
    known[targets[targets >= 0]] = True
    return known


def _flags(values: pa.ChunkedArray) -> BoolArray:
    flags: BoolArray = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(bool)
    return flags
