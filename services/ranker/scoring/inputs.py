"""What the ranker's graph reads of the candidates of some requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.feature_rows import FeatureRows
from services.ranker.ports import Model
from services.ranker.scoring.chunks import gathered
from services.ranker.scoring.crosses import cross_features
from services.ranker.state import ServingState
from services.ranker.users import UserInputs
from services.ranker.work import Work


@dataclass(frozen=True, slots=True)
class ScoreInputs:
    """Arguments of ``Model.score`` for B requests with N candidates over all of them.

    ``lengths``: candidates of each request, which lie one request after another. An item's row that
    the graph does not read is left without columns: [N, 0]. To see what a feature does, replace its
    column and score again; where it is one that stands still, without ``item_part``.
    """

    lengths: Sequence[int]
    user_vector: Float32Array
    user_features: Float32Array
    owner: Int64Array
    item_vector: Float32Array
    item_features: Float32Array
    item_part: Float32Array | None
    cross_features: Float32Array
    surface: Int64Array

    def score(self, model: Model) -> list[Float32Array]:
        """Probabilities of each request's candidates, [n, O] each."""
        scored = model.score(
            user_vector=self.user_vector,
            user_features=self.user_features,
            owner=self.owner,
            item_vector=self.item_vector,
            item_features=self.item_features,
            position=np.zeros(len(self.owner), np.int64),
            surface=self.surface,
            item_part=self.item_part,
            cross_features=self.cross_features,
        )
        ends = np.cumsum(self.lengths)
        return [scored[end - n : end] for end, n in zip(ends, self.lengths, strict=True)]


def score_inputs(
    state: ServingState,
    works: Sequence[Work],
    rows: FeatureRows,
    inputs: UserInputs,
    vectors: Float32Array,
) -> ScoreInputs:
    """Inputs of some requests of a micro-batch, whose users have the ``rows``, of which ``inputs``
    and ``vectors`` were made."""
    read, spec = state.model.ranker_inputs, state.spec
    owners = [work.row for work in works]
    lengths = [len(work.slots) for work in works]
    nothing = np.zeros((sum(lengths), 0), np.float32)

    def of(name: str, items: Sequence[Float32Array]) -> Float32Array:
        if name not in read:
            return nothing
        return gathered([rows.take(w.slots, 0) for rows, w in zip(items, works, strict=True)])

    crosses = nothing
    if "cross_features" in read:
        crosses = gathered(
            [cross_features(spec, w.plan, w.slots, rows, inputs, w.row) for w in works]
        )

    return ScoreInputs(
        lengths=lengths,
        user_vector=vectors[owners],
        user_features=inputs.features[owners],
        owner=np.repeat(np.arange(len(works)), lengths),
        item_vector=of("item_vector", [w.plan.items.vectors for w in works]),
        item_features=of("item_features", [w.plan.items.features for w in works]),
        item_part=of("item_part", [w.plan.items.parts for w in works]),
        cross_features=crosses,
        surface=np.array([w.plan.surface_index for w in works], np.int64),
    )
