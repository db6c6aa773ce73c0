"""The splits of a dataset, drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from offline.dataset.tables import TEST, TRAIN, VALIDATION, Dataset
from services.common.domain import Domain


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
