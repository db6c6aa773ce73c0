"""Ranks every question of a fold with several systems and compares them, paired by user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from offline.evaluation.baselines import Baseline, Scorer
from offline.evaluation.bootstrap import Interval, Values, interval, resampled_means
from offline.evaluation.fold import Fold
from offline.evaluation.metrics import coverage, recall, user_metrics
from offline.evaluation.ragged import Ragged
from offline.evaluation.ranking import order_keys, ranks_of, top_k

CUTOFFS = (5, 10, 20)
RECALL_CUTOFFS = (50, 500)
HEADLINE = ("hr@10", "ndcg@10", "mrr")
COVERAGE_K = 10
_BATCH = 1024

Advance = Callable[[int], None]


def _ignore(_users: int) -> None:
    return None


@dataclass(frozen=True)
class Outcome:
    """How one system did: ``metrics`` name to [n] values, one a question, in the fold's order.

    ``coverage``: share of available items that stand among anybody's first ten.
    """

    name: str
    metrics: dict[str, Values]
    coverage: float


@dataclass(frozen=True)
class Difference:
    """Mean of (system - baseline) over the same users, with its interval."""

    system: str
    baseline: str
    metric: str
    value: Interval


@dataclass(frozen=True)
class Comparison:
    """Intervals of every system, and of the first one's paired differences to the others."""

    figures: dict[str, dict[str, Interval]]
    differences: list[Difference]


def judge(name: str, scorer: Scorer, fold: Fold, *, advance: Advance = _ignore) -> Outcome:
    """Ranks all that may be ranked for each question; ``advance`` is told of users done."""
    ranks, shown = [], []
    for start in range(0, len(fold.asked), _BATCH):
        part = np.arange(start, min(start + _BATCH, len(fold.asked)), dtype=np.int64)
        scores = scorer.score(fold.asked[part])
        keys = order_keys(scores, fold.barred.take(part), fold.available)
        ranks.append(ranks_of(keys, fold.truth.take(part)))
        shown.append(np.unique(top_k(keys, COVERAGE_K)))
        advance(len(part))
    every = Ragged(np.concatenate(ranks), fold.truth.offsets)
    metrics = user_metrics(every, CUTOFFS)
    metrics |= {f"recall@{k}": recall(every, k) for k in RECALL_CUTOFFS}
    return Outcome(name, metrics, coverage(np.concatenate(shown), fold.available))


def compare(
    outcomes: Sequence[Outcome], *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Comparison:
    """Bootstraps all ``outcomes`` over the same draws of users; the first is the one compared."""
    columns = [(o, metric) for o in outcomes for metric in o.metrics]
    values = np.stack([o.metrics[metric] for o, metric in columns], axis=1)
    means, drawn = values.mean(axis=0), resampled_means(values, resamples=resamples, seed=seed)
    place = {(o.name, metric): index for index, (o, metric) in enumerate(columns)}
    figures: dict[str, dict[str, Interval]] = {o.name: {} for o in outcomes}
    for (name, metric), column in place.items():
        figures[name][metric] = interval(float(means[column]), drawn[:, column], confidence)
    ours = outcomes[0].name
    differences = []
    for other in outcomes[1:]:
        for metric in HEADLINE:
            a, b = place[ours, metric], place[other.name, metric]
            gap = interval(float(means[a] - means[b]), drawn[:, a] - drawn[:, b], confidence)
            differences.append(Difference(ours, other.name, metric, gap))
    return Comparison(figures, differences)


def choose(
    families: Mapping[str, Sequence[Baseline]],
    validation: Fold,
    *,
    metric: str = "ndcg@10",
    advance: Advance = _ignore,
) -> dict[str, Baseline]:
    """The best settings of each family of baselines on a validation fold.

    A family of one is taken as it is. Baselines get what the model gets: settings chosen on
    validation, and the test reported once.
    """
    chosen: dict[str, Baseline] = {}
    for family, candidates in families.items():
        best = -1.0
        for candidate in candidates:
            if len(candidates) == 1:
                chosen[family] = candidate
                break
            outcome = judge(candidate.name, candidate.fit(validation), validation, advance=advance)
            mean = float(outcome.metrics[metric].mean())
            if mean > best:
                chosen[family], best = candidate, mean
    return chosen
