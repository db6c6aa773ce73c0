"""Reads rows of a feature view from stored states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.common.domain import Domain, Feature
from services.common.errors import NotFound, UnknownFeatureView
from services.feature.definitions import (
    FeatureDType,
    FeatureValue,
    FeatureView,
    ViewFeature,
    compile_views,
    last_entries_key,
    last_time_aggregate,
    served_total,
    smoothed_ratio,
    tile_index,
    window_aggregates,
)
from services.feature.store.protocol import FeatureStore
from services.feature.windows import EntityPlan, KeyState, compile_plans

PRESENT: Final = 1
NULL: Final = 2
NOT_FOUND: Final = 3

DTYPE_ORDER: Final[tuple[FeatureDType, ...]] = ("float32", "int64", "string", "list")
"""Order of the blocks of a row."""


class Row(NamedTuple):
    """Values and one status byte each, ordered by dtype as in ``DTYPE_ORDER``, then by the view."""

    values: tuple[FeatureValue, ...]
    statuses: bytes


@dataclass(frozen=True)
class _Moment:
    """A state at a time: ``totals`` of its windows, as served."""

    state: KeyState
    t_ms: int
    totals: list[int]


_Cell = tuple[FeatureValue, int]
_Reader = Callable[[_Moment], _Cell]


class RowReader:
    """Reads rows of one view."""

    def __init__(self, view: FeatureView, plan: EntityPlan) -> None:
        self.view = view
        self.columns: tuple[ViewFeature, ...] = tuple(
            feature for dtype in DTYPE_ORDER for feature in view.features if feature.dtype == dtype
        )
        self.moves = any(feature.kind != "attribute" for feature in view.features)
        self._plan = plan
        self._readers = [self._reader(column) for column in self.columns]
        self._windows = [window.window_ms for window in plan.aggregates.windows]
        self._missing = Row(
            tuple(column.default for column in self.columns), bytes([NOT_FOUND]) * len(self.columns)
        )

    def decode(self, data: bytes | None) -> KeyState | None:
        """The state behind stored bytes."""
        return self._plan.decode(data) if data is not None else None

    def row(self, state: KeyState | None, t_ms: int) -> Row:
        """The row as of ``t_ms``; defaults with NOT_FOUND where no event named the entity."""
        if state is None:
            return self._missing
        state = self._plan.as_of(state, t_ms)
        if state.known_ms is None:
            return self._missing
        totals = []
        for window_ms, tiles in zip(self._windows, state.windows, strict=True):
            first = tile_index(t_ms - window_ms, window_ms)
            totals.append(served_total(sum(n for tile, n in tiles.items() if tile >= first)))
        moment = _Moment(state, t_ms, totals)
        cells = [read(moment) for read in self._readers]
        return Row(tuple(value for value, _ in cells), bytes([status for _, status in cells]))

    def visible(self, state: KeyState, t_ms: int) -> KeyState:
        """The state as visible at ``t_ms``."""
        return self._plan.as_of(state, t_ms)

    def _reader(self, column: ViewFeature) -> _Reader:
        definition = column.definition
        if definition.kind == "attribute":
            return _attribute_reader(column)
        if definition.kind == "recency":
            index = self._plan.aggregates.last_times.index(last_time_aggregate(definition.events))
            return _recency_reader(column, index)
        if definition.kind == "last_n":
            keys = [(entry.events, entry.of) for entry in self._plan.aggregates.last_entries]
            index = keys.index(last_entries_key(definition))
            limit = definition.limit
            if definition.emit == "id":
                return lambda moment: (
                    tuple([entry[3] for entry in moment.state.last_entries[index][-limit:]]),
                    PRESENT,
                )
            return lambda moment: (
                tuple([entry[2] for entry in moment.state.last_entries[index][-limit:]]),
                PRESENT,
            )
        return self._window_reader(definition)

    def _window_reader(self, definition: Feature) -> _Reader:
        windows = self._plan.aggregates.windows
        indices = [windows.index(window) for window in window_aggregates(definition)]
        if definition.kind == "ratio":
            numerator, denominator = indices
            prior = definition.prior
            return lambda moment: (
                smoothed_ratio(
                    moment.totals[numerator],
                    moment.totals[denominator],
                    prior.numerator,
                    prior.denominator,
                ),
                PRESENT,
            )
        (index,) = indices
        return lambda moment: (moment.totals[index], PRESENT)


def _attribute_reader(column: ViewFeature) -> _Reader:
    name, default = column.attribute or column.name, column.default

    def read(moment: _Moment) -> _Cell:
        found = moment.state.attributes.get(name)
        if found is None:
            return default, NULL
        return found[2], PRESENT

    return read


def _recency_reader(column: ViewFeature, index: int) -> _Reader:
    def read(moment: _Moment) -> _Cell:
        last_ms = moment.state.last_times[index]
        if last_ms is None:
            return column.default, NULL
        return (moment.t_ms - last_ms) / 1000, PRESENT

    return read


class Lookup(NamedTuple):
    """Rows in the order asked for, as of ``t_ms``, from the log up to ``position``."""

    rows: list[Row]
    t_ms: int
    position: int


class FeatureLookup:
    """Reads rows of the views served here. Thread-safe."""

    def __init__(
        self,
        store: FeatureStore,
        readers: Mapping[str, RowReader],
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._readers = readers
        self._clock_ms = clock_ms

    def view(self, entity: str, name: str, view_hash: str) -> FeatureView:
        """The view a request names. Raises ``NotFound`` for the entity type,
        ``UnknownFeatureView`` for a name or hash that is not served here."""
        reader = self._readers.get(entity)
        if reader is None:
            raise NotFound(f"entity type {entity!r} has no features", reason="UNKNOWN_ENTITY_TYPE")
        if (reader.view.name, reader.view.hash) != (name, view_hash):
            raise UnknownFeatureView(
                f"view {name!r} with hash {view_hash!r} is not served here; "
                f"{entity} has {reader.view.name!r} with hash {reader.view.hash!r}"
            )
        return reader.view

    def read(self, entity: str, keys: Sequence[str]) -> Lookup:
        """Rows of entities of one type, all from one moment of the store."""
        reader = self._readers[entity]
        with self._store.read() as view:
            t_ms = self._clock_ms()
            rows = [reader.row(reader.decode(view.state(entity, key)), t_ms) for key in keys]
            return Lookup(rows, t_ms, view.position())


def row_readers(domain: Domain) -> dict[str, RowReader]:
    """A reader for the view of every entity type that has one."""
    plans = compile_plans(domain)
    return {
        entity: RowReader(view, plans[entity]) for entity, view in compile_views(domain).items()
    }
