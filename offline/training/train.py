"""From a dataset to trained models: vocabularies, towers, ranker, validation figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from offline.dataset.tables import TRAIN, VALIDATION, Dataset
from offline.training.batches import never_repeats
from offline.training.data import (
    BoolArray,
    Catalogue,
    Examples,
    FloatArray,
    Histories,
    IntArray,
    Vocabularies,
    build_vocabularies,
    read_catalogue,
    read_examples,
    read_histories,
)
from offline.training.encode import encode_items, encode_users
from offline.training.layout import Layout, layout_of
from offline.training.ranking import (
    CatalogueVectors,
    FittedRanker,
    RankingRows,
    fit_ranker,
    sampling_share,
    with_negatives,
)
from offline.training.retrieval import RetrievalData, Towers, fit_towers, vocabulary_items
from services.common.domain import Domain, features_of
from services.common.errors import FailedPrecondition
from services.feature.definitions import compile_views

# Rows a stage uses at most; more are drawn by seed. Beyond these the figures barely move.
POSITIVES = 200_000
RANKER_ROWS = 1_000_000
DRAWN_ROWS = 40_000
VALIDATION_ROWS = 200_000
DRAWN_VALIDATION_ROWS = 4_000

Progress = Callable[[str, float], None]
"""Called with a stage's name and the share of it done, 0 to 1."""


@dataclass(frozen=True)
class TrainedModels:
    """Everything that publishing needs. ``seconds``: wall time by stage."""

    layout: Layout
    vocabularies: Vocabularies
    catalogues: dict[str, Catalogue]
    towers: Towers
    ranker: FittedRanker
    check: RankingRows
    rows: dict[str, int]
    seconds: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """Validation figures by name."""
        retrieval = {f"retrieval.{n}": v for n, v in self.towers.metrics.items()}
        return retrieval | {f"ranker.{n}": v for n, v in self.ranker.metrics.items()}


def train(
    domain: Domain,
    dataset: Dataset,
    *,
    seed: int,
    threads: int,
    progress: Progress = lambda _stage, _share: None,
) -> TrainedModels:
    """Trains all models of a domain on a dataset; the test split is not read.

    Deterministic for a seed, a dataset and a number of threads. Raises ``FailedPrecondition`` when
    the dataset was made for other features or holds nothing to learn from.
    """
    _require_fit(domain, dataset)
    torch.set_num_threads(threads)
    layout = layout_of(domain)
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    progress("read", 0.0)
    vocabularies = build_vocabularies(layout, dataset)
    catalogues = {
        entity: read_catalogue(layout, vocabularies, dataset, entity)
        for entity in layout.entity_types
    }
    sequence_catalogue = catalogues[layout.sequence_entity]
    histories = read_histories(layout, vocabularies, sequence_catalogue, dataset.interactions)
    random = np.random.default_rng(seed)
    reader = _ExampleReader(domain, layout, vocabularies, catalogues, dataset.examples, random)
    data = RetrievalData(
        layout,
        vocabularies,
        sequence_catalogue,
        histories,
        reader.positives(),
        _available(dataset, sequence_catalogue, histories),
    )
    clock.done("read")
    towers = fit_towers(domain, data, seed=seed, advance=lambda share: progress("retrieval", share))
    clock.done("retrieval")
    progress("encode", 0.0)
    drawn = not domain.log.impressions
    training_examples = reader.split(TRAIN, DRAWN_ROWS if drawn else RANKER_ROWS)
    validation_limit = DRAWN_VALIDATION_ROWS if drawn else VALIDATION_ROWS
    train_rows = _with_vectors(towers, training_examples)
    validation_rows = _with_vectors(towers, reader.split(VALIDATION, validation_limit))
    negatives = None
    if drawn:
        negatives = catalogue_vectors(domain, dataset, layout, catalogues, histories, towers)
        train_rows = with_negatives(train_rows, negatives, random)
        if never_repeats(histories):
            recent = vocabulary_items(data).numpy()[validation_rows.examples.recent_items]
            offset = negatives.first[layout.entity_index(layout.sequence_entity)]
            taken = np.where(recent >= 0, recent + offset, -1)
            validation_rows = replace(validation_rows, taken=taken)
    clock.done("encode")
    ranker = fit_ranker(
        domain,
        train_rows,
        validation_rows,
        negatives,
        seed=seed,
        advance=lambda share: progress("ranker", share),
    )
    clock.done("ranker")
    rows = {
        "interactions": int((histories.split == TRAIN).sum()),
        "users": len(histories.offsets) - 1,
        "retrieval positives": len(data.positives),
        "ranker examples": len(train_rows),
        "validation examples": len(validation_rows),
    }
    check = validation_rows if len(validation_rows) else train_rows
    return TrainedModels(layout, vocabularies, catalogues, towers, ranker, check, rows, seconds)


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


