"""From a dataset to trained models: vocabularies, towers, ranker, validation figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import torch

from offline.dataset.tables import TRAIN, VALIDATION, Dataset
from offline.training.budget import CpuBudget
from offline.training.data import (
    Catalogue,
    Examples,
    FloatArray,
    Vocabularies,
    build_vocabularies,
)
from offline.training.first_pass import FittedFirstPass, fit_first_pass
from offline.training.inputs import ExampleReader, TrainingInputs, read_trend
from offline.training.layout import Layout, layout_of
from offline.training.neighbours import ItemNeighbours, item_neighbours
from offline.training.ranking import FittedRanker, fit_ranker
from offline.training.ranking_rows import (
    CatalogueVectors,
    RankingRows,
    catalogue_vectors,
    with_rivals,
    with_vectors,
)
from offline.training.resplit import before_labels, with_validation
from offline.training.retrieval import Towers, fit_towers
from offline.training.retrieval_data import RetrievalData, vocabulary_items
from services.common.affinities import Affinities
from services.common.domain import Domain
from services.common.errors import FailedPrecondition
from services.feature.definitions import compile_views

# Rows a stage uses at most; more are drawn by seed. Beyond these the figures barely move.
RANKER_ROWS = 1_000_000
DRAWN_ROWS = 40_000
VALIDATION_ROWS = 200_000
DRAWN_VALIDATION_ROWS = 4_000
# Of the held-out rows, where they are few.
VALIDATION_SHARE = 0.2
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
    affinities: Affinities
    first_pass: FittedFirstPass
    check: RankingRows
    rows: dict[str, int]
    seconds: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """Validation figures by name: of the models before the towers' last pass, which reads the
        validation split too; of the first pass beside the towers that serve."""
        retrieval = {f"retrieval.{n}": v for n, v in self.towers.metrics.items()}
        first_pass = {f"first_pass.{n}": v for n, v in self.first_pass.metrics.items()}
        ranker = {f"ranker.{n}": v for n, v in self.ranker.metrics.items()}
        return retrieval | ranker | first_pass


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
        train_rows = with_vectors(rehearsed, earlier.reader.split(VALIDATION, RANKER_ROWS))
        validation_examples = inputs.reader.split(VALIDATION, VALIDATION_ROWS)
        validation_rows = with_vectors(selected, validation_examples)
    else:
        progress("encode", 0.0)
        catalogue = catalogue_vectors(domain, dataset, layout, inputs.catalogues, selected)
        train_rows, validation_rows = (
            _with_taken(with_vectors(selected, examples), inputs.retrieval, catalogue)
            for examples in _held_out(inputs.reader)
        )
        validation_examples = validation_rows.examples
        train_rows = with_rivals(train_rows, catalogue)
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
    check = with_vectors(towers, check_examples)
    if catalogue is not None:
        catalogue = catalogue_vectors(domain, dataset, layout, inputs.catalogues, towers)
    first_pass = fit_first_pass(domain, ranker.ranker, check, catalogue, seed=seed)
    clock.done("first pass")
    return TrainedModels(
        layout,
        vocabularies,
        inputs.catalogues,
        towers,
        ranker,
        neighbours,
        latest.affinities,
        first_pass,
        check,
        rows,
        seconds,
    )


def _held_out(reader: ExampleReader) -> tuple[Examples, Examples]:
    """What the ranker learns from and what chooses its epoch, where there are no impressions.

    Both are of the validation split: of what the towers and the affinities learned from they say
    more than of anything they will see in serving, and a ranker would believe them too much. Where
    nothing is held out, the ranker learns from the training split.
    """
    choosing, learned = reader.in_two(
        VALIDATION, VALIDATION_SHARE, DRAWN_VALIDATION_ROWS, DRAWN_ROWS
    )
    return learned if len(choosing) else reader.split(TRAIN, DRAWN_ROWS), choosing


def _with_taken(rows: RankingRows, data: RetrievalData, catalogue: CatalogueVectors) -> RankingRows:
    """With what each example's user can't be shown any more."""
    layout, examples = data.layout, rows.examples
    offset = catalogue.first[layout.entity_index(layout.sequence_entity)]
    items = vocabulary_items(data).numpy()[examples.recent_items]
    gone = np.isin(examples.recent_actions, layout.final_actions) & (items >= 0)
    gone &= items != examples.catalogue_row[:, None]
    return replace(rows, taken=np.where(gone, items + offset, -1))


def _of_towers(budget: CpuBudget | None, fits: int) -> CpuBudget | None:
    """What the next of ``fits`` pairs of towers may take."""
    return None if budget is None else budget.part(TOWERS_SHARE / fits)


def trend_by_surface(domain: Domain, layout: Layout, towers: Towers) -> FloatArray:
    """Retrieval's weight of the trend for what each surface ranks, ``[S + 1]``; 0 if unknown."""
    weights: FloatArray = towers.user.trend.detach().numpy() * np.float32(towers.strengths[1])
    types = [layout.entity_index(surface.entity) for surface in domain.surfaces.values()]
    return np.concatenate([np.zeros(1, np.float32), weights[types]])


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
