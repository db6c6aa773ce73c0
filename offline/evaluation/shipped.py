"""A published bundle as a system: the steps of serving, for many users at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.fold import Fold
from offline.evaluation.ragged import Rows
from offline.training.crosses import CrossRows
from services.common.bundle.loaded import LoadedBundle
from services.common.domain import Domain
from services.common.errors import FailedPrecondition
from services.common.first_pass import first_pass_probabilities

Floats = NDArray[np.float32]
# Users whose candidates are gathered at once: bounds memory at users x candidates x dim floats.
_USERS_AT_ONCE = 64
_USERS_ENCODED_AT_ONCE = 512


@dataclass(frozen=True)
class ModelInputs:
    """What the models read as of the cut: n questions in a fold's order, I items of its catalogue.

    ``sequence_items``, ``sequence_actions`` int64 [n, L] and ``user_features`` float32 [n, U],
    ``item_features`` float32 [I, G], ``tower_fields`` int64 [I, F], ``tower_numeric`` float32
    [I, M], as ``LoadedBundle`` takes them. ``trending`` float32 [I] by name of feature.
    ``crosses``: what cross features are made of, questions being the users.
    """

    sequence_items: Rows
    sequence_actions: Rows
    user_features: Floats
    item_features: Floats
    tower_fields: Rows
    tower_numeric: Floats
    trending: dict[str, Floats]
    crosses: CrossRows = field(default_factory=lambda: CrossRows(()))


class BundleScorer:
    """Retrieval, then the ranker's value, on one surface. Filters are the fold's own bars.

    Items outside the candidates of the surface's personal and trending sources get -inf: they are
    not ranked; what its other sources would add is left out. Where the surface scores fewer than it
    gathers, the best by the bundle's first pass are. Position is neutral. Caps are left
    out: they shape a slate, not the order. Raises ``FailedPrecondition`` where the bundle lacks an
    objective that the domain weighs, or the surface's index.
    """

    def __init__(
        self, bundle: LoadedBundle, domain: Domain, surface: str, fold: Fold, inputs: ModelInputs
    ) -> None:
        self._bundle, self._fold, self._inputs = bundle, fold, inputs
        self._name, self._surface = surface, domain.surfaces[surface]
        self._surface_index = bundle.manifest.surface_index(surface)
        self._weights = _weights(bundle, domain, surface)
        entity = self._surface.entity
        if entity not in bundle.item_ids:
            raise FailedPrecondition(f"bundle {bundle.version} has no index of {entity}")
        place = {item: row for row, item in enumerate(fold.items)}
        self._item_of_row = np.array(
            [place.get(item, -1) for item in bundle.item_ids[entity]], dtype=np.int64
        )
        self._vectors, self._outside = _item_vectors(bundle, entity, self._item_of_row, inputs)

    def score(self, users: Rows) -> Floats:
        """Value float32 [B, I] of the candidates of each user, -inf for the others."""
        found = np.full((len(users), len(self._fold.items)), -np.inf, dtype=np.float32)
        for start in range(0, len(users), _USERS_AT_ONCE):
            part = slice(start, start + _USERS_AT_ONCE)
            self._score(users[part], found[part])
        return found

    def retrieval(self) -> RetrievalScorer:
        """The retrieval model alone: exact inner products with every item."""
        return RetrievalScorer(self, self._vectors)

    def user_vectors(self, users: Rows) -> Floats:
        """User vectors float32 [B, dim]."""
        return self._user_vectors[np.searchsorted(self._fold.asked, users)]

    @cached_property
    def _user_vectors(self) -> Floats:
        """Vectors of all users asked, float32 [n, dim]: two systems read them."""
        inputs, count = self._inputs, len(self._fold.asked)
        found = np.zeros((count, self._bundle.dim), dtype=np.float32)
        for start in range(0, count, _USERS_ENCODED_AT_ONCE):
            part = slice(start, min(start + _USERS_ENCODED_AT_ONCE, count))
            found[part] = self._bundle.encode_users(
                inputs.sequence_items[part],
                inputs.sequence_actions[part],
                inputs.user_features[part],
                np.full(part.stop - start, self._surface_index, dtype=np.int64),
            )
        return found

    def both(self, user: int, items: Rows) -> tuple[Floats, Floats, Floats] | None:
        """Values of ``items`` [n] to a user by the ranker, by the first pass, and their nearness,
        float32 [n] each; None where the bundle has no first pass of the surface."""
        if self._slopes is None:
            return None
        users, owner = np.array([user]), np.zeros(len(items), np.int64)
        vectors = self.user_vectors(users)
        first = self._first(vectors, owner, items)
        return self._ranked(users, vectors, owner, items), first, self._vectors[items] @ vectors[0]

    @cached_property
    def _slopes(self) -> Floats | None:
        first_pass = self._bundle.manifest.first_pass
        slopes = None if first_pass is None else first_pass.slopes.get(self._name)
        return None if slopes is None else np.array(slopes, np.float32)

    @cached_property
    def _item_logits(self) -> Floats:
        """The first pass' of all items, float32 [I, O]."""
        features = self._inputs.item_features
        return self._bundle.item_logits(
            features, np.full(len(features), self._surface_index, np.int64)
        )

    def _first(self, vectors: Floats, owner: Rows, item: Rows) -> Floats:
        assert self._slopes is not None  # noqa: S101 - asked only where there are
        nearness = np.einsum("nd,nd->n", vectors[owner], self._vectors[item])
        values: Floats = (
            first_pass_probabilities(nearness, self._item_logits[item], self._slopes)
            @ self._weights
        )
        return values

    def _cut(self, users: Rows, vectors: Floats, chosen: NDArray[np.bool_]) -> None:
        """Leaves each user's best of the ``chosen`` [B, I] that may be shown to them."""
        scored = self._surface.scored
        if scored is None or self._slopes is None:
            return
        for row, question in enumerate(np.searchsorted(self._fold.asked, users).tolist()):
            chosen[row, self._fold.barred.row(question)] = False
            items = np.flatnonzero(chosen[row] & self._fold.available)
            values = self._first(vectors[row : row + 1], np.zeros(len(items), np.int64), items)
            chosen[row] = False
            chosen[row, items[np.argsort(-values, kind="stable")[:scored]]] = True

    def _score(self, users: Rows, found: Floats) -> None:
        vectors = self.user_vectors(users)
        chosen = self._candidates(vectors)
        self._cut(users, vectors, chosen)
        owner, item = np.nonzero(chosen)
        found[owner, item] = self._ranked(users, vectors, owner, item)

    def _ranked(self, users: Rows, vectors: Floats, owner: Rows, item: Rows) -> Floats:
        questions = np.searchsorted(self._fold.asked, users)
        crosses = self._inputs.crosses.columns(questions, owner, item)
        probabilities = self._bundle.score(
            user_vector=vectors,
            user_features=self._inputs.user_features[questions],
            owner=owner.astype(np.int64),
            item_vector=self._vectors[item],
            item_features=self._inputs.item_features[item],
            position=np.zeros(len(item), dtype=np.int64),
            surface=np.full(len(users), self._surface_index, dtype=np.int64),
            cross_features=crosses if self._inputs.crosses.sides else None,
        )
        values: Floats = probabilities @ self._weights
        return values

    def _candidates(self, vectors: Floats) -> NDArray[np.bool_]:
        """Whether a personal or trending source of the surface yields the item, bool [B, I]."""
        chosen = np.zeros((len(vectors), len(self._fold.items)), dtype=np.bool_)
        for source in self._surface.sources:
            if source.kind == "personal":
                self._nearest(vectors, source.quota, chosen)
            elif source.kind == "trending":
                order = np.argsort(-self._inputs.trending[source.feature], kind="stable")
                open_items = order[self._fold.available[order]]
                chosen[:, open_items[: source.quota]] = True
        return chosen

    def _nearest(self, vectors: Floats, quota: int, chosen: NDArray[np.bool_]) -> None:
        scores, rows = self._bundle.search(self._surface.entity, vectors, quota)
        items = np.where(rows >= 0, self._item_of_row[rows], -1)
        scores = np.where(items >= 0, scores, -np.inf)
        outside = np.flatnonzero(self._outside)
        if len(outside):
            # New items compete for the quota as the ranker's compact matrix makes them.
            scores = np.hstack([scores, vectors @ self._vectors[outside].T])
            items = np.hstack([items, np.tile(outside, (len(vectors), 1))])
            best = np.argsort(-scores, axis=1, kind="stable")[:, :quota]
            scores = np.take_along_axis(scores, best, axis=1)
            items = np.take_along_axis(items, best, axis=1)
        owner, column = np.nonzero(np.isfinite(scores))
        chosen[owner, items[owner, column]] = True


