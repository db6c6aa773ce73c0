"""From a dataset to trained models: vocabularies, towers, ranker, validation figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from offline.dataset.tables import TEST, TRAIN, VALIDATION, Dataset
from offline.training.budget import CpuBudget
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
from offline.training.neighbours import ItemNeighbours, item_neighbours
from offline.training.ranking import (
    CatalogueVectors,
    FittedRanker,
    RankingRows,
    fit_ranker,
    sampling_share,
    with_negatives,
)
from offline.training.retrieval import RetrievalData, Towers, fit_towers, vocabulary_items
from offline.training.trend import Trend
from services.common.domain import Domain, features_of
from services.common.domain_features import CountFeature
from services.common.durations import duration_ms
from services.common.errors import FailedPrecondition
from services.feature.definitions import compile_views

# Rows a stage uses at most; more are drawn by seed. Beyond these the figures barely move.
POSITIVES = 200_000
RANKER_ROWS = 1_000_000
DRAWN_ROWS = 40_000
VALIDATION_ROWS = 200_000
DRAWN_VALIDATION_ROWS = 4_000
# Of a budget; the ranker and what reads its rows take the rest.
TOWERS_SHARE = 0.88

Progress = Callable[[str, float], None]
"""Called with a stage's name and the share of it done, 0 to 1."""


@dataclass(frozen=True)
class TrainedModels:
    """Everything that publishing needs. ``seconds``: wall time by stage. ``neighbours``: of the
    sequence entity's catalogue rows."""

    layout: Layout
    vocabularies: Vocabularies
    catalogues: dict[str, Catalogue]
    towers: Towers
    ranker: FittedRanker
    neighbours: ItemNeighbours
    check: RankingRows
    rows: dict[str, int]
    seconds: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """Validation figures by name: of the models before the towers' last pass, which reads the
        validation split too."""
        retrieval = {f"retrieval.{n}": v for n, v in self.towers.metrics.items()}
        return retrieval | {f"ranker.{n}": v for n, v in self.ranker.metrics.items()}


def train(
    domain: Domain,
    dataset: Dataset,
    *,
    seed: int,
    threads: int,
    budget_s: float | None = None,
    progress: Progress = lambda _stage, _share: None,
) -> TrainedModels:
    """Trains all models of a domain on a dataset; the test split is not read.

    Deterministic for a seed, a dataset and a number of threads. With ``budget_s``, CPU seconds of
    the process that training may take in all, towers learn as long as it lasts, not for the epochs
    that the domain names: what comes out then depends on the machine. Raises
    ``FailedPrecondition`` when the dataset was made for other features or holds nothing to learn
    from.
    """
    _require_fit(domain, dataset)
    torch.set_num_threads(threads)
    budget = None if budget_s is None else CpuBudget(budget_s)
    layout = layout_of(domain)
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    progress("read", 0.0)
    random = np.random.default_rng(seed)
    later = with_validation(dataset)
    # Both read the same vocabularies: one pair of towers goes on from the other.
    vocabularies = build_vocabularies(layout, later)
    trend = read_trend(domain, layout, dataset)
    inputs = TrainingInputs.read(domain, layout, dataset, vocabularies, trend, random)
    latest = TrainingInputs.read(domain, layout, later, vocabularies, trend, random)
    clock.done("read")
    selected, towers = fit_towers(
        domain,
        inputs.retrieval,
        seed=seed,
        advance=lambda share: progress("retrieval", share),
        latest=latest.retrieval,
        budget=_of_towers(budget, 2 if domain.log.impressions else 1),
    )
    clock.done("retrieval")
    catalogue = None
    if domain.log.impressions:
        before = before_labels(domain, dataset)
        earlier = TrainingInputs.read(
            domain, layout, before, build_vocabularies(layout, before), trend, random
        )
        rehearsed, _ = fit_towers(
            domain,
            earlier.retrieval,
            seed=seed,
            advance=lambda share: progress("rehearsal", share),
            budget=_of_towers(budget, 1),
        )
        clock.done("rehearsal")
        progress("encode", 0.0)
        train_rows = _with_vectors(rehearsed, earlier.reader.split(VALIDATION, RANKER_ROWS))
        validation_examples = inputs.reader.split(VALIDATION, VALIDATION_ROWS)
        validation_rows = _with_vectors(selected, validation_examples)
    else:
        progress("encode", 0.0)
        train_rows = _with_vectors(selected, inputs.reader.split(TRAIN, DRAWN_ROWS))
        validation_examples = inputs.reader.split(VALIDATION, DRAWN_VALIDATION_ROWS)
        validation_rows = _with_vectors(selected, validation_examples)
        catalogue = catalogue_vectors(
            domain, dataset, layout, inputs.catalogues, inputs.retrieval.histories, selected
        )
        train_rows = with_negatives(train_rows, catalogue, random)
        offset = catalogue.first[layout.entity_index(layout.sequence_entity)]
        items = vocabulary_items(inputs.retrieval).numpy()[validation_examples.recent_items]
        gone = np.isin(validation_examples.recent_actions, layout.final_actions) & (items >= 0)
        validation_rows = replace(validation_rows, taken=np.where(gone, items + offset, -1))
    clock.done("encode")
    ranker = fit_ranker(
        domain,
        train_rows,
        validation_rows,
        catalogue,
        trend=trend_by_surface(domain, layout, selected),
        seed=seed,
        advance=lambda share: progress("ranker", share),
    )
    clock.done("ranker")
    known = latest.catalogues[layout.sequence_entity].ids
    neighbours = item_neighbours(latest.retrieval.histories, len(known))
    clock.done("neighbours")
    histories = inputs.retrieval.histories
    rows = {
        "interactions": int((histories.split == TRAIN).sum()),
        "users": len(histories.offsets) - 1,
        "retrieval positives": len(inputs.retrieval.positives),
        "ranker examples": len(train_rows),
        "validation examples": len(validation_rows),
    }
    check_examples = validation_examples
    if not len(check_examples):
        check_examples = inputs.reader.split(TRAIN, VALIDATION_ROWS)
    check = _with_vectors(towers, check_examples)
    return TrainedModels(
        layout, vocabularies, inputs.catalogues, towers, ranker, neighbours, check, rows, seconds
    )


