"""Trains the ranker on examples, with the towers fixed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from offline.training.calibration import calibrated_by_others, fit_calibration
from offline.training.data import Examples, FloatArray, IntArray
from offline.training.losses import corrected_logits, masked_binary_loss
from offline.training.measures import Reliability, binary_metrics, reliability
from offline.training.ranker import POSITIONS, Ranker, RankerShape, initial_bias, initial_position
from offline.training.retrieval import Advance, rank_metrics
from offline.training.towers import MASKED
from offline.training.transforms import FeatureTransform, logarithmic_columns, still_columns
from services.common.domain import Domain

# Drawn per positive where the log has no impressions.
NEGATIVES = 30
# Share of negatives drawn evenly, the rest by popularity: rare items get their due as well.
EVEN_SHARE = 0.5
CANDIDATES = 500
NORMALISER_ROWS = 2_000
# Good outcomes that are held against one another.
CHOICES = 256
# Scale, bias, position and trend start from one guess a surface and are few: they may move faster.
FAST_RATE = 10.0


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
    With ``catalogue`` (a log without impressions) every example is a positive and its negatives
    are drawn; logits then are of the choice among the catalogue. The best epoch has the lowest
    validation loss, or with drawn negatives the highest NDCG@10 among retrieval's candidates.
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
    best_epoch, best_score = 0, _score(domain, ranker, validation, catalogue)
    losses = []
    steps = max(1, math.ceil(len(train) / options.batch_size))
    blocks, log_share = ([], np.zeros(0, np.float32)) if catalogue else _chosen(train, random)
    for epoch in range(options.epochs):
        order = random.permutation(len(train))
        total = 0.0
        for step in range(steps):
            share = (epoch + step / steps) / options.epochs
            for group in optimiser.param_groups:
                rate = options.learning_rate * max(0.05, 1.0 - share)
                group["lr"] = rate * (FAST_RATE if group["quick"] else 1.0)
            rows = order[step * options.batch_size : (step + 1) * options.batch_size]
            loss = _loss(ranker, train, rows, catalogue).sum()
            if blocks:
                block = blocks[(epoch * steps + step) % len(blocks)]
                loss = loss + choice_loss(ranker, train, block, log_share)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            total += loss.item()
            advance(share)
        losses.append(total / steps)
        score = _score(domain, ranker, validation, catalogue)
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
        metrics = _ranked(domain, ranker, validation, catalogue)
        return FittedRanker(ranker, best_epoch, tuple(losses), metrics)
    metrics, tables = _calibrated(domain, ranker, validation)
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


def _loss(
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
    if rows.negatives is None or rows.log_expected is None:
        raise ValueError("rows without impressions need drawn negatives")
    logits = corrected_logits(
        _predict_drawn(ranker, rows, chosen, catalogue),
        torch.from_numpy(rows.log_expected[chosen]).unsqueeze(2),
    )
    examples = rows.examples
    labels = torch.zeros_like(logits)
    labels[:, 0] = torch.from_numpy(examples.labels[chosen])
    mature = torch.from_numpy(examples.mature[chosen]).unsqueeze(1).expand_as(logits)
    same = rows.negatives[chosen] == catalogue.rows_of(examples)[chosen][:, None]
    counted = mature.clone()
    counted[:, 1:] *= torch.from_numpy(~same).unsqueeze(2)
    objectives = logits.shape[2]
    return masked_binary_loss(
        logits.reshape(-1, objectives),
        labels.reshape(-1, objectives),
        counted.reshape(-1, objectives),
    )


def _chosen(rows: RankingRows, random: np.random.Generator) -> tuple[list[IntArray], FloatArray]:
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


def _predict_drawn(
    ranker: Ranker, rows: RankingRows, chosen: IntArray, catalogue: CatalogueVectors
) -> Tensor:
    """Logits ``[n, 1 + K, O]`` of each positive and its drawn negatives, without position."""
    examples = rows.examples
    negatives = rows.negatives if rows.negatives is not None else np.zeros((len(rows), 0), np.int64)
    items = np.c_[catalogue.rows_of(examples)[chosen], negatives[chosen]]
    flat = items.ravel()
    logits: Tensor = ranker(
        torch.from_numpy(rows.user_vector[chosen]),
        torch.from_numpy(examples.user_features[chosen]),
        torch.arange(len(chosen)).repeat_interleave(items.shape[1]),
        torch.from_numpy(catalogue.vectors[flat]),
        torch.from_numpy(catalogue.features[flat]),
        torch.zeros(len(flat), dtype=torch.long),
        torch.from_numpy(examples.surface[chosen]),
    )
    return logits.reshape(*items.shape, -1)


@torch.no_grad()
def _score(
    domain: Domain, ranker: Ranker, rows: RankingRows, catalogue: CatalogueVectors | None
) -> float:
    """What selects the epoch; higher is better."""
    if not len(rows):
        return 0.0
    if catalogue is not None:
        return rank_metrics(candidate_ranks(domain, ranker, rows, catalogue))["ndcg_at_10"]
    losses = [_loss(ranker, rows, chosen, None) for chosen in _chunks(len(rows))]
    blocks, log_share = _chosen(rows, np.random.default_rng(0))
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
    weights = np.array([o.weight for o in domain.objectives.values()], np.float32)
    for chosen in _chunks(len(rows), 128):
        dots = rows.user_vector[chosen] @ catalogue.vectors.T
        dots[examples.entity_type[chosen][:, None] != catalogue.entity_type[None, :]] = -np.inf
        if rows.taken is not None:
            row, place = np.nonzero(rows.taken[chosen] >= 0)
            dots[row, rows.taken[chosen][row, place]] = -np.inf
        found = np.argpartition(-dots, count - 1, axis=1)[:, :count]
        flat = found.ravel()
        logits = ranker(
            torch.from_numpy(rows.user_vector[chosen]),
            torch.from_numpy(examples.user_features[chosen]),
            torch.arange(len(chosen)).repeat_interleave(count),
            torch.from_numpy(catalogue.vectors[flat]),
            torch.from_numpy(catalogue.features[flat]),
            torch.zeros(len(flat), dtype=torch.long),
            torch.from_numpy(examples.surface[chosen]),
        )
        value = (torch.sigmoid(logits).numpy() @ weights).reshape(found.shape)
        # Where the catalogue is small, items that are no candidates fill up the count.
        value[np.isneginf(np.take_along_axis(dots, found, axis=1))] = -np.inf
        hit = found == wanted[chosen][:, None]
        own = np.where(hit, value, -np.inf).max(axis=1, keepdims=True)
        ranks[chosen] = np.where(hit.any(axis=1), (value >= own).sum(axis=1) - 1, size)
    return ranks


def _ranked(
    domain: Domain, ranker: Ranker, rows: RankingRows, catalogue: CatalogueVectors
) -> dict[str, float]:
    """Validation figures of the ranking of candidates, where there are no impressions."""
    if not len(rows):
        return {}
    ranks = candidate_ranks(domain, ranker, rows, catalogue)
    return {f"ranked.{name}": value for name, value in rank_metrics(ranks).items()}


@torch.no_grad()
def _calibrated(
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
