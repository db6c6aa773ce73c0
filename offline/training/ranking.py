"""Trains the ranker on examples, with the towers fixed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np
import torch

from offline.training.data import FloatArray
from offline.training.measures import Reliability
from offline.training.ranker import POSITIONS, Ranker, RankerShape, initial_bias, initial_position
from offline.training.ranking_losses import (
    choice_blocks,
    choice_loss,
    crossed,
    log_normaliser,
    ranking_loss,
)
from offline.training.ranking_rows import CatalogueVectors, RankingRows
from offline.training.ranking_validation import (
    calibrated_metrics,
    ranked_metrics,
    validation_score,
)
from offline.training.retrieval import Advance
from offline.training.transforms import FeatureTransform, logarithmic_columns, still_columns
from services.common.domain import Domain

NORMALISER_ROWS = 2_000
# Scale, bias, position and trend start from one guess a surface and are few: they may move faster.
FAST_RATE = 10.0


@dataclass(frozen=True)
class FittedRanker:
    """The ranker of the best epoch, counted from 0: as it was before the residual was trained.

    ``reliability``: of its probabilities on the validation rows, by objective.
    """

    ranker: Ranker
    best_epoch: int
    losses: tuple[float, ...]
    metrics: dict[str, float]
    reliability: dict[str, Reliability] = field(default_factory=dict)


def fit_ranker(
    domain: Domain,
    train: RankingRows,
    validation: RankingRows,
    catalogue: CatalogueVectors | None,
    *,
    trend: FloatArray,
    seed: int,
    advance: Advance,
) -> FittedRanker:
    """Trains on ``train``; the epoch that is best on ``validation`` stays.

    ``trend [S + 1]``: weight by surface that retrieval gave the trend, if the domain names one.
    With ``catalogue`` (a log without impressions) every example is a positive, held against its
    rivals; logits then are of the choice among retrieval's candidates. The best epoch has the
    lowest validation loss, or with rivals the highest NDCG@10 among the candidates.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    ranker = _new_ranker(domain, train, catalogue, trend)
    options = domain.model.ranker
    fast = {"scale", "bias", "position", "trend"}
    groups = [
        {
            "params": [p for n, p in ranker.named_parameters() if (n in fast) == quick],
            "quick": quick,
        }
        for quick in (True, False)
    ]
    optimiser = torch.optim.Adam(groups)
    best = copy.deepcopy(ranker.state_dict())
    best_epoch, best_score = 0, validation_score(domain, ranker, validation, catalogue)
    losses = []
    learned = train.told_apart
    steps = max(1, math.ceil(len(learned) / options.batch_size))
    blocks, log_share = ([], np.zeros(0, np.float32)) if catalogue else choice_blocks(train, random)
    for epoch in range(options.epochs):
        order = random.permutation(learned)
        total = 0.0
        for step in range(steps):
            share = (epoch + step / steps) / options.epochs
            for group in optimiser.param_groups:
                rate = options.learning_rate * max(0.05, 1.0 - share)
                group["lr"] = rate * (FAST_RATE if group["quick"] else 1.0)
            rows = order[step * options.batch_size : (step + 1) * options.batch_size]
            loss = ranking_loss(ranker, train, rows, catalogue).sum()
            if blocks:
                block = blocks[(epoch * steps + step) % len(blocks)]
                loss = loss + choice_loss(ranker, train, block, log_share)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            total += loss.item()
            advance(share)
        losses.append(total / steps)
        score = validation_score(domain, ranker, validation, catalogue)
        if score > best_score or not len(validation):
            best_epoch, best_score = epoch + 1, score
            best = copy.deepcopy(ranker.state_dict())
    ranker.load_state_dict(best)
    examples = train.examples
    ranker.settle_neutral_position(
        torch.from_numpy(examples.surface), torch.from_numpy(examples.position)
    )
    ranker.eval()
    if catalogue is not None:
        if len(learned):
            with torch.no_grad():
                ranker.bias.sub_(log_normaliser(ranker, train, catalogue))
        metrics = ranked_metrics(domain, ranker, validation, catalogue)
        return FittedRanker(ranker, best_epoch, tuple(losses), metrics)
    metrics, tables = calibrated_metrics(domain, ranker, validation)
    return FittedRanker(ranker, best_epoch, tuple(losses), metrics, tables)


def _new_ranker(
    domain: Domain, train: RankingRows, catalogue: CatalogueVectors | None, trend: FloatArray
) -> Ranker:
    examples = train.examples
    user_features = FeatureTransform(logarithmic_columns(domain, domain.model.user_features))
    user_features.fit(examples.user_features)
    item_features = FeatureTransform(logarithmic_columns(domain, domain.model.item_features))
    item_features.fit(examples.item_features)
    name = domain.model.retrieval.trend
    shape = RankerShape(
        dim=train.user_vector.shape[1],
        hidden=tuple(domain.model.ranker.hidden),
        surfaces=len(domain.surfaces),
        objectives=len(domain.objectives),
        trend=None if name is None else domain.model.item_features.index(name),
        still=still_columns(domain),
        crosses=len(domain.model.crosses),
    )
    crosses = domain.model.crosses.values()
    cross_features = FeatureTransform([getattr(c, "transform", "") == "log1p" for c in crosses])
    cross_features.fit(crossed(examples, np.arange(len(train))).numpy())
    ranker = Ranker(shape, user_features, item_features, cross_features)
    with torch.no_grad():
        if catalogue is not None:
            # Retrieval's softmax is the log-probability of a choice but for the normaliser, whose
            # mean keeps the sigmoid from saturating.
            sample = train.user_vector[:NORMALISER_ROWS] @ catalogue.vectors.T
            ranker.scale.fill_(1.0)
            ranker.bias.fill_(-float(torch.logsumexp(torch.from_numpy(sample), dim=1).mean()))
            return ranker
        for surface in range(shape.surfaces + 1):
            own = examples.surface == surface
            ranker.trend[surface] = ranker.scale[surface] * float(trend[surface])
            mature = examples.mature[own].sum(axis=0)
            positive = (examples.mature * examples.labels)[own].sum(axis=0)
            ranker.bias[surface] = initial_bias(positive.tolist(), mature.tolist())
            # They are too rare in a batch to get there by themselves in the epochs there are.
            shown_at = np.minimum(examples.position, POSITIONS)
            for position in np.unique(shown_at[own & (shown_at > 0)]):
                at = own & (shown_at == position)
                ranker.position[surface, int(position)] = initial_position(
                    (examples.mature * examples.labels)[at].sum(axis=0),
                    examples.mature[at].sum(axis=0),
                    positive,
                    mature,
                )
    return ranker
