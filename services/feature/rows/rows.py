"""Rows of a feature view, computed from states. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.common.domain import Domain
from services.common.domain_features import (
    AttributeFeature,
    DistinctFeature,
    ExpressionFeature,
    Feature,
    LastFeature,
    LastNFeature,
    PairsFeature,
    RecencyFeature,
)
from services.common.durations import duration_ms
from services.common.formula import evaluator, parse_formula
from services.feature.definitions import (
    FeatureDType,
    FeatureValue,
    FeatureView,
    ViewFeature,
    WindowAggregate,
    compile_views,
    inputs_of,
    last_entries_key,
    last_time_aggregate,
    last_value_aggregate,
    other_side,
    pair_id,
    recent_key,
    served_total,
    smoothed_ratio,
    window_aggregates,
    window_start_ms,
)
from services.feature.rows.window_totals import LevelTotals, window_reader
from services.feature.states.codec import decode_state
from services.feature.states.entity_plan import EntityPlan, compile_plans
from services.feature.states.key_state import KeyState, Number, latest

PRESENT: Final = 1
NULL: Final = 2
NOT_FOUND: Final = 3
STALE: Final = 4

DTYPE_ORDER: Final[tuple[FeatureDType, ...]] = ("float32", "int64", "string", "list", "vector")
"""Order of the blocks of a row."""


class Row(NamedTuple):
    """Values and one status byte each, ordered by dtype as in ``DTYPE_ORDER``, then by the view.

    ``times_ms``: event time of the latest event that each rests on, 0 for none; empty if not asked.
    """

    values: tuple[FeatureValue, ...]
    statuses: bytes
    times_ms: tuple[int, ...] = ()


class Cell(NamedTuple):
    """A value, its status and the time of the latest event it rests on (epoch ms, 0 for none)."""

    value: FeatureValue
    status: int
    time_ms: int


ReadState = Callable[[str, str], KeyState | None]
"""The state of another key (entity type, id), read in the same moment."""


@dataclass(frozen=True, slots=True)
class _Moment:
    state: KeyState
    identity: str
    t_ms: int
    read: ReadState
    level_totals: LevelTotals = field(default_factory=dict)


_Reader = Callable[[_Moment], Cell]


def _no_state(entity: str, identity: str) -> None:
    raise LookupError(f"{entity} {identity} is not read here")


class RowReader:
    """Reads rows of one view. ``others``: readers of all entity types, for what pairs list."""

    def __init__(
        self,
        domain: Domain,
        view: FeatureView,
        plan: EntityPlan,
        others: Mapping[str, RowReader] | None = None,
    ) -> None:
        self.view = view
        self.plan = plan
        self.columns: tuple[ViewFeature, ...] = tuple(
            feature for dtype in DTYPE_ORDER for feature in view.features if feature.dtype == dtype
        )
        self.moves = any(feature.kind != "attribute" for feature in view.features)
        definitions = [feature.definition for feature in view.features]
        self.reads_others = any(d.kind == "pairs" and d.emit != "id" for d in definitions)
        """Whether a row takes other states than its own."""
        self._ages = [n for n, column in enumerate(self.columns) if column.kind == "recency"]
        self._domain = domain
        self._others = others if others is not None else {}
        self._by_name = {column.name: self._reader(column) for column in self.columns}
        self._readers = list(self._by_name.values())
        self._missing = Row(
            tuple(column.default for column in self.columns),
            bytes([NOT_FOUND]) * len(self.columns),
            (0,) * len(self.columns),
        )

    def row(
        self,
        state: KeyState | None,
        t_ms: int,
        *,
        identity: str = "",
        read: ReadState = _no_state,
        times: bool = False,
    ) -> Row:
        """The row as of ``t_ms``; defaults with NOT_FOUND where no event named the entity.

        ``identity`` and ``read`` are needed where features list pairs; ``times``: with the times.
        """
        if state is None:
            return self._missing
        state = self.plan.as_of(state, t_ms)
        if state.known_ms is None:
            return self._missing
        moment = _Moment(state, identity, t_ms, read)
        cells = [reader(moment) for reader in self._readers]
        return Row(
            tuple([cell.value for cell in cells]),
            bytes([cell.status for cell in cells]),
            tuple([cell.time_ms for cell in cells]) if times else (),
        )

    def visible(self, state: KeyState, t_ms: int) -> KeyState:
        """The state as visible at ``t_ms``."""
        return self.plan.as_of(state, t_ms)

    def aged(self, row: Row, t_ms: int) -> Row:
        """A row with times as of ``t_ms``, if nothing else has changed since it was computed; then
        without times."""
        if not self._ages:
            return row._replace(times_ms=())
        values = list(row.values)
        for column in self._ages:
            if row.statuses[column] == PRESENT:
                values[column] = (t_ms - row.times_ms[column]) / 1000
        return Row(tuple(values), row.statuses)

    def cell(self, name: str, state: KeyState | None, t_ms: int) -> Cell:
        """One feature of a state as of ``t_ms``, of those that need no other state."""
        reader = self._by_name[name]
        if state is not None:
            state = self.plan.as_of(state, t_ms)
        if state is None or state.known_ms is None:
            default = next(c.default for c in self.columns if c.name == name)
            return Cell(default, NOT_FOUND, 0)
        return reader(_Moment(state, "", t_ms, _no_state))

    def _reader(self, column: ViewFeature) -> _Reader:
        definition = column.definition
        match definition.kind:
            case "attribute":
                return _attribute_reader(column, definition)
            case "recency":
                return self._recency_reader(column, definition)
            case "last":
                return self._last_reader(column, definition)
            case "last_n":
                return self._last_n_reader(definition)
            case "distinct":
                return self._distinct_reader(definition)
            case "expression":
                return self._expression_reader(column, definition)
            case "pairs":
                return self._pairs_reader(definition)
            case _:
                return self._window_reader(column, definition)

    def _recency_reader(self, column: ViewFeature, definition: RecencyFeature) -> _Reader:
        index = self.plan.aggregates.last_times.index(last_time_aggregate(definition.events))

        def read(moment: _Moment) -> Cell:
            last_ms = moment.state.last_times[index]
            if last_ms is None:
                return Cell(column.default, NULL, 0)
            return Cell((moment.t_ms - last_ms) / 1000, PRESENT, last_ms)

        return read

    def _last_reader(self, column: ViewFeature, definition: LastFeature) -> _Reader:
        index = self.plan.aggregates.last_values.index(last_value_aggregate(definition))
        window_ms = duration_ms(definition.window)

        def read(moment: _Moment) -> Cell:
            found = moment.state.last_values[index]
            if found is None or found[0] < window_start_ms(moment.t_ms, window_ms):
                return Cell(column.default, NULL, 0)
            return Cell(found[2], PRESENT, found[0])

        return read

    def _last_n_reader(self, definition: LastNFeature) -> _Reader:
        keys = [(entry.events, entry.of) for entry in self.plan.aggregates.last_entries]
        index = keys.index(last_entries_key(definition))
        limit = definition.limit
        place = 3 if definition.emit == "id" else 2
        ttl_ms = duration_ms(definition.ttl) if definition.ttl is not None else None

        def read(moment: _Moment) -> Cell:
            entries = moment.state.last_entries[index][-limit:]
            if ttl_ms is not None:
                oldest_ms = moment.t_ms - ttl_ms
                entries = [entry for entry in entries if entry[0] >= oldest_ms]
            latest_ms = entries[-1][0] if entries else 0
            return Cell(tuple([str(entry[place]) for entry in entries]), PRESENT, latest_ms)

        return read

    def _distinct_reader(self, definition: DistinctFeature) -> _Reader:
        index = self._recent_index(definition.events, definition.of)
        window_ms, cap = duration_ms(definition.window), definition.cap

        def read(moment: _Moment) -> Cell:
            start_ms = window_start_ms(moment.t_ms, window_ms)
            times = [at for at in moment.state.recents[index].values() if at >= start_ms]
            return Cell(min(len(times), cap), PRESENT, max(times, default=0))

        return read

    def _pairs_reader(self, definition: PairsFeature) -> _Reader:
        index = self._recent_index(definition.events, other_side(self._domain, definition.of))
        limit, emit, of = definition.limit, definition.emit, definition.of

        def read(moment: _Moment) -> Cell:
            listed = latest(moment.state.recents[index], limit)
            time_ms = listed[0][1] if listed else 0
            if emit == "id":
                return Cell(tuple([identity for identity, _ in listed]), PRESENT, time_ms)
            reader = self._others[of]
            values = [0.0] * limit
            for place, (identity, _) in enumerate(listed):
                state = moment.read(of, pair_id(moment.identity, identity))
                value = reader.cell(emit, state, moment.t_ms).value
                values[place] = float(value) if isinstance(value, int | float) else 0.0
            return Cell(tuple(values), PRESENT, time_ms)

        return read

    def _expression_reader(self, column: ViewFeature, definition: ExpressionFeature) -> _Reader:
        names = inputs_of(definition)
        by_name = {feature.name: feature for feature in self.view.features}
        readers = {name: self._reader(by_name[name]) for name in names}
        evaluate = evaluator(parse_formula(definition.formula))

        def read(moment: _Moment) -> Cell:
            cells = {name: reader(moment) for name, reader in readers.items()}
            found = evaluate({name: _number(cell.value) for name, cell in cells.items()})
            if found is None:
                return Cell(column.default, NULL, 0)
            return Cell(found, PRESENT, max(cell.time_ms for cell in cells.values()))

        return read

    def _recent_index(self, events: Sequence[str], of: str) -> int:
        keys = [(recent.events, recent.of) for recent in self.plan.aggregates.recents]
        return keys.index(recent_key(events, of))

    def _total(self, window: WindowAggregate) -> Callable[[_Moment], tuple[Number | None, int]]:
        read = window_reader(self.plan.aggregates, window)
        return lambda moment: read(moment.state, moment.t_ms, moment.level_totals)

    def _window_reader(self, column: ViewFeature, definition: Feature) -> _Reader:
        windows = window_aggregates(definition)
        first = self._total(windows[0])
        reversible = windows[0].reversed_by_refunds
        default = column.default
        match definition.kind:
            case "min" | "max":

                def read(moment: _Moment) -> Cell:
                    found, time_ms = first(moment)
                    return (
                        Cell(default, NULL, 0) if found is None else Cell(found, PRESENT, time_ms)
                    )

            case "mean":
                second = self._total(windows[1])

                def read(moment: _Moment) -> Cell:
                    number, time_ms = second(moment)
                    if number is None or number <= 0:
                        return Cell(default, NULL, 0)
                    total = _served(first(moment)[0], reversible=reversible)
                    return Cell(total / number, PRESENT, time_ms)

            case "ratio":
                second = self._total(windows[1])
                prior = definition.prior

                def read(moment: _Moment) -> Cell:
                    numerator, numerator_ms = first(moment)
                    denominator, denominator_ms = second(moment)
                    value = smoothed_ratio(
                        int(numerator or 0),
                        int(denominator or 0),
                        prior.numerator,
                        prior.denominator,
                    )
                    return Cell(value, PRESENT, max(numerator_ms, denominator_ms))

            case "rate":
                scale = duration_ms(definition.per) / windows[0].window_ms

                def read(moment: _Moment) -> Cell:
                    total, time_ms = first(moment)
                    return Cell(_served(total, reversible=True) * scale, PRESENT, time_ms)

            case _:

                def read(moment: _Moment) -> Cell:
                    total, time_ms = first(moment)
                    return Cell(_served(total, reversible=reversible), PRESENT, time_ms)

        return read


def _attribute_reader(column: ViewFeature, definition: AttributeFeature) -> _Reader:
    name, default = column.attribute or column.name, column.default
    ttl_ms = duration_ms(definition.ttl) if definition.ttl is not None else None

    def read(moment: _Moment) -> Cell:
        found = moment.state.attributes.get(name)
        if found is None:
            return Cell(default, NULL, 0)
        if ttl_ms is not None and found[0] < moment.t_ms - ttl_ms:
            return Cell(default, STALE, found[0])
        return Cell(found[2], PRESENT, found[0])

    return read


def _served(total: Number | None, *, reversible: bool) -> Number:
    if total is None:
        return 0
    if isinstance(total, float):
        return total
    return served_total(total, reversible=reversible)


def _number(value: FeatureValue) -> float:
    return value if isinstance(value, int | float) else 0.0


def row_readers(domain: Domain) -> dict[str, RowReader]:
    """A reader for the view of every entity type that has one."""
    plans = compile_plans(domain)
    readers: dict[str, RowReader] = {}
    for entity, view in compile_views(domain).items():
        readers[entity] = RowReader(domain, view, plans[entity], readers)
    return readers


def decoded(data: bytes | None) -> KeyState | None:
    """The state behind stored bytes."""
    return decode_state(data) if data is not None else None
