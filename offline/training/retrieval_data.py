"""What the towers learn from, and how often each item is in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from offline.dataset.tables import TRAIN
from offline.training.data import (
    BoolArray,
    Catalogue,
    Examples,
    FloatArray,
    Histories,
    IntArray,
    Vocabularies,
)
from offline.training.layout import Layout
from offline.training.trend import Trend


@dataclass(frozen=True)
class RetrievalData:
    """What the towers learn from.

    ``positives``: training examples with a good outcome, empty where histories say it all.
    ``available``: flags over the catalogue, items that existed when the training split ends.
    ``trend``: what is taken as given, where the domain names a trend.
    """

    layout: Layout
    vocabularies: Vocabularies
    catalogue: Catalogue
    histories: Histories
    positives: Examples
    available: BoolArray
    trend: Trend | None


def vocabulary_items(data: RetrievalData) -> Tensor:
    """Catalogue row of each row of the sequence's vocabulary, int64 ``[V + 1]``; -1 where none."""
    ids = pa.array(data.catalogue.ids, pa.string())
    vocabulary = data.layout.sequence_vocabulary
    rows = data.vocabularies.rows(vocabulary, ids)
    found = torch.full((data.vocabularies.size(vocabulary) + 1,), -1, dtype=torch.long)
    found[torch.from_numpy(rows)] = torch.arange(len(rows))
    found[0] = -1
    return found


def log_share(data: RetrievalData, available: IntArray) -> FloatArray:
    """Log of each available item's smoothed share of the training interactions: q of the draws."""
    targets = data.histories.targets[data.histories.split == TRAIN]
    counts = np.bincount(targets[targets >= 0], minlength=len(data.available))[available] + 1.0
    logs: FloatArray = np.log(counts / counts.sum())
    return logs


def positive_log_share(positives: Examples) -> FloatArray:
    """Log share of each positive's item among the positives of its entity type, ``[N]``."""
    pair = np.stack([positives.entity_type, positives.catalogue_row], axis=1)
    _, item, counts = np.unique(pair, axis=0, return_inverse=True, return_counts=True)
    by_type = np.bincount(positives.entity_type, minlength=1)
    shares: FloatArray = np.log(counts[item.ravel()] / by_type[positives.entity_type])
    return shares
