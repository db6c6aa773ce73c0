"""What the model has to beat. Each learns from a fold's histories alone.

The one place that imports ``implicit``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from implicit.utils import ParameterWarning
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from offline.evaluation.fold import Fold
from offline.evaluation.ragged import Rows

Scores = NDArray[np.float32]


class Scorer(Protocol):
    """Scores every item for some users of the fold it was made for."""

    def score(self, users: Rows) -> Scores:
        """Scores float32 [B, I] for ``users`` int64 [B]; higher is better."""
        ...


class Baseline(Protocol):
    """A way to make a scorer from a fold. ``name`` tells its family and settings."""

    @property
    def name(self) -> str: ...

    def fit(self, fold: Fold) -> Scorer:
        """Learns from ``fold.history``; never looks at its questions."""
        ...


@dataclass(frozen=True)
class Popularity:
    """Number of events an item had, halved in weight every ``half_life_days`` of age.

    ``targets_only`` counts only events of the predicted kind.
    """

    targets_only: bool = False
    half_life_days: float | None = None

    @property
    def name(self) -> str:
        """Family and settings."""
        age = f", half-life {self.half_life_days:g} d" if self.half_life_days else ""
        return f"popularity ({_kind(self.targets_only)}{age})"

    def fit(self, fold: Fold) -> Scorer:
        """Counts."""
        weights = fold.is_target.astype(np.float64) if self.targets_only else None
        if self.half_life_days is not None:
            decay = np.exp2(-fold.age_ms / (self.half_life_days * 86_400_000.0))
            weights = decay if weights is None else weights * decay
        counts = np.bincount(fold.history.values, weights=weights, minlength=len(fold.items))
        return _SameForAll(counts.astype(np.float32))


@dataclass(frozen=True)
class MarkovChain:
    """How often an item followed the user's last one; popularity orders what never did.

    ``targets_only`` counts only successors of the predicted kind.
    """

    targets_only: bool = False

    @property
    def name(self) -> str:
        """Family and settings."""
        return f"markov chain ({_kind(self.targets_only)})"

    def fit(self, fold: Fold) -> Scorer:
        """Counts transitions between neighbours in each history."""
        history, count = fold.history, len(fold.items)
        same_user = history.owners[1:] == history.owners[:-1]
        if self.targets_only:
            same_user &= fold.is_target[1:]
        pairs = (history.values[:-1][same_user], history.values[1:][same_user])
        ones = np.ones(len(pairs[0]), dtype=np.float32)
        transitions = scipy.sparse.csr_matrix((ones, pairs), shape=(count, count))
        weights = fold.is_target if self.targets_only else None
        popular = np.bincount(history.values, weights=weights, minlength=count)
        # Below one transition: popularity only orders items that followed equally often.
        fallback = (0.5 * popular / max(popular.max(initial=0), 1)).astype(np.float32)
        return _Transitions(history.last(), transitions, fallback)


@dataclass(frozen=True)
class ItemKNN:
    """Sum over the history of each item's similarity to its ``neighbours`` nearest items."""

    neighbours: int = 100
    similarity: str = "cosine"
    targets_only: bool = False

    @property
    def name(self) -> str:
        """Family and settings."""
        return f"item-kNN ({self.similarity}, {self.neighbours}, {_kind(self.targets_only)})"

    def fit(self, fold: Fold) -> Scorer:
        """Similarities of item columns of the user-item matrix."""
        matrix = user_item_matrix(fold, targets_only=self.targets_only)
        kinds = {"cosine": CosineRecommender, "bm25": BM25Recommender}
        model = kinds[self.similarity](K=min(self.neighbours, len(fold.items)), num_threads=1)
        with warnings.catch_warnings():
            # implicit's own weighting makes the COO matrix that it then warns about.
            warnings.simplefilter("ignore", ParameterWarning)
            model.fit(matrix, show_progress=False)
        return _Linear(matrix, model.similarity)


