"""Fits the first pass: per surface and objective a line through what the ranker says.

    logit ~ slope * <user, item> + weights * item features + constant

by least squares over what a user is shown and what not: the items nearest to them and items at
random. A logit counts by the square of what moving it does to the probability, (p (1 - p))^2
(delta method): where the ranker sees next to no chance, it does not matter how little. In closed
form, so that equal data give equal lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from offline.training.crosses import CrossRows
from offline.training.data import FloatArray, IntArray
from offline.training.ranker import Ranker
from offline.training.ranking_rows import CatalogueVectors, RankingRows
from offline.training.transforms import FeatureTransform
from services.common.domain import Domain
from services.common.first_pass import first_pass_probabilities

USERS = 200
"""Users whose items a line is fitted to, and as many others it is measured on."""

NEAREST = 128
RANDOM = 128
MOST_ITEMS = 2_000
"""Items of a surface that the recall is measured over."""

KEPT = (2, 5, 10)
"""How many of the items are kept where the recall is measured, in slates."""

RIDGE = 1e-5
"""Beside the mean square of the columns: what never varied must not make the system singular."""

_USERS_AT_ONCE = 16


class FirstPassHead(nn.Module):
    """The exported graph: logits ``[n, O]`` of items by their raw features and their surface."""

    weight: Tensor
    constant: Tensor

    def __init__(self, transform: FeatureTransform, surfaces: int, objectives: int) -> None:
        super().__init__()
        self.transform = transform
        self.columns = len(transform.mean)
        self.register_buffer("weight", torch.zeros(surfaces + 1, self.columns, objectives))
        self.register_buffer("constant", torch.zeros(surfaces + 1, objectives))

    def forward(self, item_features: Tensor, surface: Tensor) -> Tensor:
        """Raw ``item_features [n, I]``, ``surface [n]`` to ``[n, O]``."""
        logits = self.constant[surface]
        if self.columns:
            features = self.transform(item_features).unsqueeze(1)
            logits = logits + (features @ self.weight[surface]).squeeze(1)
        return logits


@dataclass(frozen=True)
class FittedFirstPass:
    """``slopes`` float32 ``[O]`` by surface; surfaces that nothing is known of have none.

    ``metrics`` by surface: share of the ranker's best slate, of users the line was not fitted to,
    that is among the first items by it (``recall_at_N``), and by nearness to the user alone.
    """

    head: FirstPassHead
    slopes: dict[str, FloatArray]
    metrics: dict[str, float]


@dataclass(frozen=True)
class _Pool:
    """P items of a surface: ``vectors [P, dim]``, raw ``features [P, I]``; ``rows [P]`` are those
    that ``crosses`` know them by."""

    vectors: FloatArray
    features: FloatArray
    rows: IntArray
    crosses: CrossRows

    def __len__(self) -> int:
        return len(self.vectors)


@torch.no_grad()
def fit_first_pass(
    domain: Domain,
    ranker: Ranker,
    rows: RankingRows,
    catalogue: CatalogueVectors | None,
    *,
    seed: int,
) -> FittedFirstPass:
    """Fits a line a surface to the ranker, on the users and items of ``rows``.

    ``catalogue``: where the log has no impressions its items are ranked; vectors are of the towers
    that ``rows`` have theirs of. No label is read.
    """
    random = np.random.default_rng(seed)
    names = list(domain.surfaces)
    head = FirstPassHead(ranker.item_features, len(names), len(domain.objectives))
    slopes: dict[str, FloatArray] = {}
    metrics: dict[str, float] = {}
    for index, name in enumerate(names, start=1):
        own = np.flatnonzero(rows.examples.surface == index)
        pool = _pool(rows, own, catalogue)
        if not len(pool):
            continue
        # The latest example of each user.
        backwards = own[::-1]
        users = backwards[np.unique(rows.examples.users[backwards], return_index=True)[1]]
        random.shuffle(users)
        fitted, others = users[0::2][:USERS], users[1::2][:USERS]
        coefficients = _fitted(ranker, rows, fitted, pool, random)
        surface = domain.surfaces[name]
        weights = {n: o.weight for n, o in domain.objectives.items()} | surface.objective_weights
        values = np.array([weights[n] for n in domain.objectives], np.float32)
        found = _recall(ranker, rows, others, pool, coefficients, values, surface.default_k)
        metrics |= {f"{name}.{figure}": value for figure, value in found.items()}
        coefficients = _fitted(ranker, rows, users[: 2 * USERS], pool, random)
        slopes[name] = coefficients[0].numpy()
        head.weight[index], head.constant[index] = coefficients[1:-1], coefficients[-1]
    return FittedFirstPass(head.eval(), slopes, metrics)


def _pool(rows: RankingRows, own: IntArray, catalogue: CatalogueVectors | None) -> _Pool:
    """Items as their latest example on a surface has them; of the examples' type in a catalogue."""
    examples = rows.examples
    if catalogue is not None:
        items = np.flatnonzero(np.isin(catalogue.entity_type, examples.entity_type[own]))
        crosses = examples.crosses.of_items(catalogue.codes)
        return _Pool(catalogue.vectors[items], catalogue.features[items], items, crosses)
    known = own[examples.catalogue_row[own] >= 0][::-1]
    latest = known[np.unique(examples.catalogue_row[known], return_index=True)[1]]
    features = examples.item_features[latest]
    return _Pool(rows.item_vector[latest], features, latest, examples.crosses)


