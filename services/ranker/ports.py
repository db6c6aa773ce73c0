"""What the ranker's core asks of its adapters.

Shapes: B requests of a micro-batch, N candidates over all of them, n rows of one catalogue table,
I item features, U user features, O objectives, D dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.feature_rows import FeatureRows, View
from services.ranker.types import Degradation, Part, RankResult


class PendingRows(Protocol):
    """User rows under way."""

    def ready(self, longest_s: float) -> bool:
        """Whether ``result`` is there, for which it waits so many seconds at most."""

    def result(self) -> FeatureRows:
        """Waits. Raises Unavailable, DeadlinePassed or UnknownFeatureView."""


class UserFeatures(Protocol):
    """Reads user rows, a whole micro-batch at once."""

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> PendingRows:
        """Sends the call and returns at once; never raises. ``sticky_ids``: actor keys of whom it
        is asked what variants they keep."""


class SlateLog(Protocol):
    """Keeps what was answered."""

    def record(self, results: Sequence[RankResult]) -> None:
        """Writes slates and exposures; they survive the process when this returns."""


class Observer(Protocol):
    """Counts what happens in the pipeline."""

    def batch(self, size: int) -> None:
        """A micro-batch was taken."""

    def degraded(self, degradation: Degradation) -> None:
        """A response was degraded."""

    def removed(self, surface: str, reason: str, count: int) -> None:
        """A filter removed candidates."""

    def non_finite(self, part: Part, count: int) -> None:
        """Values were not finite and were replaced or sunk."""

    def stage(self, name: str, duration_us: int) -> None:
        """A stage of a micro-batch ended."""

    def source(self, name: str, duration_s: float) -> None:
        """A source was asked for the requests of one surface of a micro-batch."""

    def unknown_candidates(self, surface: str, count: int) -> None:
        """A request named candidates that no item answers to."""

    def dropped(self, reason: str) -> None:
        """A request left before work was done for it."""


class Model(Protocol):
    """What the pipeline asks of a loaded bundle; services.common.bundle.LoadedBundle has it."""

    def lookup(self, vocabulary: str, values: Sequence[str]) -> Int64Array:
        """Rows in a vocabulary, int64 [len(values)]; 0 is unknown."""

    def lookup_actions(self, names: Sequence[str]) -> Int64Array:
        """Indices of event types, int64 [len(names)]; 0 is unknown."""

    def encode_users(
        self,
        items: Int64Array,
        actions: Int64Array,
        user_features: Float32Array,
        surface: Int64Array,
    ) -> Float32Array:
        """User vectors [B, D] of items and actions [B, L], user features [B, U], surface [B]."""

    def encode_items(
        self, entity_type: Int64Array, fields: Int64Array, numeric: Float32Array
    ) -> Float32Array:
        """Item vectors [n, D] of entity_type [n], fields [n, V], numeric [n, M]."""

    def item_parts(self, item_vector: Float32Array, item_features: Float32Array) -> Float32Array:
        """What stands still of n items adds to the ranker's first layer: [n, H], H 0 for nothing,
        of item_vector [n, D] and raw item_features [n, I]."""

    def item_logits(self, item_features: Float32Array, surface: Int64Array) -> Float32Array:
        """The first pass' logits of n items, [n, O], of raw item_features [n, I] on surface [n];
        asked only where the bundle's specification has slopes of the surface."""

    @property
    def ranker_inputs(self) -> frozenset[str]:
        """Which arguments of ``score`` the ranker reads; of others the values do not matter."""

    def search(self, entity: str, queries: Float32Array, k: int) -> tuple[Float32Array, Int64Array]:
        """Scores and index rows [B, k] by inner product; -1 pads."""

    def score(
        self,
        *,
        user_vector: Float32Array,
        user_features: Float32Array,
        owner: Int64Array,
        item_vector: Float32Array,
        item_features: Float32Array,
        position: Int64Array,
        surface: Int64Array,
        item_part: Float32Array | None = None,
        cross_features: Float32Array | None = None,
    ) -> Float32Array:
        """Probabilities [N, O]; ``owner`` [N] is each candidate's row among the B users.

        ``item_part`` [N, H]: rows of ``item_parts``; computed where it is left out.
        ``cross_features`` [N, X]: as of a user of whom nothing is known where they are."""