@dataclass(frozen=True)
class RetrievalScorer:
    """Inner products of user vectors with ``item_vectors`` float32 [I, dim]."""

    bundle: BundleScorer
    item_vectors: Floats

    def score(self, users: Rows) -> Floats:
        """Inner products float32 [B, I]."""
        return np.asarray(self.bundle.user_vectors(users) @ self.item_vectors.T, dtype=np.float32)


def _weights(bundle: LoadedBundle, domain: Domain, surface: str) -> Floats:
    """Weight of each of the bundle's objectives on a surface, [O]."""
    own = domain.surfaces[surface].objective_weights
    names = [objective.name for objective in bundle.manifest.objectives]
    missing = sorted(set(own) - set(names))
    if missing:
        raise FailedPrecondition(f"bundle {bundle.version} lacks objective {missing[0]!r}")
    return np.array(
        [own.get(o.name, o.weight) for o in bundle.manifest.objectives], dtype=np.float32
    )


def _item_vectors(
    bundle: LoadedBundle, entity: str, item_of_row: Rows, inputs: ModelInputs
) -> tuple[Floats, NDArray[np.bool_]]:
    """Vectors of all items, float32 [I, dim], and which of them the index does not hold, [I]."""
    count = len(inputs.item_features)
    vectors = np.zeros((count, bundle.dim), dtype=np.float32)
    known = item_of_row >= 0
    vectors[item_of_row[known]] = bundle.item_vectors[entity][known]
    outside = np.ones(count, dtype=np.bool_)
    outside[item_of_row[known]] = False
    if outside.any():
        kind = np.full(int(outside.sum()), bundle.manifest.entity_index(entity), dtype=np.int64)
        vectors[outside] = bundle.encode_items(
            kind, inputs.tower_fields[outside], inputs.tower_numeric[outside]
        )
    return vectors, outside