class _ExampleReader:
    """Reads parts of the examples table; what is over a limit is drawn by seed."""

    def __init__(
        self,
        domain: Domain,
        layout: Layout,
        vocabularies: Vocabularies,
        catalogues: dict[str, Catalogue],
        table: pa.Table,
        random: np.random.Generator,
    ) -> None:
        self._domain = domain
        self._layout = layout
        self._vocabularies = vocabularies
        self._catalogues = catalogues
        self._table = table
        self._random = random
        self._split = table["split"].to_numpy(zero_copy_only=False)

    def split(self, split: str, limit: int) -> Examples:
        """Examples of one split. Without impressions, those of items the catalogue holds."""
        chosen = self._split == split
        if not self._domain.log.impressions:
            for entity in self._layout.entity_types:
                own = pc.equal(self._table["entity_type"], entity)
                known = pc.is_in(
                    self._table["entity_id"], value_set=pa.array(self._catalogues[entity].ids)
                )
                chosen &= ~(_flags(own) & ~_flags(known))
        return self._read(chosen, limit)

    def positives(self) -> Examples:
        """Training examples with a good outcome; none where the histories hold all there is."""
        ranked = {surface.entity for surface in self._domain.surfaces.values()}
        needed = bool(self._layout.user_features) or ranked != {self._layout.sequence_entity}
        chosen = np.zeros(len(self._table), bool)
        for name, objective in self._domain.objectives.items():
            if needed and objective.weight > 0:
                chosen |= _flags(pc.equal(self._table[f"y.{name}"], 1))
        return self._read(chosen & (self._split == TRAIN), POSITIVES)

    def _read(self, chosen: BoolArray, limit: int) -> Examples:
        rows = np.flatnonzero(chosen)
        if len(rows) > limit:
            rows = np.sort(self._random.choice(rows, limit, replace=False))
        table = self._table.take(pa.array(rows))
        return read_examples(self._layout, self._vocabularies, self._catalogues, table)


class _Clock:
    """Wall time by stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def done(self, stage: str) -> None:
        """Books the time since the last call under ``stage``."""
        now = time.perf_counter()
        self._seconds[stage] = now - self._last
        self._last = now


def _require_fit(domain: Domain, dataset: Dataset) -> None:
    meta = dataset.meta
    views = {name: view.hash for name, view in compile_views(domain).items()}
    known = {name: view.hash for name, view in meta.feature_views.items()}
    if meta.domain != domain.name or any(known.get(n) != h for n, h in views.items()):
        raise FailedPrecondition(
            f"{dataset.directory} was made for other features than domain {domain.name} declares: "
            "build it again with `podium dataset`"
        )
    for split_needed, table in (
        ("interactions", dataset.interactions),
        ("examples", dataset.examples),
    ):
        if not pc.any(pc.equal(table["split"], TRAIN)).as_py():
            raise FailedPrecondition(
                f"{dataset.directory} has no {split_needed} to train on",
                reason="NOTHING_TO_TRAIN_ON",
            )
    if domain.log.impressions:
        return
    for name in domain.model.item_features:
        if domain.features[name].kind != "attribute":
            raise FailedPrecondition(
                f"domain {domain.name}: item feature {name} needs a log with impressions: "
                "what it was for items not shown is not recorded"
            )


def _with_vectors(towers: Towers, examples: Examples) -> RankingRows:
    users = encode_users(
        towers.serving_user,
        examples.recent_items,
        examples.recent_actions,
        examples.user_features,
        examples.surface,
    )
    return RankingRows(examples, users, encode_items(towers.item, examples.items))


def _available(dataset: Dataset, catalogue: Catalogue, histories: Histories) -> BoolArray:
    """Items that existed when the training split ended, or that it interacts with."""
    cut_ms = dataset.meta.validation_start_ms
    known = np.ones(len(catalogue.ids), bool)
    if cut_ms is not None:
        known = catalogue.first_time_ms < cut_ms
    targets = histories.targets[histories.split == TRAIN]
    known[targets[targets >= 0]] = True
    return known


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


def _flags(values: pa.ChunkedArray) -> BoolArray:
    flags: BoolArray = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(bool)
    return flags
