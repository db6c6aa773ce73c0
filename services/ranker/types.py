"""Values that the stages of the ranker hand to one another.

Shapes: P positions of a slate, C candidates of a draw, O objectives.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from services.common.assign.assign import Assignment, Definitions, StickyDocument
from services.ranker.arrays import (
    BoolArray,
    ByteArray,
    Float32Array,
    Float64Array,
    Int64Array,
    UInt64Array,
)
from services.ranker.feature_rows import FeatureRows
from services.ranker.filters.tree import Expression

if TYPE_CHECKING:
    from services.ranker.definitions.arms import ShownArm
    from services.ranker.explain.explanation import Explanation

Removed = tuple[str, str]
"""Id of an item that is not shown, and why."""


class Traffic(enum.Enum):
    """Kinds of traffic; only LIVE trains and counts."""

    LIVE = 1
    TEST = 2
    LOAD = 3
    SHADOW = 4
    REPLAY = 5


class Part(enum.Enum):
    """Parts of the pipeline that can be left out or replaced."""

    USER_FEATURES = 1
    CATALOGUE = 2
    RETRIEVAL = 3
    SCORING = 4
    EXPERIMENTS = 5


class Call(enum.Enum):
    """What is asked of the pipeline.

    RANK retrieves, scores and selects; REFRESH does so with the items of an earlier slate; SCORE
    values given items and selects nothing; SIMILAR orders by nearness to an item.
    """

    RANK = 1
    REFRESH = 2
    SCORE = 3
    SIMILAR = 4


class Reason(enum.Enum):
    """Why a part did not do its work."""

    UNAVAILABLE = 1
    TIMEOUT = 2
    STALE = 3
    NON_FINITE = 4
    UNKNOWN_VIEW = 5
    FAILED = 6
    REPLACED = 7
    OVERLOADED = 8


@dataclass(frozen=True, slots=True)
class Degradation:
    """One part that was left out or replaced, and why. ``name``: which source, where it is one;
    ``age_ms``: of a part that is STALE, how old what served instead is."""

    part: Part
    reason: Reason
    name: str = ""
    age_ms: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a request says of its moment; an empty string where it says nothing.

    ``locale`` is a BCP 47 tag, ``region`` a code as the domain uses it.
    """

    locale: str = ""
    region: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """A numeric attribute; None when it is not given, or is none."""
        value = self.attributes.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value


@dataclass(frozen=True, slots=True)
class Following:
    """What a request takes over from the answer it follows, as that answer's token has it.

    ``items`` uint64: of a page, the lowest 40 bits of the hashes (``EntityTable.tie``) of all items
    shown before; of a refresh, the hashes of the items to score. ``page`` counts the pages, and
    refreshes, before. ``bundle`` and ``variants`` are digests. ``session_seed`` is that of the
    first page, None where it is not known.
    """

    parent_rank_id: str
    page: int
    first_position: int
    items: UInt64Array
    bundle: bytes
    variants: frozenset[bytes]
    session_seed: int | None = None


@dataclass(frozen=True, slots=True)
class SeenByExperiments:
    """What experiments see of a request beside its actor and circumstances: ``units``, raw ids by
    type; ``attributes``, JSON values by name; sticky ``documents`` by key."""

    units: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, object] = field(default_factory=dict)
    documents: Mapping[str, StickyDocument] = field(default_factory=dict)


NOTHING_MORE: Final = SeenByExperiments()


@dataclass(frozen=True, slots=True)
class RankCommand:
    """A checked request. ``k`` is 1 to 200, None meaning the surface's default; ``user_id`` or
    ``device_id`` is set, both raw. ``context`` is logged with the slate and means nothing here:
    ``circumstances`` is what filters read of it. ``filter``: the caller's own. ``candidate_ids``:
    at most 500 items that the caller wants considered too.

    ``rank_id``, empty for a new one, and ``seed`` (64 bits, None to derive it from the rank_id) are
    set where an idempotency key or a token decides them. ``item_ids`` are those to SCORE, or the
    one to find SIMILAR items to. ``filter_digest``, ``candidates_digest``: 8 bytes that stand for
    the caller's filter and for its candidates. ``deadline_s``: until when the caller waits, on the
    monotonic clock. ``debug``: with an explanation. ``shadow_of``: the rank_id of the answer that a
    shadow is compared with; empty for what is to be answered. ``seen``: by experiments.
    """

    surface: str
    user_id: str
    device_id: str
    k: int | None = None
    context: object = None
    traffic: Traffic = Traffic.LIVE
    dry_run: bool = False
    forced_variants: Mapping[str, str] = field(default_factory=dict)
    circumstances: Circumstances = Circumstances()
    filter: Expression | None = None
    call: Call = Call.RANK
    rank_id: str = ""
    seed: int | None = None
    following: Following | None = None
    item_ids: Sequence[str] = ()
    filter_digest: bytes = bytes(8)
    candidates_digest: bytes = bytes(8)
    candidate_ids: Sequence[str] = ()
    deadline_s: float | None = None
    debug: bool = False
    shadow_of: str = ""
    seen: SeenByExperiments = NOTHING_MORE