@dataclass(frozen=True)
class MatrixFactorisation:
    """Inner products of factors: ``als`` (Hu, Koren & Volinsky 2008) or ``bpr`` (Rendle 2009)."""

    method: str = "als"
    factors: int = 64
    regularization: float = 0.01
    alpha: float = 1.0
    iterations: int = 15
    targets_only: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """Family and settings."""
        settings = f"{self.method}, {self.factors} factors"
        if self.method == "als":
            settings += f", reg {self.regularization:g}, alpha {self.alpha:g}"
        return f"matrix factorisation ({settings}, {_kind(self.targets_only)})"

    def fit(self, fold: Fold) -> Scorer:
        """Factorises the user-item matrix."""
        matrix = user_item_matrix(fold, targets_only=self.targets_only)
        common = {
            "factors": self.factors,
            "regularization": self.regularization,
            "iterations": self.iterations,
            "num_threads": 1,
            "random_state": self.seed,
        }
        # implicit runs its own threads; a pool of BLAS threads beside them slows it tenfold.
        with threadpool_limits(limits=1, user_api="blas"):
            model = (
                AlternatingLeastSquares(alpha=self.alpha, **common)
                if self.method == "als"
                else BayesianPersonalizedRanking(**common)
            )
            model.fit(matrix, show_progress=False)
        return _Factors(np.asarray(model.user_factors), np.asarray(model.item_factors))


def families(*, several_kinds: bool, clock: bool) -> dict[str, list[Baseline]]:
    """The baselines with the settings that are tried for each.

    ``several_kinds``: histories hold more kinds of event than the predicted one. ``clock``: events
    have times, not only an order.
    """
    kinds = (False, True) if several_kinds else (False,)
    half_lives = (None, 7.0, 2.0) if clock else (None,)
    return {
        "popularity": [Popularity(k, age) for k in kinds for age in half_lives],
        "markov chain": [MarkovChain(k) for k in kinds],
        "item-kNN": [
            ItemKNN(count, similarity, k)
            for k in kinds
            for similarity in ("cosine", "bm25")
            for count in (20, 100)
        ],
        "matrix factorisation": [
            *(
                MatrixFactorisation("als", factors, penalty, alpha, targets_only=k)
                for k in kinds
                for factors, penalty, alpha in ((8, 1.0, 1.0), (32, 10.0, 1.0), (32, 10.0, 10.0))
            ),
            # Many factors pay on a large catalogue with one kind of event; elsewhere they overfit.
            MatrixFactorisation("als", 128, 1.0, 40.0),
        ],
    }


def user_item_matrix(fold: Fold, *, targets_only: bool) -> scipy.sparse.csr_matrix:
    """CSR float32 [U, I]: 1 where the user's history holds the item."""
    owners, values = fold.history.owners, fold.history.values
    if targets_only:
        owners, values = owners[fold.is_target], values[fold.is_target]
    ones = np.ones(len(values), dtype=np.float32)
    shape = (len(fold.users), len(fold.items))
    matrix = scipy.sparse.csr_matrix((ones, (owners, values)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _kind(targets_only: bool) -> str:
    return "target events" if targets_only else "all events"


@dataclass(frozen=True)
class _SameForAll:
    scores: Scores

    def score(self, users: Rows) -> Scores:
        return np.tile(self.scores, (len(users), 1))


@dataclass(frozen=True)
class _Transitions:
    last: Rows
    transitions: scipy.sparse.csr_matrix
    fallback: Scores

    def score(self, users: Rows) -> Scores:
        last = self.last[users]
        found = np.tile(self.fallback, (len(users), 1))
        known = np.flatnonzero(last >= 0)
        found[known] += self.transitions[last[known]].toarray()
        return found


@dataclass(frozen=True)
class _Linear:
    matrix: scipy.sparse.csr_matrix
    weights: scipy.sparse.csr_matrix

    def score(self, users: Rows) -> Scores:
        return np.asarray((self.matrix[users] @ self.weights).toarray(), dtype=np.float32)


@dataclass(frozen=True)
class _Factors:
    users: Scores
    items: Scores

    def score(self, users: Rows) -> Scores:
        return np.asarray(self.users[users] @ self.items.T, dtype=np.float32)
