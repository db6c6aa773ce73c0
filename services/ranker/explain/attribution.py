"""Which features moved an item's value most, by occlusion.

Each feature in turn takes its declared default, the vectors in turn become zero, and what the
prediction loses by it is what the feature moved (occlusion: Zeiler & Fergus 2014; for features of
single instances the prediction difference of Robnik-Šikonja & Kononenko 2008). One feature at a
time: of two that say the same each seems to move little, and parts need not add up to the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.ports import Model

USER, ITEM = "user", "item"

VECTOR: Final = "vector"
"""Stands among the features for the vector of the user, and of the item."""

Values = Callable[[Float32Array, Int64Array], Float32Array]
"""Values float32 [n] of predictions [n, O] of the items at the given places [n]."""


@dataclass(frozen=True)
class Read:
    """What the ranker read: of one user ``vector`` float32 [D] and ``features`` [U], of P items
    ``item_vectors`` [P, D] and ``item_features`` [P, I], with names and defaults of both."""

    user_names: Sequence[str]
    user_defaults: Float32Array
    vector: Float32Array
    features: Float32Array
    # The last ``crosses`` of these are cross features, which say something of it to this user.
    item_names: Sequence[str]
    item_defaults: Float32Array
    item_vectors: Float32Array
    item_features: Float32Array
    surface: int
    crosses: int = 0


@dataclass(frozen=True)
class Moved:
    """What one feature, of the user's ``side`` or the item's, did. ``feature_value`` is nan for a
    vector; ``value`` and ``probabilities`` float32 [O] are those with it less those without."""

    side: str
    feature: str
    feature_value: float
    value: float
    probabilities: Float32Array


def attributed(model: Model, read: Read, values: Values, most: int) -> list[list[Moved]]:
    """For each of the P items the at most ``most`` features that moved its value most, those
    first. Runs the model once, over rows for what differs from its default alone."""
    trials = _Trials(read)
    items = len(read.item_vectors)
    for at, name in enumerate(read.user_names):
        if read.features[at] != read.user_defaults[at]:
            features = read.features.copy()
            features[at] = read.user_defaults[at]
            trials.of_user(name, float(read.features[at]), read.vector, features)
    if read.vector.any():
        trials.of_user(VECTOR, float("nan"), np.zeros_like(read.vector), read.features)
    for at, name in enumerate(read.item_names):
        for item in np.flatnonzero(read.item_features[:, at] != read.item_defaults[at]).tolist():
            features = read.item_features[item].copy()
            features[at] = read.item_defaults[at]
            value = float(read.item_features[item, at])
            trials.of_item(item, name, value, read.item_vectors[item], features)
    for item in np.flatnonzero(read.item_vectors.any(axis=1)).tolist():
        nothing = np.zeros_like(read.item_vectors[item])
        trials.of_item(item, VECTOR, float("nan"), nothing, read.item_features[item])
    predictions = trials.scored(model)
    rated = values(predictions, np.array(trials.items, np.int64))
    found: list[list[Moved]] = [[] for _ in range(items)]
    for row, (side, name, value) in enumerate(trials.names):
        item = trials.items[row + items]
        difference = float(rated[item] - rated[row + items])
        moved = predictions[item] - predictions[row + items]
        found[item].append(Moved(side, name, value, difference, moved))
    return [sorted(moves, key=lambda m: -abs(m.value))[:most] for moves in found]


class _Trials:
    """Rows to score: the items as they are, then each with something left out."""

    def __init__(self, read: Read) -> None:
        count = len(read.item_vectors)
        self._read = read
        self._users = [(read.vector, read.features)]
        self._owners = [0] * count
        self._rows = list(zip(read.item_vectors, read.item_features, strict=True))
        self.items = list(range(count))
        self.names: list[tuple[str, str, float]] = []

    def of_user(
        self, name: str, value: float, vector: Float32Array, features: Float32Array
    ) -> None:
        """Every item, to a user who lacks something."""
        self._users.append((vector, features))
        for item in range(len(self._read.item_vectors)):
            whole = self._read.item_vectors[item], self._read.item_features[item]
            self._add(item, (USER, name, value), whole, len(self._users) - 1)

    def of_item(
        self,
        item: int,
        name: str,
        value: float,
        vector: Float32Array,
        features: Float32Array,
    ) -> None:
        """An item that lacks something."""
        self._add(item, (ITEM, name, value), (vector, features), 0)

    def _add(
        self,
        item: int,
        name: tuple[str, str, float],
        row: tuple[Float32Array, Float32Array],
        owner: int,
    ) -> None:
        self.items.append(item)
        self.names.append(name)
        self._rows.append(row)
        self._owners.append(owner)

    def scored(self, model: Model) -> Float32Array:
        """Probabilities of all rows, in one run."""
        features = np.stack([features for _, features in self._rows])
        own = features.shape[1] - self._read.crosses
        crosses = {"cross_features": features[:, own:]} if self._read.crosses else {}
        return model.score(
            user_vector=np.stack([vector for vector, _ in self._users]),
            user_features=np.stack([features for _, features in self._users]),
            owner=np.array(self._owners, np.int64),
            item_vector=np.stack([vector for vector, _ in self._rows]),
            item_features=features[:, :own],
            position=np.zeros(len(self._rows), np.int64),
            surface=np.full(len(self._users), self._read.surface, np.int64),
            **crosses,
        )