def _fitted(
    ranker: Ranker, rows: RankingRows, users: IntArray, pool: _Pool, random: np.random.Generator
) -> Tensor:
    """Coefficients ``[1 + I + 1, O]`` of nearness, the items' features and 1."""
    nearness = rows.user_vector[users] @ pool.vectors.T
    nearest = np.argsort(-nearness, axis=1, kind="stable")[:, :NEAREST]
    others = random.integers(0, len(pool), (len(users), RANDOM))
    items = np.hstack([nearest, others])
    logits = _logits(ranker, rows, users, pool, items).double().flatten(0, 1)
    near = torch.from_numpy(np.take_along_axis(nearness, items, axis=1)).double().flatten()
    features = ranker.item_features(torch.from_numpy(pool.features)).double()[items].flatten(0, 1)
    columns = torch.cat([near[:, None], features, torch.ones(len(near), 1).double()], dim=1)
    moved = torch.sigmoid(logits) * torch.sigmoid(-logits)
    share = moved.square() / moved.square().mean(dim=0).clamp(min=1e-30)
    found = []
    for objective in range(logits.shape[1]):
        weighted = columns * share[:, objective : objective + 1] / len(columns)
        system = weighted.T @ columns
        system += RIDGE * torch.eye(len(system), dtype=torch.float64)
        found.append(torch.linalg.solve(system, weighted.T @ logits[:, objective]))
    return torch.stack(found, dim=1).float()


def _logits(
    ranker: Ranker, rows: RankingRows, users: IntArray, pool: _Pool, items: IntArray
) -> Tensor:
    """What the ranker says of ``items [B, L]`` of the pool to users ``[B]``: ``[B, L, O]``."""
    examples, found = rows.examples, []
    for start in range(0, len(users), _USERS_AT_ONCE):
        some, flat = users[start : start + _USERS_AT_ONCE], items[start : start + _USERS_AT_ONCE]
        owner, of = np.repeat(np.arange(len(some)), items.shape[1]), flat.ravel()
        crosses = torch.from_numpy(pool.crosses.columns(some, owner, pool.rows[of]))
        logits = ranker(
            torch.from_numpy(rows.user_vector[some]),
            torch.from_numpy(examples.user_features[some]),
            torch.from_numpy(owner),
            torch.from_numpy(pool.vectors[of]),
            torch.from_numpy(pool.features[of]),
            torch.zeros(len(of), dtype=torch.long),
            torch.from_numpy(examples.surface[some]),
            crosses,
        )
        found.append(logits.reshape(*flat.shape, -1))
    return torch.cat(found)


def _recall(
    ranker: Ranker,
    rows: RankingRows,
    users: IntArray,
    pool: _Pool,
    coefficients: Tensor,
    weights: FloatArray,
    k: int,
) -> dict[str, float]:
    """Shares of the ranker's best ``k`` items that are kept; nothing without users or with few
    items. ``weights [O]``."""
    items = np.arange(min(len(pool), MOST_ITEMS))
    kept = [slates * k for slates in KEPT if slates * k < len(items)]
    if not len(users) or not kept:
        return {}
    logits = _logits(ranker, rows, users, pool, np.tile(items, (len(users), 1)))
    heavy = torch.sigmoid(logits).numpy() @ weights
    nearness = rows.user_vector[users] @ pool.vectors[items].T
    features = ranker.item_features(torch.from_numpy(pool.features[items]))
    of_item = (features @ coefficients[1:-1] + coefficients[-1]).numpy()
    slopes = coefficients[0].numpy()
    first = np.stack([first_pass_probabilities(n, of_item, slopes) @ weights for n in nearness])
    best = np.argsort(-heavy, axis=1, kind="stable")[:, :k]
    found = {"users": float(len(users)), "items": float(len(items))}
    for name, values in (("recall", first), ("nearness_recall", nearness)):
        places = np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1)
        reached = np.take_along_axis(places, best, axis=1)
        found |= {f"{name}_at_{n}": float((reached < n).mean()) for n in kept}
    return found


def figures(metrics: Mapping[str, float], surface: str) -> dict[int, tuple[float, float]]:
    """Recall by the first pass and by nearness alone, by how many are kept, of a surface's
    ``metrics``."""
    prefix = f"{surface}.recall_at_"
    kept = sorted(int(name[len(prefix) :]) for name in metrics if name.startswith(prefix))
    return {
        n: (metrics[f"{prefix}{n}"], metrics[f"{surface}.nearness_recall_at_{n}"]) for n in kept
    }
