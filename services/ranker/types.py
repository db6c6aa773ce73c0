"""Values that the stages of the ranker hand to one another, and the ports its adapters implement.

Shapes: B requests of a micro-batch, N candidates over all of them, n rows of one catalogue table,
I item features, U user features, O objectives, D dimensions of a vector.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.common.assign.assign import Assignment
from services.ranker.filters.tree import Expression

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
UInt64Array = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]

Removed = tuple[str, str]
"""Id of an item that is not shown, and why."""

PRESENT = 1
"""Status byte of a value that was computed or set; every other status carries the default."""


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
    """One part that was left out or replaced, and why. ``name``: which source, where it is one."""

    part: Part
    reason: Reason
    name: str = ""


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One feature of a view: ``dtype`` is float32, int64, string or list."""

    name: str
    dtype: str
    default: object


@dataclass(frozen=True, slots=True)
class View:
    """A feature view as the bundle names it."""

    name: str
    hash: str
    columns: tuple[ViewColumn, ...]

    def of(self, dtype: str) -> tuple[str, ...]:
        """Names of the columns of one dtype, in the view's order."""
        return tuple(column.name for column in self.columns if column.dtype == dtype)


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Decoded rows of one view, one an id.

    ``floats`` float32 [rows, F], ``ints`` int64 [rows, I], ``strings`` row-major [rows * S],
    ``list_offsets`` int32 [rows * L + 1] into ``list_values``; ``statuses`` uint8
    [rows, F + I + S + L], or empty when every value is PRESENT.
    """

    ids: Sequence[str]
    float_names: tuple[str, ...]
    floats: Float32Array
    int_names: tuple[str, ...]
    ints: Int64Array
    string_names: tuple[str, ...]
    strings: Sequence[str]
    list_names: tuple[str, ...]
    list_offsets: Int32Array
    list_values: Sequence[str]
    statuses: ByteArray
    log_position: int = 0
    evaluated_ms: int = 0

    def column(self, name: str) -> Float32Array | None:
        """A numeric column as float32 [rows]; None when the rows have no such column."""
        if name in self.float_names:
            return self.floats[:, self.float_names.index(name)]
        if name in self.int_names:
            return self.ints[:, self.int_names.index(name)].astype(np.float32)
        return None

    def strings_of(self, row: int, name: str) -> Sequence[str]:
        """One list value; empty when the rows have no such column."""
        if name not in self.list_names:
            return ()
        at = row * len(self.list_names) + self.list_names.index(name)
        return self.list_values[self.list_offsets[at] : self.list_offsets[at + 1]]

    def number_of(self, row: int, name: str) -> float | None:
        """One numeric value; None when it is not PRESENT or the rows have no such column."""
        if name in self.float_names:
            at = self.float_names.index(name)
            return float(self.floats[row, at]) if self._is_present(row, at) else None
        if name in self.int_names:
            at = self.int_names.index(name)
            present = self._is_present(row, len(self.float_names) + at)
            return int(self.ints[row, at]) if present else None
        return None

    def text_of(self, row: int, name: str) -> str | None:
        """One string; None when it is not PRESENT or the rows have no such column."""
        if name not in self.string_names:
            return None
        at = self.string_names.index(name)
        present = self._is_present(row, len(self.float_names) + len(self.int_names) + at)
        return self.strings[row * len(self.string_names) + at] if present else None

    def _is_present(self, row: int, column: int) -> bool:
        return self.statuses.size == 0 or bool(self.statuses[row, column] == PRESENT)


def empty_rows(ids: Sequence[str]) -> FeatureRows:
    """Rows without any column: every feature of every id takes its default."""
    return FeatureRows(
        ids=ids,
        float_names=(),
        floats=np.zeros((len(ids), 0), np.float32),
        int_names=(),
        ints=np.zeros((len(ids), 0), np.int64),
        string_names=(),
        strings=(),
        list_names=(),
        list_offsets=np.zeros(1, np.int32),
        list_values=(),
        statuses=np.zeros(0, np.uint8),
    )


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
    refreshes, before. ``bundle`` and ``variants`` are digests.
    """

    parent_rank_id: str
    page: int
    first_position: int
    items: UInt64Array
    bundle: bytes
    variants: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class RankCommand:
    """A checked request. ``k`` is 1 to 200, None meaning the surface's default; ``user_id`` or
    ``device_id`` is set, both raw. ``context`` is logged with the slate and means nothing here:
    ``circumstances`` is what filters read of it. ``filter``: the caller's own. ``candidate_ids``:
    at most 500 items that the caller wants considered too.

    ``rank_id``, empty for a new one, and ``seed`` (64 bits, None to derive it from the rank_id) are
    set where an idempotency key or a token decides them. ``item_ids`` are those to SCORE, or the
    one to find SIMILAR items to. ``filter_digest``: 8 bytes that stand for the caller's filter.
    ``deadline_s``: until when the caller waits, on the monotonic clock.
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
    candidate_ids: Sequence[str] = ()
    deadline_s: float | None = None


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
    ``log_propensities`` float64 [P]. What each means is said at ``Exploration`` in ``event.proto``.
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


@dataclass(frozen=True, slots=True)
class RankResult:
    """The answer to one command. ``timings`` are (stage, microseconds), in order; the last, "log",
    is added once the answer was recorded. ``row``: the user's among ``rows``.

    ``hashes`` uint64 [items] are those of the slate's ids, ``more`` says whether candidates are
    left for a next page, ``prices_minor`` is empty or has -1 where a price is not known.
    ``removed`` is told for REFRESH and SCORE."""

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

    @property
    def first_position(self) -> int:
        """Place of the first item among all that the pages up to this one show."""
        following = self.command.following
        return 0 if following is None else following.first_position

    @property
    def parent_rank_id(self) -> str:
        """The answer that this one follows; empty when there is none."""
        following = self.command.following
        return "" if following is None else following.parent_rank_id


class PendingRows(Protocol):
    """User rows under way."""

    def result(self) -> FeatureRows:
        """Waits. Raises Unavailable, DeadlinePassed or UnknownFeatureView."""


class UserFeatures(Protocol):
    """Reads user rows, a whole micro-batch at once."""

    def start(self, view: View, ids: Sequence[str], timeout_s: float) -> PendingRows:
        """Sends the call and returns at once; never raises."""


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
    ) -> Float32Array:
        """Probabilities [N, O]; ``owner`` [N] is each candidate's row among the B users."""
