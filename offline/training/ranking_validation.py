"""What validation says of a ranker, and its calibration there."""

from __future__ import annotations

import numpy as np
import torch

from offline.training.calibration import calibrated_by_others, fit_calibration
from offline.training.data import IntArray
from offline.training.measures import Reliability, binary_metrics, rank_metrics, reliability
from offline.training.ranker import Ranker
from offline.training.ranking_losses import choice_blocks, choice_loss, predict, ranking_loss
from offline.training.ranking_rows import CatalogueVectors, RankingRows, candidates
from services.common.domain import Domain

CANDIDATES = 500


@torch.no_grad()
def validation_score(
    domain: Domain, ranker: Ranker, rows: RankingRows, catalogue: CatalogueVectors | None
) -> float:
    """What selects the epoch; higher is better."""
    if not len(rows):
        return 0.0
    if catalogue is not None:
        return rank_metrics(candidate_ranks(domain, ranker, rows, catalogue))["ndcg_at_10"]
    losses = [ranking_loss(ranker, rows, chosen, None) for chosen in _chunks(len(rows))]
    blocks, log_share = choice_blocks(rows, np.random.default_rng(0))
    choices = [choice_loss(ranker, rows, block, log_share) for block in blocks]
    choice = float(torch.stack(choices).mean()) if choices else 0.0
    return -float(torch.stack(losses).mean(dim=0).sum()) - choice


@torch.no_grad()
def candidate_ranks(
    domain: Domain, ranker: Ranker, rows: RankingRows, catalogue: CatalogueVectors
) -> IntArray:
    """Rank from 0 of each example's item by value among retrieval's ``CANDIDATES``.

    Items in ``rows.taken`` are no candidates; the rank is the catalogue's size where retrieval
    missed the item. Ties count against it, as float32 probabilities of serving can saturate.
    """
    examples = rows.examples
    wanted = catalogue.rows_of(examples)
    size = len(catalogue.vectors)
    ranks = np.full(len(rows), size, np.int64)
    count = min(CANDIDATES, size)
    crosses = examples.crosses.of_items(catalogue.codes)
    weights = np.array([o.weight for o in domain.objectives.values()], np.float32)
    for chosen in _chunks(len(rows), 128):
        found, nearness = candidates(rows, chosen, catalogue, count)
        flat, owner = found.ravel(), np.repeat(np.arange(len(chosen)), count)
        logits = ranker(
            torch.from_numpy(rows.user_vector[chosen]),
            torch.from_numpy(examples.user_features[chosen]),
            torch.from_numpy(owner),
            torch.from_numpy(catalogue.vectors[flat]),
            torch.from_numpy(catalogue.features[flat]),
            torch.zeros(len(flat), dtype=torch.long),
            torch.from_numpy(examples.surface[chosen]),
            torch.from_numpy(crosses.columns(chosen, owner, flat)),
        )
        value = (torch.sigmoid(logits).numpy() @ weights).reshape(found.shape)
        # Where the catalogue is small, items that are no candidates fill up the count.
        value[np.isneginf(nearness)] = -np.inf
        hit = found == wanted[chosen][:, None]
        own = np.where(hit, value, -np.inf).max(axis=1, keepdims=True)
        ranks[chosen] = np.where(hit.any(axis=1), (value >= own).sum(axis=1) - 1, size)
    return ranks


def ranked_metrics(
    domain: Domain, ranker: Ranker, rows: RankingRows, catalogue: CatalogueVectors
) -> dict[str, float]:
    """Validation figures of the ranking of candidates, where there are no impressions."""
    if not len(rows):
        return {}
    ranks = candidate_ranks(domain, ranker, rows, catalogue)
    return {f"ranked.{name}": value for name, value in rank_metrics(ranks).items()}


@torch.no_grad()
def calibrated_metrics(
    domain: Domain, ranker: Ranker, rows: RankingRows
) -> tuple[dict[str, float], dict[str, Reliability]]:
    """Calibrates the ranker on the validation rows; figures and reliability per objective.

    Both are of rows whose users the calibration that they are under has not seen.
    """
    metrics: dict[str, float] = {}
    tables: dict[str, Reliability] = {}
    if not len(rows):
        return metrics, tables
    examples = rows.examples
    logits = torch.cat([predict(ranker, rows, chosen) for chosen in _chunks(len(rows))]).numpy()
    for column, objective in enumerate(domain.objectives):
        mature = examples.mature[:, column] > 0
        own, labels = logits[mature, column], examples.labels[mature, column]
        if not len(labels):
            metrics |= {f"{objective}.rows": 0.0, f"{objective}.positives": 0.0}
            continue
        unseen = calibrated_by_others(own, labels, examples.users[mature])
        found = binary_metrics(unseen, labels)
        before, tables[objective] = (
            reliability(1.0 / (1.0 + np.exp(-x.astype(np.float64))), labels) for x in (own, unseen)
        )
        found["calibration_error"] = tables[objective].expected_calibration_error
        found["calibration_error_before"] = before.expected_calibration_error
        found["brier"] = tables[objective].brier
        metrics |= {f"{objective}.{name}": value for name, value in found.items()}
        ranker.calibrate(column, *fit_calibration(own, labels))
    return metrics, tables


def _chunks(rows: int, size: int = 8_192) -> list[IntArray]:
    return [np.arange(first, min(first + size, rows)) for first in range(0, rows, size)]
