"""The pipeline that serves, ranking for simulated visitors under several arms at once.

Arms that share a bundle are surfaces of one serving state, so that one micro-batch ranks a visitor
under every one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.closed_loop_arms import Change
from services.common.assign.assign import Definitions
from services.common.bundle.loaded import LoadedBundle
from services.common.ids import seed_of
from services.common.settings import RankerSettings
from services.ranker.arrays import Float32Array
from services.ranker.definitions.in_force import FixedDefinitions
from services.ranker.governor import Governor
from services.ranker.last_known import LastKnownRows
from services.ranker.pipeline import Pipeline
from services.ranker.plan import BundleSpec
from services.ranker.ports import Model, UserFeatures
from services.ranker.sources.asking import SourceAsking
from services.ranker.sources.breaker import SourceLimits
from services.ranker.state import ServingState, Tables, prepare
from services.ranker.types import Call, RankCommand, RankResult, Slate
from services.ranker.unobserved import Unobserved

SURFACE = "courses"
EXACT_ROWS: int = RankerSettings.model_fields["exact_search_rows"].default


class Positioned:
    """A bundle that scores every item as if it stood at one logged position, from 0."""

    def __init__(self, bundle: LoadedBundle, position: int) -> None:
        self._bundle = bundle
        self._position = position

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bundle, name)

    def score(self, **inputs: Any) -> Float32Array:
        """The bundle's predictions for that position."""
        inputs["position"] = np.full_like(inputs["position"], self._position + 1)
        return self._bundle.score(**inputs)


class Unscored:
    """A bundle whose ranker does not run: what is left is nearness to the user's vector."""

    def __init__(self, bundle: LoadedBundle) -> None:
        self._bundle = bundle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bundle, name)

    def score(self, **inputs: object) -> Float32Array:
        """Fails, as a ranker that is broken."""
        raise UnscoredError(f"{len(inputs)} inputs are not scored")


class UnscoredError(Exception):
    """Scoring was left out on purpose."""


class Ranker:
    """Ranks under several arms of one bundle. ``clock_ms`` is the simulated time."""

    def __init__(
        self,
        model: Model,
        spec: BundleSpec,
        arms: Mapping[str, Change],
        users: UserFeatures,
        clock_ms: Callable[[], int],
    ) -> None:
        surface = spec.surfaces[SURFACE]
        self._model = model
        self._clock_ms = clock_ms
        self.arms = tuple(arms)
        self.view = spec.views[surface.entity]
        self._spec = replace(
            spec,
            surfaces={name: replace(change(surface), name=name) for name, change in arms.items()},
            surface_index=dict.fromkeys(arms, spec.surface_index[SURFACE]),
        )
        self._state: ServingState | None = None
        self._pipeline = Pipeline(
            self._in_force,
            users,
            FixedDefinitions(Definitions({}, "")),
            _Nowhere(),
            _Nowhere(),
            last_known=LastKnownRows(capacity=1, max_age_s=0.0, monotonic_s=lambda: 0.0),
            # A busy machine must not leave a source out, nor candidates.
            sources=SourceAsking(
                SourceLimits(budget_s=math.inf), ran=lambda _name, _s: None, log_error=_raise
            ),
            governor=Governor(target_s=math.inf, floor=1.0),
            feature_timeout_s=60.0,
            new_rank_id=lambda: "",
            log_error=_raise,
            clock_ms=clock_ms,
        )

    def take(self, tables: Tables) -> None:
        """Puts a catalogue into force."""
        self._state = prepare(
            self._model,
            self._spec,
            tables,
            self._state,
            exact_rows=EXACT_ROWS,
            now_ms=self._clock_ms(),
        )

    def slates(
        self, users: Sequence[str], rank_ids: Sequence[str], length: int
    ) -> list[dict[str, Slate]]:
        """The slate of each user under every arm. Arms draw alike: the seed is the rank id's."""
        commands = [
            RankCommand(arm, user, "", k=length, rank_id=rank_id, seed=seed_of(rank_id))
            for user, rank_id in zip(users, rank_ids, strict=True)
            for arm in self.arms
        ]
        results = self._pipeline.finish(self._pipeline.begin(commands), range(len(commands)))
        slates = [result.slate for result in results]
        size = len(self.arms)
        return [
            dict(zip(self.arms, slates[at : at + size], strict=True))
            for at in range(0, len(slates), size)
        ]

    def predictions(self, user: str, ids: Sequence[str]) -> dict[str, Float32Array]:
        """Predictions float32 [ids] by objective for items of the catalogue, under the first arm.

        What the surface's filters remove is NaN.
        """
        command = RankCommand(self.arms[0], user, "", call=Call.SCORE, item_ids=ids)
        (result,) = self._pipeline.finish(self._pipeline.begin([command]), [0])
        slate, place = result.slate, {id_: at for at, id_ in enumerate(ids)}
        found = np.full((len(ids), len(slate.objectives)), np.nan, np.float32)
        found[[place[id_] for id_ in slate.ids]] = slate.predictions
        return dict(zip(slate.objectives, found.T, strict=True))

    def _in_force(self) -> ServingState:
        assert self._state is not None
        return self._state


class _Nowhere(Unobserved):
    """Keeps no slates and counts nothing."""

    def record(self, results: Sequence[RankResult]) -> None:
        del results


def _raise(what: str, error: Exception) -> None:
    """What fails here must not pass for a worse slate."""
    if not isinstance(error, UnscoredError):
        raise RuntimeError(what) from error
