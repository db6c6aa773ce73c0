"""How an event changes the state of a key. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass

from services.common.domain import Domain
from services.feature.definitions import (
    USER_ENTITY,
    FeatureView,
    Fold,
    Level,
    Scalar,
    compile_aggregates,
    compile_views,
    declared_value,
)
from services.feature.states.applied_event import AppliedEvent
from services.feature.states.key_state import Entry, KeyState, Number, Operation, Tiles, latest, put

_ADDED = ("count", "values", "sum")


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
            number = 1 if fold == "count" else _number(event, fold, value)
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