class Placement(enum.IntEnum):
    """How an item came to its position."""

    VALUE = 1
    DRAWN = 2
    PIN = 3
    NEW_ITEM = 4
    FLOOR = 5


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the open positions of an exploring slate were drawn from; P positions, C candidates.

    ``temperature`` and ``similarity_weight`` are in units of ``spread``. ``weights`` float32 [O],
    ``terms`` float32 [C, O], ``adjustments`` float32 [C] or None, ``similarities`` uint8 [P, C] in
    255ths or None, ``feasible`` bool [P, C], ``chosen`` int64 [P] (-1: none of the C),
    ``log_propensities`` float64 [P], ``earlier_similarities`` uint8 [C] in 255ths or None: beside
    what earlier pages showed. What each means is said at ``Exploration`` in ``event.proto``.
    """

    seed: int
    share: float
    temperature: float
    similarity_weight: float
    spread: float
    weights: Float32Array
    candidate_ids: Sequence[str]
    considered_count: int
    terms: Float32Array
    adjustments: Float32Array | None
    similarities: ByteArray | None
    feasible: BoolArray
    chosen: Int64Array
    log_propensities: Float64Array
    earlier_similarities: ByteArray | None = None


@dataclass(frozen=True, slots=True)
class Slate:
    """Items, the first on top. ``values`` float32 [items], ``predictions`` float32 [items, O].

    ``placements`` is empty where all items came by their value, ``teams`` where no two rankings
    were interleaved; ``drawn`` is None where the request did not explore.
    """

    entity_type: str
    ids: Sequence[str]
    selling_course_ids: Sequence[str]
    sources: Sequence[str]
    values: Float32Array
    objectives: tuple[str, ...]
    predictions: Float32Array
    placements: Sequence[Placement] = ()
    teams: Sequence[str] = ()
    drawn: Drawn | None = None


class StickyChange(NamedTuple):
    """A sticky document as it is now. ``news``: entries that it did not have before;
    ``is_stored``: whether they are to be stored with its user or device."""

    document: StickyDocument
    news: Mapping[str, str]
    is_stored: bool


@dataclass(frozen=True, slots=True)
class RankResult:
    """The answer to one command. ``timings`` are (stage, microseconds), in order; the last, "log",
    is added once the answer was recorded. ``row``: the user's among ``rows``.

    ``hashes`` uint64 [items] are those of the slate's ids, ``more`` says whether candidates are
    left for a next page, ``prices_minor`` is empty or has -1 where a price is not known.
    ``sticky`` is what units keep from now on. ``definitions`` are those that assigned, ``arms``
    those of hosts and rooms on the slate. ``removed`` is told for REFRESH and SCORE. ``explain``,
    of a debug request, makes its explanation, in any thread."""

    rank_id: str
    command: RankCommand
    slate: Slate
    assignments: Sequence[Assignment]
    bundle_version: str
    policy: str
    degraded: tuple[Degradation, ...]
    timings: Sequence[tuple[str, int]]
    traffic: Traffic
    view_hash: str
    log_position: int
    rows: FeatureRows
    row: int
    seed: int = 0
    hashes: UInt64Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    more: bool = False
    prices_minor: Sequence[int] = ()
    removed: Sequence[Removed] = ()
    definitions: Definitions = field(default_factory=lambda: Definitions({}, ""))
    arms: Sequence[ShownArm] = ()
    sticky: Sequence[StickyChange] = ()
    explain: Callable[[], Explanation] | None = None

    @property
    def first_position(self) -> int:
        """Place of the first item among all that the pages up to this one show."""
        following = self.command.following
        return 0 if following is None else following.first_position

    @property
    def parent_rank_id(self) -> str:
        """The answer that this one follows, or shadows; empty when there is none."""
        following = self.command.following
        return self.command.shadow_of if following is None else following.parent_rank_id
