"""State of one entity, user or pair, and how an event changes it. Pure.

The state is compact: tiles for windows, last times, values and entries, when other entities were
last named, attributes with the time they were set. What is not visible yet (an event time ahead
of the log's clock) waits in ``pending`` as operations and is folded in once the clock has passed
it; a read folds a copy. So a read at t is exact for every t at or after the arrival time of the
last event folded.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.common.domain import Domain
from services.feature.definitions import (
    USER_ENTITY,
    AttributeValue,
    FeatureView,
    Fold,
    Level,
    Scalar,
    compile_aggregates,
    compile_views,
    declared_value,
)

Number = int | float
_ADDED = ("count", "values", "sum")
Entry = tuple[int, int, str, str]
"""(event time ms, arrival, event type, id) of a last_n list."""

# What one event does to one state. Plain tuples, because they are stored as JSON while pending:
#   ("k", event time)                              the entity is known from then on
#   ("w", index of the tiles, event time, number)  a tile takes a number in
#   ("r", index of the tiles, event time, number)  a tile takes a refund's number in
#   ("t", index, event time)                       a last time
#   ("v", index, event time, arrival, value)       a last value
#   ("e", index, event time, arrival, type, id)    a last entry
#   ("n", index, event time, id)                   an entity is named
#   ("a", name, event time, arrival, value)        an attribute
#   ("x", event time, arrival, withdrawn 0 or 1)   the catalogue lists the entity, or no longer
Operation = tuple[Any, ...]


@dataclass(slots=True)
class AppliedEvent:
    """What folding needs of a logged event. Times are epoch ms; ids are pseudonyms.

    ``clock_ms``: arrival time, what the log's clock said. ``attributes``: those that features read.
    ``upserted``: attributes the event sets on its subject, its first entity or for want of one its
    actor; ``withdrawn``: whether it takes that entity out of the catalogue, None when it says
    nothing about that. ``takes_over``: key of the device whose history becomes the actor's.
    ``erases``: keys of the actors that are to be forgotten.
    """

    arrival: int
    clock_ms: int
    time_ms: int
    type: str
    actor: str
    entities: list[tuple[str, str]]
    attributes: dict[str, Scalar]
    refund: RefundFacts | None = None
    upserted: Mapping[str, Any] | None = None
    withdrawn: bool | None = None
    takes_over: str = ""
    erases: tuple[str, ...] = ()

    @property
    def subject(self) -> tuple[str, str] | None:
        """What the event describes, if it describes anything."""
        if self.entities:
            return self.entities[0]
        return (USER_ENTITY, self.actor) if self.actor else None


@dataclass(slots=True, frozen=True)
class RefundFacts:
    """A refund as its purchase's features see it; amounts in minor units, time in epoch ms."""

    purchase_event_id: str
    purchase_ms: int
    purchase_amount_minor: int
    amount_minor: int


@dataclass(slots=True)
class Tiles:
    """Folded numbers of one ``TileAggregate``: for each level, by tile index.

    ``latest_ms``: time of the latest event folded in; 0 when there is none.
    """

    levels: list[dict[int, Number]]
    latest_ms: int = 0

    def copied(self) -> Tiles:
        """A copy that can be folded into while this one is kept."""
        return Tiles([dict(tiles) for tiles in self.levels], self.latest_ms)


