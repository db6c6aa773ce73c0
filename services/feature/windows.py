"""State of one entity or user, and how an event changes it. Pure.

The state is compact: tiles for windows, the last time, the last entries, attributes with the time
they were set. What is not visible yet (an event time ahead of the log's clock) waits in ``pending``
as operations and is folded in once the clock has passed it; a read folds a copy. So a read at t is
exact for every t at or after the arrival time of the last event folded.
"""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.common.domain import Domain
from services.feature.definitions import (
    AMOUNT,
    WINDOW_TILES,
    EntityAggregates,
    FeatureView,
    compile_aggregates,
    compile_views,
    declared_value,
    tile_index,
)

AttributeScalar = int | float | str
Entry = tuple[int, int, str, str]
"""(event time ms, arrival, event type, id) of a last_n list."""

# What one event does to one state. Plain tuples, because they are stored as JSON while pending:
#   ("k", event time)                              the entity is known from then on
#   ("w", index of the window, tile, delta)        a window's tile changes
#   ("t", index, event time)                       a last time
#   ("e", index, event time, arrival, type, id)    a last entry
#   ("a", name, event time, arrival, value)        a catalogue attribute
#   ("x", event time, arrival, withdrawn 0 or 1)   the catalogue lists the entity, or no longer
Operation = tuple[str | int | float, ...]


@dataclass(slots=True)
class AppliedEvent:
    """What folding needs of a logged event. Times are epoch ms; ids are pseudonyms.

    ``clock_ms``: arrival time, what the log's clock said. ``attributes``: integer attributes.
    ``upserted``: catalogue attributes the event sets on its first entity; ``withdrawn``: whether it
    takes that entity out of the catalogue, None when it says nothing about that.
    """

    arrival: int
    clock_ms: int
    time_ms: int
    type: str
    actor: str
    entities: list[tuple[str, str]]
    attributes: dict[str, int]
    refund: RefundFacts | None = None
    upserted: Mapping[str, str | int | float | bool] | None = None
    withdrawn: bool | None = None


@dataclass(slots=True, frozen=True)
class RefundFacts:
    """A refund as its purchase's features see it; amounts in minor units, time in epoch ms."""

    purchase_event_id: str
    purchase_ms: int
    purchase_amount_minor: int
    amount_minor: int


@dataclass(slots=True)
class RefundLedger:
    """Refunds known of one purchase: (event time ms, amount) each."""

    purchase_ms: int
    purchase_amount_minor: int
    refunds: list[tuple[int, int]] = field(default_factory=list)

    def complete_ms(self) -> int | None:
        """Event time from which all of the purchase is refunded; None while it is not."""
        total = 0
        for time_ms, amount_minor in sorted(self.refunds):
            total += amount_minor
            if total >= self.purchase_amount_minor:
                return time_ms
        return None

    def encode(self) -> bytes:
        """Stored form."""
        return _dump([self.purchase_ms, self.purchase_amount_minor, self.refunds])

    @classmethod
    def decode(cls, data: bytes) -> RefundLedger:
        """Inverse of ``encode``."""
        purchase_ms, amount, refunds = json.loads(data)
        return cls(purchase_ms, amount, [(time_ms, part) for time_ms, part in refunds])


def take_refund(
    ledger: RefundLedger | None, event: AppliedEvent, facts: RefundFacts
) -> tuple[RefundLedger, list[tuple[int, int]]]:
    """The ledger with a refund added, and the count changes it causes: (visible from ms, delta)."""
    if ledger is None:
        ledger = RefundLedger(facts.purchase_ms, facts.purchase_amount_minor)
    before = ledger.complete_ms() if ledger.refunds else None
    ledger.refunds.append((event.time_ms, facts.amount_minor))
    after = ledger.complete_ms()
    changes: list[tuple[int, int]] = []
    if after != before:
        if before is not None:
            changes.append((max(before, ledger.purchase_ms), 1))
        if after is not None:
            changes.append((max(after, ledger.purchase_ms), -1))
    return ledger, changes