def _of_towers(budget: CpuBudget | None, fits: int) -> CpuBudget | None:
    """What the next of ``fits`` pairs of towers may take."""
    return None if budget is None else budget.part(TOWERS_SHARE / fits)


def with_validation(dataset: Dataset) -> Dataset:
    """The dataset with its validation split as part of the training split."""
    return _resplit(
        dataset,
        dataset.meta.test_start_ms,
        lambda table: pc.if_else(pc.equal(table["split"], TEST), TEST, TRAIN),
    )


def before_labels(domain: Domain, dataset: Dataset) -> Dataset:
    """The dataset as of an earlier time: what came later in its training split is validation.

    Retrieval's score of an example that the towers learned from is better than any it will see in
    serving, and a ranker that learned from it would trust it too much. So the ranker learns from
    the scores of towers that were trained on what came before: up to half the time by which the
    labels of every objective are mature, or half of the training split where none is.
    """
    examples = dataset.examples
    training = pc.equal(examples["split"], TRAIN)
    mature = training
    for name in domain.objectives:
        mature = pc.and_(mature, examples[f"m.{name}"])
    times = examples.filter(mature)["time_ms"]
    if not len(times):
        times = examples.filter(training)["time_ms"]
    bounds = pc.min_max(times)
    cut_ms = (bounds["min"].as_py() + bounds["max"].as_py()) // 2

    def split(table: pa.Table) -> pa.ChunkedArray:
        early = pc.if_else(pc.less(table["time_ms"], cut_ms), TRAIN, VALIDATION)
        return pc.if_else(pc.equal(table["split"], TRAIN), early, TEST)

    return _resplit(dataset, cut_ms, split)


def _resplit(
    dataset: Dataset, training_ends_ms: int | None, split: Callable[[pa.Table], pa.ChunkedArray]
) -> Dataset:
    examples, interactions = (
        table.set_column(table.schema.get_field_index("split"), "split", split(table))
        for table in (dataset.examples, dataset.interactions)
    )
    meta = dataset.meta.model_copy(update={"validation_start_ms": training_ends_ms})
    return replace(dataset, meta=meta, examples=examples, interactions=interactions)


@dataclass(frozen=True)
class TrainingInputs:
    """What is read from a dataset before anything is trained."""

    catalogues: dict[str, Catalogue]
    reader: _ExampleReader
    retrieval: RetrievalData

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
        reader = _ExampleReader(domain, layout, vocabularies, catalogues, dataset.examples, random)
        retrieval = RetrievalData(
            layout,
            vocabularies,
            catalogue,
            histories,
            reader.positives(),
            _available(dataset, catalogue, histories),
            trend,
        )
        return cls(catalogues, reader, retrieval)


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


def trend_by_surface(domain: Domain, layout: Layout, towers: Towers) -> FloatArray:
    """Retrieval's weight of the trend for what each surface ranks, ``[S + 1]``; 0 if unknown."""
    weights: FloatArray = towers.user.trend.detach().numpy() * np.float32(towers.strengths[1])
    types = [layout.entity_index(surface.entity) for surface in domain.surfaces.values()]
    return np.concatenate([np.zeros(1, np.float32), weights[types]])


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
                met = pc.equal(self._table[f"y.{name}"], 1)
                chosen |= _flags(pc.and_(met, self._table[f"m.{name}"]))
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
