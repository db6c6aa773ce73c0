"""What a source is, what it is bound to, and what it is asked.

A configured ``Source`` is bound once for each bundle and catalogue version, off the request path;
what comes of it, a ``BoundSource``, is asked for all requests of a micro-batch that share a
surface.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from services.ranker.arrays import BoolArray, Float32Array, Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import FeatureRows
from services.ranker.guarantee import Guarantee
from services.ranker.ports import Model
from services.ranker.sources.nearby import Nearby

Result = TypeVar("Result")
Made = dict[Hashable, tuple[tuple[object, ...], Any]]
"""(inputs, result) by key."""


@dataclass(frozen=True)
class Asked:
    """B requests of one surface.

    ``vectors`` float32 [B, D] are the users'; ``places`` their rows among ``rows``;
    ``candidate_ids`` what each request named. ``count_unknown`` is told how many of those no item
    answers to. ``items``: how many the surface's table has; slots are below. ``seeds`` are the
    requests', ``now_ms`` the moment that they are ranked at.
    """

    model: Model
    vectors: Float32Array
    rows: FeatureRows
    places: Sequence[int]
    candidate_ids: Sequence[Sequence[str]]
    count_unknown: Callable[[int], None]
    items: int
    seeds: Sequence[int]
    now_ms: int

    def __len__(self) -> int:
        return len(self.places)

    def lists(self, feature: str) -> list[Sequence[str]]:
        """A list feature of the users, oldest first; empty where it is not known."""
        return self.rows.lists_of(self.places, feature)

    def latest(self, feature: str, count: int) -> list[list[str]]:
        """The last ``count`` different ids of a list feature, the latest first."""
        return [latest(ids, count) for ids in self.lists(feature)]


class BoundSource(Protocol):
    """A source over one bundle and one version of the catalogue. Used by one thread."""

    def ask(self, asked: Asked) -> list[Int64Array]:
        """For each of the B requests different slots, best first, at most the quota.

        An item that must not be shown to anybody (withdrawn, or removed by a filter that looks at
        items only) is not yielded. What one request gets does not depend on the others.
        """


class Source(Protocol):
    """A configured source."""

    @property
    def name(self) -> str:
        """What travels with its candidates."""

    @property
    def quota(self) -> int:
        """Most items it yields for a request."""

    def bind(self, ground: Ground) -> BoundSource:
        """The source over one bundle and one version of the catalogue."""


@dataclass(frozen=True)
class Histories:
    """Items that users' histories name: their table, and their vectors float32 [m, D] by slot."""

    table: EntityTable
    vectors: Float32Array


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Which items users meet together: for each of R items up to K others.

    ``ids`` are the items', ``row_of`` their rows; ``rows`` int64 [R, K] the rows of the others, -1
    after the last; ``similarities`` float32 [R, K], 0 there.
    """

    ids: Sequence[str]
    row_of: Mapping[str, int]
    rows: Int64Array
    similarities: Float32Array


@dataclass(frozen=True)
class Ground:
    """What a source is bound to: n items of a surface's entity type.

    ``eligible`` bool [n]: which of them may be shown at all. ``histories`` is None where the
    catalogue lacks the entity of the histories, ``neighbours`` where the bundle holds none,
    ``guarantee`` where the surface has none.
    """

    table: EntityTable
    eligible: BoolArray
    nearby: Nearby
    histories: Histories | None
    neighbours: Neighbours | None
    guarantee: Guarantee | None
    reuse: Reuse

    def order(self, feature: str | None) -> Float32Array | Int64Array:
        """What items are ordered by, highest first; [n], zeros without a feature."""
        values = None if feature is None else self.table.numeric(feature)
        return np.zeros(len(self.table), np.float32) if values is None else values


@dataclass
class Reuse:
    """What was made for the version before, where nothing that it was made of has changed.

    Of inputs, flat arrays, numbers and texts are compared by content, all else by identity.
    """

    before: Made = field(default_factory=dict)
    made: Made = field(default_factory=dict)

    def get(self, key: Hashable, inputs: tuple[object, ...], make: Callable[[], Result]) -> Result:
        """The result for ``inputs``: that of this version, of the one before, or a new one."""
        if key in self.made:
            return cast(Result, self.made[key][1])
        earlier = self.before.get(key)
        if earlier is not None and _same(earlier[0], inputs):
            result = cast(Result, earlier[1])
        else:
            result = make()
        self.made[key] = (inputs, result)
        return result


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    return len(before) == len(now) and all(map(_equal, before, now))


def _equal(before: object, now: object) -> bool:
    if before is now:
        return True
    if isinstance(before, np.ndarray) and isinstance(now, np.ndarray):
        return before.ndim == 1 and np.array_equal(before, now)
    return isinstance(now, int | str) and bool(before == now)


def latest(ids: Sequence[str], count: int) -> list[str]:
    """The last ``count`` different ones of ``ids``, which are oldest first; the latest first."""
    return list(islice(dict.fromkeys(reversed(ids)), count))


def nothing(requests: int) -> list[Int64Array]:
    """No slots for any request."""
    return [np.zeros(0, np.int64) for _ in range(requests)]