@dataclass(slots=True)
class KeyState:
    """State of one entity or user; lists run parallel to its ``EntityAggregates``. ``pending``:
    what waits, by the time from which it is visible."""

    windows: list[dict[int, int]]
    last_times: list[int | None]
    last_entries: list[list[Entry]]
    known_ms: int | None = None
    attributes: dict[str, tuple[int, int, AttributeScalar]] = field(default_factory=dict)
    listing: tuple[int, int, int] | None = None
    pending: list[tuple[int, Operation]] = field(default_factory=list)

    def copied(self) -> KeyState:
        """A copy that can be folded into while this one is kept."""
        return KeyState(
            windows=[dict(tiles) for tiles in self.windows],
            last_times=list(self.last_times),
            last_entries=[list(entries) for entries in self.last_entries],
            known_ms=self.known_ms,
            attributes=dict(self.attributes),
            listing=self.listing,
            pending=list(self.pending),
        )

    @property
    def in_catalogue(self) -> bool:
        """Whether some event described the entity, and it is not withdrawn."""
        if self.listing is not None:
            return not self.listing[2]
        return bool(self.attributes)


@dataclass(frozen=True, slots=True)
class _TypePlan:
    """What one type of event does: (index, window ms, value attribute) and the like."""

    windows: tuple[tuple[int, int, str | None], ...]
    last_times: tuple[int, ...]
    last_entries: tuple[tuple[int, str], ...]


