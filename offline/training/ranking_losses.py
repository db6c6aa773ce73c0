"""The ranker's logits on rows, and the losses of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from offline.training.data import Examples, FloatArray, IntArray
from offline.training.losses import masked_binary_loss
from offline.training.ranker import Ranker
from offline.training.ranking_rows import CatalogueVectors, RankingRows
from offline.training.towers import MASKED

# Good outcomes that are held against one another.
CHOICES = 256


def ranking_loss(
    ranker: Ranker, rows: RankingRows, chosen: IntArray, catalogue: CatalogueVectors | None
) -> Tensor:
    """Loss per objective ``[O]`` on the chosen rows."""
    if catalogue is None:
        examples = rows.examples
        return masked_binary_loss(
            predict(ranker, rows, chosen),
            torch.from_numpy(examples.labels[chosen]),
            torch.from_numpy(examples.mature[chosen]),
        )
    return rivals_loss(ranker, rows, chosen, catalogue)


def rivals_loss(
    ranker: Ranker, rows: RankingRows, chosen: IntArray, catalogue: CatalogueVectors
) -> Tensor:
    """Softmax of each chosen example's item among its rivals, per objective ``[O]``.

    They are what is ranked in serving, and no draw of the catalogue is as hard to tell apart.
    """
    logits = _against_rivals(ranker, rows, chosen, catalogue)
    log_choice = torch.log_softmax(logits, dim=1)[:, 0]
    examples = rows.examples
    good = torch.from_numpy(examples.labels[chosen] * examples.mature[chosen])
    return -(log_choice * good).sum(dim=0) / good.sum(dim=0).clamp(min=1.0)


@torch.no_grad()
def log_normaliser(ranker: Ranker, rows: RankingRows, catalogue: CatalogueVectors) -> Tensor:
    """Mean over the rows of the log of the sum of exp(logit) over item and rivals, ``[O]``: less
    that, a logit is about the log-probability of the choice."""
    learned = rows.told_apart
    chunks = np.array_split(learned, max(1, math.ceil(len(learned) / CHOICES)))
    found = [
        torch.logsumexp(_against_rivals(ranker, rows, chosen, catalogue), dim=1)
        for chosen in chunks
    ]
    return torch.cat(found).mean(dim=0)


def choice_blocks(
    rows: RankingRows, random: np.random.Generator
) -> tuple[list[IntArray], FloatArray]:
    """Blocks of rows with a good outcome, close in time and of one surface each, in random order;
    and the log share ``[N]`` of each row's item among the good outcomes of its surface."""
    examples = rows.examples
    good = (examples.labels * examples.mature).any(axis=1) & (examples.catalogue_row >= 0)
    log_share = np.zeros(len(rows), np.float32)
    blocks: list[IntArray] = []
    for surface in np.unique(examples.surface[good]):
        own = np.flatnonzero(good & (examples.surface == surface))
        _, item, counts = np.unique(
            examples.catalogue_row[own], return_inverse=True, return_counts=True
        )
        log_share[own] = np.log(counts[item] / len(own))
        blocks += [b for b in np.array_split(own, math.ceil(len(own) / CHOICES)) if len(b) > 1]
    return [blocks[place] for place in random.permutation(len(blocks))], log_share


def choice_loss(
    ranker: Ranker, rows: RankingRows, block: IntArray, log_share: FloatArray
) -> Tensor:
    """Softmax of each good outcome among the items of its block, logQ-corrected, per objective.

    Impressions tell what is chosen among the shown; this tells what is chosen at all.
    """
    examples = rows.examples
    size = len(block)
    logits: Tensor = ranker(
        torch.from_numpy(rows.user_vector[block]),
        torch.from_numpy(examples.user_features[block]),
        torch.arange(size).repeat_interleave(size),
        torch.from_numpy(rows.item_vector[block]).repeat(size, 1),
        torch.from_numpy(examples.item_features[block]).repeat(size, 1),
        torch.zeros(size * size, dtype=torch.long),
        torch.from_numpy(examples.surface[block]),
        _crosses(examples, block, np.repeat(np.arange(size), size), np.tile(block, size)),
    )
    expected = torch.from_numpy(log_share[block]) + math.log(size)
    logits = logits.reshape(size, size, -1) - expected[None, :, None]
    item = torch.from_numpy(examples.catalogue_row[block])
    same = (item[:, None] == item[None, :]) & ~torch.eye(size, dtype=torch.bool)
    logits = logits.masked_fill(same.unsqueeze(2), MASKED)
    log_choice = torch.log_softmax(logits, dim=1).diagonal(dim1=0, dim2=1).T
    good = torch.from_numpy(examples.labels[block] * examples.mature[block])
    return -((log_choice * good).sum(dim=0) / good.sum(dim=0).clamp(min=1.0)).mean()


def crossed(examples: Examples, chosen: IntArray) -> Tensor:
    """Cross features ``[n, X]`` of the chosen examples' own users and items."""
    return _crosses(examples, chosen, np.arange(len(chosen)), chosen)


def _crosses(examples: Examples, users: IntArray, owner: IntArray, items: IntArray) -> Tensor:
    return torch.from_numpy(examples.crosses.columns(users, owner, items))


def predict(ranker: Ranker, rows: RankingRows, chosen: IntArray) -> Tensor:
    """Logits ``[n, O]`` of the chosen examples at their logged positions."""
    examples = rows.examples
    logits: Tensor = ranker(
        torch.from_numpy(rows.user_vector[chosen]),
        torch.from_numpy(examples.user_features[chosen]),
        torch.arange(len(chosen)),
        torch.from_numpy(rows.item_vector[chosen]),
        torch.from_numpy(examples.item_features[chosen]),
        torch.from_numpy(examples.position[chosen]),
        torch.from_numpy(examples.surface[chosen]),
        crossed(examples, chosen),
    )
    return logits


def _against_rivals(
    ranker: Ranker, rows: RankingRows, chosen: IntArray, catalogue: CatalogueVectors
) -> Tensor:
    """Logits ``[n, 1 + K, O]`` of each example's item and its rivals, without position."""
    if rows.rivals is None or rows.rival_crosses is None:
        raise ValueError("rows without impressions need rivals")
    examples = rows.examples
    items = np.c_[catalogue.rows_of(examples)[chosen], rows.rivals[chosen]]
    flat = items.ravel()
    logits: Tensor = ranker(
        torch.from_numpy(rows.user_vector[chosen]),
        torch.from_numpy(examples.user_features[chosen]),
        torch.arange(len(chosen)).repeat_interleave(items.shape[1]),
        torch.from_numpy(catalogue.vectors[flat]),
        torch.from_numpy(catalogue.features[flat]),
        torch.zeros(len(flat), dtype=torch.long),
        torch.from_numpy(examples.surface[chosen]),
        torch.from_numpy(rows.rival_crosses[chosen].reshape(len(flat), -1)),
    )
    logits = logits.reshape(*items.shape, -1)
    return logits.masked_fill(torch.from_numpy(items < 0).unsqueeze(2), MASKED)