@dataclass(slots=True)
class KeyState:
    """State of one entity, user or pair; lists run parallel to its ``EntityAggregates``.

    ``recents``: time in which each id was last named. ``pending``: what waits, by the time from
    which it is visible.
    """

    tiles: list[Tiles]
    last_times: list[int | None]
    last_values: list[tuple[int, int, Scalar] | None]
    last_entries: list[list[Entry]]
    recents: list[dict[str, int]]
    known_ms: int | None = None
    attributes: dict[str, tuple[int, int, AttributeValue]] = field(default_factory=dict)
    listing: tuple[int, int, int] | None = None
    pending: list[tuple[int, Operation]] = field(default_factory=list)

    def copied(self) -> KeyState:
        """A copy that can be folded into while this one is kept."""
        return KeyState(
            tiles=[tiles.copied() for tiles in self.tiles],
            last_times=list(self.last_times),
            last_values=list(self.last_values),
            last_entries=[list(entries) for entries in self.last_entries],
            recents=[dict(times) for times in self.recents],
            known_ms=self.known_ms,
            attributes=dict(self.attributes),
            listing=self.listing,
            pending=list(self.pending),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no event has named the entity."""
        return self.known_ms is None and not self.pending

    @property
    def in_catalogue(self) -> bool:
        """Whether some event described the entity, and it is not withdrawn."""
        if self.listing is not None:
            return not self.listing[2]
        return bool(self.attributes)

    @property
    def moves(self) -> bool:
        """Whether values of windows, lists and recency may change as time goes by."""
        return (
            any(tiles.latest_ms for tiles in self.tiles)
            or any(self.last_times)
            or any(self.last_values)
            or any(self.last_entries)
            or any(self.recents)
        )


@dataclass(frozen=True, slots=True)
class _TypePlan:
    """What one type of event does: index and details of each aggregate it changes.

    ``tiles``: (index, finest level, fold, value attribute).
    """

    tiles: tuple[tuple[int, Level, Fold, str | None], ...]
    last_times: tuple[int, ...]
    last_values: tuple[tuple[int, str], ...]
    last_entries: tuple[tuple[int, str], ...]
    recents: tuple[tuple[int, str], ...]


class EntityPlan:
    """How events change the states of one entity type."""

    def __init__(self, domain: Domain, entity: str, view: FeatureView | None) -> None:
        self.entity = entity
        self.attributes = dict(domain.entities[entity].attributes)
        self.aggregates = compile_aggregates(domain, view.features if view else ())
        self._by_type = {name: self._type_plan(name) for name in domain.events}
        reversed_tiles = [
            (index, tiles)
            for index, tiles in enumerate(self.aggregates.tiles)
            if tiles.reversed_by_refunds
        ]
        self._numbers = [i for i, tiles in reversed_tiles if tiles.fold != "sum"]
        self._sums = [i for i, tiles in reversed_tiles if tiles.fold == "sum"]

    def new_state(self) -> KeyState:
        """State of an entity that no event has named."""
        return KeyState(
            tiles=[Tiles([{} for _ in tiles.levels]) for tiles in self.aggregates.tiles],
            last_times=[None] * len(self.aggregates.last_times),
            last_values=[None] * len(self.aggregates.last_values),
            last_entries=[[] for _ in self.aggregates.last_entries],
            recents=[{} for _ in self.aggregates.recents],
        )

    def fold(
        self,
        state: KeyState,
        event: AppliedEvent,
        count_changes: Iterable[tuple[int, int, int]] = (),
        derived: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Folds an event that names the state's entity. ``count_changes`` are a refund's: (visible
        from ms, purchase ms, delta); ``derived``: entities that the event leads to beside those
        it names."""
        clock_ms = event.clock_ms
        if state.pending:
            self.settle(state, clock_ms)
        if event.time_ms <= clock_ms:
            self._fold_now(state, event, derived)
        else:
            for op in self._operations(event, derived):
                insort(state.pending, (event.time_ms, op), key=_visible_ms)
        facts = event.refund
        if facts is None:
            return
        for index in self._numbers:
            for visible_ms, purchase_ms, delta in count_changes:
                op = ("r", index, purchase_ms, delta)
                self._fold_or_wait(state, visible_ms, clock_ms, op)
        visible_ms = max(event.time_ms, facts.purchase_ms)
        for index in self._sums:
            op = ("r", index, facts.purchase_ms, -facts.amount_minor)
            self._fold_or_wait(state, visible_ms, clock_ms, op)

    def describe(self, state: KeyState, event: AppliedEvent) -> None:
        """Folds what a catalogue, room or profile event says about its subject, the state's."""
        operations: list[Operation] = []
        if event.withdrawn is not None:
            operations.append(("x", event.time_ms, event.arrival, int(event.withdrawn)))
        for name, said in (event.upserted or {}).items():
            dtype = self.attributes.get(name)
            value = None if dtype is None else declared_value(said, dtype)
            if value is not None:
                operations.append(("a", name, event.time_ms, event.arrival, value))
        for op in operations:
            self._fold_or_wait(state, event.time_ms, event.clock_ms, op)

    def settle(self, state: KeyState, t_ms: int) -> None:
        """Folds in what has become visible by ``t_ms``."""
        visible = bisect_right(state.pending, t_ms, key=_visible_ms)
        for _, op in state.pending[:visible]:
            self._apply(state, op, t_ms)
        del state.pending[:visible]

    def as_of(self, state: KeyState, t_ms: int) -> KeyState:
        """The state as visible at ``t_ms``: itself, or a copy with what waited folded in."""
        if not state.pending or state.pending[0][0] > t_ms:
            return state
        visible = state.copied()
        self.settle(visible, t_ms)
        return visible

    def _type_plan(self, event_type: str) -> _TypePlan:
        aggregates = self.aggregates
        return _TypePlan(
            tuple(
                (index, tiles.levels[0], tiles.fold, tiles.value)
                for index, tiles in enumerate(aggregates.tiles)
                if event_type in tiles.events
            ),
            tuple(i for i, a in enumerate(aggregates.last_times) if event_type in a.events),
            tuple(
                (i, a.value) for i, a in enumerate(aggregates.last_values) if event_type in a.events
            ),
            tuple(
                (i, a.of) for i, a in enumerate(aggregates.last_entries) if event_type in a.events
            ),
            tuple((i, a.of) for i, a in enumerate(aggregates.recents) if event_type in a.events),
        )

    def _fold_now(
        self, state: KeyState, event: AppliedEvent, derived: Iterable[tuple[str, str]]
    ) -> None:
        # The same as applying _operations one by one; this is the hot path of a bulk load.
        time_ms = event.time_ms
        clock_ms = event.clock_ms
        if state.known_ms is None or time_ms < state.known_ms:
            state.known_ms = time_ms
        plan = self._by_type[event.type]
        for index, (hop_ms, longest_ms), fold, value in plan.tiles:
            number = _number(event, fold, value)
            if number is None:
                continue
            tiles = state.tiles[index]
            tiles.latest_ms = max(tiles.latest_ms, time_ms)
            tile = time_ms // hop_ms
            if fold in _ADDED and tile >= (clock_ms - longest_ms) // hop_ms:
                finest = tiles.levels[0]
                finest[tile] = finest.get(tile, 0) + number
            else:
                self._take_in(tiles, index, time_ms, number, clock_ms)
        for index in plan.last_times:
            last = state.last_times[index]
            if last is None or time_ms > last:
                state.last_times[index] = time_ms
        for index, name in plan.last_values:
            if name in event.attributes:
                _keep_latest(
                    state.last_values, index, time_ms, event.arrival, event.attributes[name]
                )
        for index, of in plan.last_entries:
            for kind, identity in event.entities:
                if kind == of:
                    self._add_entry(state, index, (time_ms, event.arrival, event.type, identity))
        for index, of in plan.recents:
            for identity in _named(event, of, derived):
                self._name(state, index, time_ms, identity)

    def _operations(
        self, event: AppliedEvent, derived: Iterable[tuple[str, str]]
    ) -> list[Operation]:
        plan = self._by_type[event.type]
        time_ms, arrival = event.time_ms, event.arrival
        operations: list[Operation] = [("k", time_ms)]
        for index, _, fold, value in plan.tiles:
            number = _number(event, fold, value)
            if number is not None:
                operations.append(("w", index, time_ms, number))
        operations += [("t", index, time_ms) for index in plan.last_times]
        operations += [
            ("v", index, time_ms, arrival, event.attributes[name])
            for index, name in plan.last_values
            if name in event.attributes
        ]
        operations += [
            ("e", index, time_ms, arrival, event.type, identity)
            for index, of in plan.last_entries
            for kind, identity in event.entities
            if kind == of
        ]
        operations += [
            ("n", index, time_ms, identity)
            for index, of in plan.recents
            for identity in _named(event, of, derived)
        ]
        return operations

    def _fold_or_wait(self, state: KeyState, visible_ms: int, clock_ms: int, op: Operation) -> None:
        if visible_ms <= clock_ms:
            self._apply(state, op, clock_ms)
        else:
            insort(state.pending, (visible_ms, op), key=_visible_ms)

    def _apply(self, state: KeyState, op: Operation, clock_ms: int) -> None:
        match op:
            case ("w", index, time_ms, number):
                tiles = state.tiles[index]
                tiles.latest_ms = max(tiles.latest_ms, time_ms)
                self._take_in(tiles, index, time_ms, number, clock_ms)
            case ("r", index, time_ms, number):
                self._take_in(state.tiles[index], index, time_ms, number, clock_ms)
            case ("k", time_ms):
                known_ms = state.known_ms
                state.known_ms = time_ms if known_ms is None else min(known_ms, time_ms)
            case ("t", index, time_ms):
                last = state.last_times[index]
                state.last_times[index] = time_ms if last is None else max(last, time_ms)
            case ("v", index, time_ms, arrival, value):
                _keep_latest(state.last_values, index, time_ms, arrival, value)
            case ("e", index, time_ms, arrival, kind, identity):
                self._add_entry(state, index, (time_ms, arrival, kind, identity))
            case ("n", index, time_ms, identity):
                self._name(state, index, time_ms, identity)
            case ("a", name, time_ms, arrival, value):
                held = state.attributes.get(name)
                if held is None or (time_ms, arrival) > held[:2]:
                    state.attributes[name] = (time_ms, arrival, value)
            case ("x", time_ms, arrival, withdrawn):
                if state.listing is None or (time_ms, arrival) > state.listing[:2]:
                    state.listing = (time_ms, arrival, withdrawn)
            case _:
                raise ValueError(f"not an operation on a state: {op!r}")

    def _take_in(
        self, tiles: Tiles, index: int, time_ms: int, number: Number, clock_ms: int
    ) -> None:
        """Puts a number into the finest tile that a window can still need by itself."""
        aggregate = self.aggregates.tiles[index]
        for held, (hop_ms, longest_ms) in zip(tiles.levels, aggregate.levels, strict=True):
            tile = time_ms // hop_ms
            if tile >= (clock_ms - longest_ms) // hop_ms:
                put(aggregate.fold, held, tile, number)
                return

    def _add_entry(self, state: KeyState, index: int, entry: Entry) -> None:
        entries = state.last_entries[index]
        if not entries or entry > entries[-1]:
            entries.append(entry)
        else:
            insort(entries, entry)
        if len(entries) > self.aggregates.last_entries[index].limit:
            del entries[0]

    def _name(self, state: KeyState, index: int, time_ms: int, identity: str) -> None:
        times = state.recents[index]
        if times.get(identity, -1) < time_ms:
            times[identity] = time_ms
        cap = self.aggregates.recents[index].cap
        if len(times) > 2 * cap:
            state.recents[index] = dict(latest(times, cap))


def put(fold: Fold, tiles: dict[int, Number], tile: int, number: Number) -> None:
    """Folds a number into a tile."""
    held = tiles.get(tile)
    if held is None:
        tiles[tile] = number
    elif fold == "min":
        tiles[tile] = min(held, number)
    elif fold == "max":
        tiles[tile] = max(held, number)
    else:
        tiles[tile] = held + number


def latest(times: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """The ``limit`` (id, time) named last, the latest first; of equal times the greater id."""
    order = sorted(times.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return order[:limit]


def _number(event: AppliedEvent, fold: Fold, value: str | None) -> Number | None:
    """What an event adds to tiles; None for nothing."""
    if fold == "count":
        return 1
    found = event.attributes.get(value or "")
    if found is None or isinstance(found, str):
        return None
    return 1 if fold == "values" else found


def _named(event: AppliedEvent, of: str, derived: Iterable[tuple[str, str]]) -> list[str]:
    """Entities of a type that an event names or leads to; users are who acted."""
    if of == USER_ENTITY:
        return [event.actor] if event.actor else []
    return [identity for kind, identity in (*event.entities, *derived) if kind == of]


def _keep_latest(
    held: list[tuple[int, int, Scalar] | None],
    index: int,
    time_ms: int,
    arrival: int,
    value: Scalar,
) -> None:
    before = held[index]
    if before is None or (time_ms, arrival) > before[:2]:
        held[index] = (time_ms, arrival, value)


def _visible_ms(waiting: tuple[int, Operation]) -> int:
    return waiting[0]


def compile_plans(domain: Domain) -> dict[str, EntityPlan]:
    """The plan of every entity type."""
    views = compile_views(domain)
    return {entity: EntityPlan(domain, entity, views.get(entity)) for entity in domain.entities}