class EntityPlan:
    """How events change the states of one entity type."""

    def __init__(self, domain: Domain, entity: str, view: FeatureView | None) -> None:
        self.entity = entity
        self.attributes = dict(domain.entities[entity].attributes)
        self.aggregates = compile_aggregates(view) if view else EntityAggregates((), (), ())
        self._by_type = {name: self._type_plan(name) for name in domain.events}
        reversed_windows = [
            (index, window)
            for index, window in enumerate(self.aggregates.windows)
            if window.reversed_by_refunds
        ]
        self._counts = [(i, w.window_ms) for i, w in reversed_windows if w.value is None]
        self._sums = [(i, w.window_ms) for i, w in reversed_windows if w.value == AMOUNT]

    def new_state(self) -> KeyState:
        """State of an entity that no event has named."""
        return KeyState(
            windows=[{} for _ in self.aggregates.windows],
            last_times=[None] * len(self.aggregates.last_times),
            last_entries=[[] for _ in self.aggregates.last_entries],
        )

    def fold(
        self, state: KeyState, event: AppliedEvent, count_changes: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Folds an event that names the state's entity. ``count_changes`` are a refund's."""
        clock_ms = event.clock_ms
        if state.pending:
            self.settle(state, clock_ms)
        if event.time_ms <= clock_ms:
            self._fold_now(state, event)
        else:
            for op in self._operations(event):
                insort(state.pending, (event.time_ms, op), key=_visible_ms)
        facts = event.refund
        if facts is None:
            return
        for index, window_ms in self._counts:
            tile = tile_index(facts.purchase_ms, window_ms)
            for visible_ms, delta in count_changes:
                self._fold_or_wait(state, visible_ms, clock_ms, ("w", index, tile, delta))
        visible_ms = max(event.time_ms, facts.purchase_ms)
        for index, window_ms in self._sums:
            tile = tile_index(facts.purchase_ms, window_ms)
            op = ("w", index, tile, -facts.amount_minor)
            self._fold_or_wait(state, visible_ms, clock_ms, op)

    def describe(self, state: KeyState, event: AppliedEvent) -> None:
        """Folds what a catalogue or room event says about its first entity, the state's."""
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
            self._apply(state, op)
        del state.pending[:visible]

    def as_of(self, state: KeyState, t_ms: int) -> KeyState:
        """The state as visible at ``t_ms``: itself, or a copy with what waited folded in."""
        if not state.pending or state.pending[0][0] > t_ms:
            return state
        visible = state.copied()
        self.settle(visible, t_ms)
        return visible

    def encode(self, state: KeyState, clock_ms: int) -> bytes:
        """Stored form, without the tiles that no read at or after ``clock_ms`` counts."""
        windows = []
        for window, tiles in zip(self.aggregates.windows, state.windows, strict=True):
            if len(tiles) > WINDOW_TILES:
                first = tile_index(clock_ms - window.window_ms, window.window_ms)
                for tile in [tile for tile in tiles if tile < first]:
                    del tiles[tile]
            windows.append([number for item in tiles.items() for number in item])
        return _dump(
            [
                state.known_ms,
                windows,
                state.last_times,
                state.last_entries,
                state.attributes,
                state.listing,
                state.pending,
            ]
        )

    def decode(self, data: bytes) -> KeyState:
        """Inverse of ``encode``."""
        known_ms, windows, last_times, last_entries, attributes, listing, pending = json.loads(data)
        return KeyState(
            windows=[dict(zip(numbers[::2], numbers[1::2], strict=True)) for numbers in windows],
            last_times=last_times,
            last_entries=[[tuple(entry) for entry in entries] for entries in last_entries],
            known_ms=known_ms,
            attributes={name: tuple(found) for name, found in attributes.items()},
            listing=tuple(listing) if listing is not None else None,
            pending=sorted(((when, tuple(op)) for when, op in pending), key=_visible_ms),
        )

    def _type_plan(self, event_type: str) -> _TypePlan:
        aggregates = self.aggregates
        return _TypePlan(
            tuple(
                (index, window.window_ms, window.value)
                for index, window in enumerate(aggregates.windows)
                if event_type in window.events
            ),
            tuple(i for i, a in enumerate(aggregates.last_times) if event_type in a.events),
            tuple(
                (index, entries.of)
                for index, entries in enumerate(aggregates.last_entries)
                if event_type in entries.events
            ),
        )

    def _fold_now(self, state: KeyState, event: AppliedEvent) -> None:
        # The same as applying _operations one by one; this is the hot path of a bulk load.
        time_ms = event.time_ms
        if state.known_ms is None or time_ms < state.known_ms:
            state.known_ms = time_ms
        plan = self._by_type[event.type]
        ticks = time_ms * WINDOW_TILES
        for index, window_ms, value in plan.windows:
            delta = 1 if value is None else event.attributes.get(value, 0)
            tiles = state.windows[index]
            tile = ticks // window_ms
            tiles[tile] = tiles.get(tile, 0) + delta
        for index in plan.last_times:
            last = state.last_times[index]
            if last is None or time_ms > last:
                state.last_times[index] = time_ms
        for index, of in plan.last_entries:
            for kind, identity in event.entities:
                if kind == of:
                    self._add_entry(state, index, (time_ms, event.arrival, event.type, identity))

    def _operations(self, event: AppliedEvent) -> list[Operation]:
        plan = self._by_type[event.type]
        time_ms = event.time_ms
        operations: list[Operation] = [("k", time_ms)]
        for index, window_ms, value in plan.windows:
            delta = 1 if value is None else event.attributes.get(value, 0)
            operations.append(("w", index, tile_index(time_ms, window_ms), delta))
        operations += [("t", index, time_ms) for index in plan.last_times]
        operations += [
            ("e", index, time_ms, event.arrival, event.type, identity)
            for index, of in plan.last_entries
            for kind, identity in event.entities
            if kind == of
        ]
        return operations

    def _fold_or_wait(self, state: KeyState, visible_ms: int, clock_ms: int, op: Operation) -> None:
        if visible_ms <= clock_ms:
            self._apply(state, op)
        else:
            insort(state.pending, (visible_ms, op), key=_visible_ms)

    def _apply(self, state: KeyState, op: Operation) -> None:
        match op:
            case ("w", int(index), int(tile), int(delta)):
                tiles = state.windows[index]
                tiles[tile] = tiles.get(tile, 0) + delta
            case ("k", int(time_ms)):
                known_ms = state.known_ms
                state.known_ms = time_ms if known_ms is None else min(known_ms, time_ms)
            case ("t", int(index), int(time_ms)):
                last = state.last_times[index]
                state.last_times[index] = time_ms if last is None else max(last, time_ms)
            case ("e", int(index), int(time_ms), int(arrival), str(kind), str(identity)):
                self._add_entry(state, index, (time_ms, arrival, kind, identity))
            case ("a", str(name), int(time_ms), int(arrival), value):
                held = state.attributes.get(name)
                if held is None or (time_ms, arrival) > held[:2]:
                    state.attributes[name] = (time_ms, arrival, value)
            case ("x", int(time_ms), int(arrival), int(withdrawn)):
                if state.listing is None or (time_ms, arrival) > state.listing[:2]:
                    state.listing = (time_ms, arrival, withdrawn)
            case _:
                raise ValueError(f"not an operation on a state: {op!r}")

    def _add_entry(self, state: KeyState, index: int, entry: Entry) -> None:
        entries = state.last_entries[index]
        if not entries or entry > entries[-1]:
            entries.append(entry)
        else:
            insort(entries, entry)
        if len(entries) > self.aggregates.last_entries[index].limit:
            del entries[0]


def _visible_ms(waiting: tuple[int, Operation]) -> int:
    return waiting[0]


def compile_plans(domain: Domain) -> dict[str, EntityPlan]:
    """The plan of every entity type."""
    views = compile_views(domain)
    return {entity: EntityPlan(domain, entity, views.get(entity)) for entity in domain.entities}


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
