"""Explored slates of the event log under other weights.

The new policy draws as the logging one did (same candidates, caps, diversity, temperature, and the
same items at fixed positions), from values under other weights. Rewards come from a dataset's
labels, joined by ``rank_id``: of slates of which something was shown and every label is mature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from offline.dataset.explored import ExploredSlate
from offline.evaluation.off_policy.slates import LoggedSlates, Predictions, Values
from offline.evaluation.off_policy.weights import RewardModel
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.exploration import (
    base_values,
    draw_log_probabilities,
    nearest_before,
    spread_of,
)

# How far propensities computed again may be from those that were logged.
_TOLERANCE = 1e-6
_FOLDS = 5


@dataclass(frozen=True)
class Labels:
    """What was shown of one slate: whose it is, and items with whether they met the objective."""

    user: str
    met: dict[str, float]


@dataclass(frozen=True)
class Draws:
    """Log-probabilities of one slate's draws: ``table`` [P, C] of every candidate, ``taken`` [P]
    of the items that stand there (0 where nothing was drawn)."""

    table: Values
    taken: Values


def read_labels(dataset: Path, objective: str) -> dict[str, Labels]:
    """Mature labels of the dataset's examples by rank_id.

    Raises ``NotFound`` without examples, ``InvalidArgument`` for an objective they do not have.
    """
    path = dataset / "examples.parquet"
    if not path.is_file():
        raise NotFound(f"the dataset lacks {path}", reason="DATASET_NOT_FOUND")
    label, mature = f"y.{objective}", f"m.{objective}"
    if label not in pq.read_schema(path).names:
        raise InvalidArgument.field("objective", f"{path} has no labels of {objective}")
    names = ["rank_id", "user", "entity_id", label, mature]
    table: pa.Table = pq.read_table(path, columns=names)
    table = table.filter(pc.not_equal(table["rank_id"], ""))
    found: dict[str, Labels] = {}
    unripe = set()
    columns = (table[name].to_pylist() for name in names)
    for rank_id, user, item, met, ripe in zip(*columns, strict=True):
        if not ripe:
            unripe.add(rank_id)
        labels = found.setdefault(rank_id, Labels(user, {}))
        labels.met[item] = max(labels.met.get(item, 0.0), float(met))
    return {rank_id: labels for rank_id, labels in found.items() if rank_id not in unripe}


def draws(slate: ExploredSlate, weights: Mapping[str, float]) -> Draws:
    """The draws of ``slate`` with ``weights`` in the place of its own, by objective.

    Raises ``InvalidArgument`` for an objective that the slate does not have.
    """
    values = slate.weights.copy()
    for name, weight in weights.items():
        if name not in slate.objectives:
            known = ", ".join(slate.objectives)
            raise InvalidArgument.field("weight", f"{name} is not among the objectives {known}")
        values[slate.objectives.index(name)] = weight
    base = base_values(slate.terms, values, slate.adjustments)
    scores = np.broadcast_to(base / spread_of(base), slate.feasible.shape)
    if slate.similarities is not None:
        scores = scores - slate.similarity_weight * nearest_before(
            slate.similarities, slate.earlier
        )
    table = draw_log_probabilities(scores, slate.feasible, slate.temperature)
    drawn = np.flatnonzero(slate.feasible.any(axis=1))
    taken = np.zeros(len(slate.feasible))
    taken[drawn] = table[drawn, slate.chosen[drawn]]
    return Draws(table, taken)


def reweighted(
    slates: Sequence[ExploredSlate],
    labels: Mapping[str, Labels],
    weights: Mapping[str, float],
    objective: str,
    *,
    positions: int | None = None,
) -> tuple[LoggedSlates, dict[RewardModel, Predictions]]:
    """The slates that ``labels`` know, with the propensities of ``weights``, and predictions.

    A reward is 1 where an item met ``objective``; of a slate its first ``positions`` count, all by
    default. Slates of one user are one group. Raises
    ``FailedPrecondition`` where no slate has labels, or where the log's own weights do not give the
    propensities that it says.
    """
    known = [slate for slate in slates if slate.rank_id in labels]
    if not known:
        raise FailedPrecondition(
            f"none of {len(slates)} explored slates has mature labels in the dataset",
            reason="NOTHING_EXPLORED",
        )
    longest = max(len(slate.item_ids) for slate in known)
    most = longest if positions is None else min(longest, positions)
    rewards, logged, new, terms, expected = np.zeros((5, len(known), most))
    for row, slate in enumerate(known):
        width = min(len(slate.item_ids), most)
        met = labels[slate.rank_id].met
        rewards[row, :width] = [met.get(item, 0.0) for item in slate.item_ids[:width]]
        logged[row, :width] = slate.log_propensities[:width]
        own = draws(slate, {}).taken
        if not np.allclose(own, slate.log_propensities, rtol=0.0, atol=_TOLERANCE):
            raise FailedPrecondition(
                f"{slate.rank_id}: the weights that were logged do not give the propensities that"
                " were logged",
                reason="PROPENSITIES_DIFFER",
            )
        drawn = draws(slate, weights)
        new[row, :width] = drawn.taken[:width]
        shown, of_new = _expected_terms(slate, drawn, objective)
        terms[row, :width], expected[row, :width] = shown[:width], of_new[:width]
    users = [labels[slate.rank_id].user for slate in known]
    _, groups = np.unique(users, return_inverse=True)
    found = LoggedSlates(rewards, logged, new, groups=groups.astype(np.int64))
    return found, _predictions(found, terms, expected)


def _expected_terms(slate: ExploredSlate, drawn: Draws, objective: str) -> tuple[Values, Values]:
    """The objective's term of each position's item, and its mean over the new draws, [P] each.

    0 for items that are no candidates: nothing was drawn there.
    """
    if objective not in slate.objectives:
        nothing = np.zeros(len(slate.item_ids))
        return nothing, nothing
    column = slate.terms[:, slate.objectives.index(objective)].astype(np.float64)
    shown = np.where(slate.chosen >= 0, column[np.maximum(slate.chosen, 0)], 0.0)
    is_drawn = slate.feasible.any(axis=1)
    return shown, np.where(is_drawn, np.exp(drawn.table) @ column, shown)


def _predictions(
    slates: LoggedSlates, terms: Values, expected: Values
) -> dict[RewardModel, Predictions]:
    """Predictions from the ranker's own terms, scaled by position to what users of other folds did.

    Of a position: its term, scaled, and what is earned after it on average; of the whole slate the
    scaled terms before it, too.
    """
    assert slates.groups is not None  # noqa: S101 - made with users
    fold = slates.groups % _FOLDS
    scaled, of_new, after = np.zeros((3, *terms.shape))
    for left_out in range(_FOLDS):
        rows, others = fold == left_out, fold != left_out
        earned, predicted = slates.rewards[others].sum(axis=0), terms[others].sum(axis=0)
        scale = np.divide(earned, predicted, out=np.zeros_like(earned), where=predicted > 0.0)
        mean = earned / max(int(others.sum()), 1)
        scaled[rows], of_new[rows] = terms[rows] * scale, expected[rows] * scale
        after[rows] = np.cumsum(mean[::-1])[::-1] - mean
    before = np.cumsum(scaled, axis=1) - scaled
    return {
        RewardModel.CASCADE: Predictions(scaled + after, of_new + after),
        RewardModel.WHOLE_SLATE: Predictions(before + scaled + after, before + of_new + after),
    }
