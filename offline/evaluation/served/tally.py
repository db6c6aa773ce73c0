"""What became of the true items at each stage, request by request, and what of it is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.bootstrap import Interval, interval, resampled_means
from offline.evaluation.metrics import user_metrics
from offline.evaluation.ragged import Ragged
from offline.evaluation.ranking import UNRANKED
from services.ranker.in_process import Answer

Values = NDArray[np.float64]
CUTOFFS = (5, 10, 20)
SHOWN = 10
"""Positions that coverage and the sources' shares are of."""


@dataclass
class Tally:
    """Gathers answers. ``sources``: names in the surface's order; ``recall_at``: how many nearest,
    and merged, candidates recall is counted among.

    ``stages``: share of the true items that are there, one a request, by name: ``found`` by a
    source, by it ``only``, ``nearest@`` and ``merged@`` so many, ``merged`` by the surface's
    quotas, ``scored`` by the ranker, in the ``slate``. ``ranks`` of the true items in the slate.
    ``shown`` and ``hits``: places among the first ten, and true items there, by the source that
    they count for; ``items`` that stood there, of those ``showable`` to somebody.
    """

    sources: Sequence[str]
    recall_at: int
    stages: dict[str, list[float]] = field(default_factory=dict)
    ranks: list[list[int]] = field(default_factory=list)
    shown: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    items: set[str] = field(default_factory=set)
    showable: set[str] = field(default_factory=set)

    def add(self, truth: Collection[str], answer: Answer) -> None:
        """One request of which ``truth`` was chosen."""
        places = {id_: place for place, id_ in enumerate(answer.slate)}
        self.ranks.append([places.get(id_, UNRANKED) for id_ in sorted(truth)])
        found = dict(zip(self.sources, answer.found, strict=True))
        by_item = [[source for source in found if id_ in found[source]] for id_ in truth]
        for source in self.sources:
            self._note(f"found {source}", [source in by for by in by_item])
            self._note(f"only {source}", [by == [source] for by in by_item])
        self._recall(f"nearest@{self.recall_at}", truth, answer.nearest)
        self._recall(f"merged@{self.recall_at}", truth, answer.merged_at)
        self._recall("merged", truth, answer.merged)
        self._recall("scored", truth, answer.scored)
        self._recall("slate", truth, answer.slate)
        for id_, source in zip(answer.slate[:SHOWN], answer.sources, strict=False):
            self.shown[source] += 1
            self.hits[source] += id_ in truth
            self.items.add(id_)

    def _recall(self, name: str, truth: Collection[str], found: Sequence[str]) -> None:
        self._note(name, [id_ in found for id_ in truth])

    def _note(self, name: str, there: Sequence[bool]) -> None:
        """Share of the true items that are there."""
        self.stages.setdefault(name, []).append(sum(there) / len(there))

    def metrics(self, length: int) -> dict[str, Values]:
        """Figures of every request [n] by name: recall of each stage, and HR, NDCG and MRR of
        slates of ``length``."""
        found = {name: np.array(values) for name, values in self.stages.items()}
        cutoffs = [k for k in CUTOFFS if k <= length]
        return user_metrics(Ragged.of(self.ranks), cutoffs) | found

    @property
    def coverage(self) -> float:
        """Share of what could be shown to somebody that stands among anybody's first ten."""
        return len(self.items) / len(self.showable) if self.showable else 0.0


def clustered(
    users: Sequence[str], metrics: dict[str, Values], *, resamples: int, seed: int
) -> dict[str, Interval]:
    """Means over requests [n] by name, with percentile intervals over draws of *users* with all
    that they asked (Davison & Hinkley 1997, section 3.8): requests of one user are alike."""
    owners = np.unique(np.array(users), return_inverse=True)[1]
    values = np.stack([*metrics.values(), np.ones(len(owners))], axis=1)
    sums = np.zeros((int(owners.max()) + 1, values.shape[1]))
    np.add.at(sums, owners, values)
    drawn = resampled_means(sums, resamples=resamples, seed=seed)
    return {
        name: interval(float(found.mean()), drawn[:, at] / drawn[:, -1])
        for at, (name, found) in enumerate(metrics.items())
    }
