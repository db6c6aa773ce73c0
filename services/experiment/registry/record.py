"""What the registry keeps of a definition, and what of it is in force: plain data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from services.common.assign.assign import Definitions, Experiment
from services.common.assign.canonical import (
    EXPERIMENT,
    DefinitionError,
    Item,
    ItemKey,
    definitions_of,
    hashed,
    items_of,
)
from services.common.assign.model import EVALUATOR_VERSION, UNREADABLE

_NOTHING: Final[Mapping[ItemKey, Item]] = MappingProxyType({})


class State(Enum):
    """Where an experiment is in its life."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    CONCLUDED = "concluded"
    ARCHIVED = "archived"


@dataclass(frozen=True)
class Record:
    """One definition. ``item`` has it as if it ran, ``authored`` as its author wrote it (JSON of
    what an experiments file has under its key). ``version`` is raised by every change. ``state``:
    of an experiment; None of anything else. ``winner`` and ``rolled_out``: how it was concluded.
    Times in epoch ms."""

    item: Item
    authored: str
    version: int
    state: State | None
    created_ms: int
    updated_ms: int
    winner: str = ""
    rolled_out: bool = False
    started_ms: int | None = None
    concluded_ms: int | None = None

    @property
    def id(self) -> ItemKey:
        """(kind, key)."""
        return self.item.id

    @property
    def supported(self) -> bool:
        """Whether the definition is of rules that are known here."""
        return self.item.evaluator_version == EVALUATOR_VERSION


def experiment_of(item: Item) -> Experiment:
    """The experiment of an item. Raises ``DefinitionError``."""
    return definitions_of([item]).experiments[item.key]


def item_of(experiment: Experiment) -> Item:
    """The item of an experiment."""
    return items_of(Definitions({experiment.key: experiment}, ""))[EXPERIMENT, experiment.key]


def in_force(record: Record) -> Item | None:
    """What decides; None where nothing of it does any more. Raises ``DefinitionError``."""
    if record.state is State.ARCHIVED:
        return None
    if record.state in (None, State.RUNNING) or not record.supported:
        return record.item
    experiment = experiment_of(record.item)
    if record.state is State.PAUSED:
        # Still running for its layer, and for what may not change.
        return item_of(replace(experiment, killed=True))
    if record.state is State.CONCLUDED and record.rolled_out:
        return item_of(rolled_out(experiment, record.winner))
    return item_of(replace(experiment, running=False))


def rolled_out(experiment: Experiment, winner: str) -> Experiment:
    """The winner for everybody whom condition and prerequisites let in. The global holdout stays
    out: what all experiments together brought is measured against it."""
    return replace(
        experiment,
        variants=tuple(
            replace(variant, weight=1.0 if variant.key == winner else 0.0)
            for variant in experiment.variants
        ),
        coverage=1.0,
        ranges=None,
        layer="",
        layer_ranges=(),
        start_ms=None,
        end_ms=None,
        ramp=(),
        namespace=None,
        filters=(),
        sticky=None,
    )


def worked_out(items: Collection[Item]) -> Definitions:
    """Definitions that can decide. Raises ``DefinitionError``."""
    found = hashed(definitions_of(items))
    try:
        _ = found.compiled
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        names = ", ".join(f"{item.kind} {item.key!r}" for item in items)
        raise DefinitionError(f"{names} can't be read: {error}") from error
    return found


class Reading(NamedTuple):
    """Definitions in force, with their hash, and what is wrong with those that can't be read."""

    definitions: Definitions
    faults: list[str]


def read_in_force(
    records: Iterable[Record],
    before: Mapping[ItemKey, Item] = _NOTHING,
    read: Callable[[Collection[Item]], Definitions] = worked_out,
) -> Reading:
    """What is in force. Of what can't be read that stays which was in force ``before``; where
    nothing was, it decides nothing, and is of a version that nobody knows."""
    items: dict[ItemKey, Item] = {}
    faults: list[str] = []
    for record in records:
        try:
            item = in_force(record)
        except DefinitionError as error:
            faults.append(str(error))
            item = unreadable(record.id)
        if item is not None:
            items[item.id] = _kept(item, before)
    try:
        return Reading(read(items.values()), faults)
    except DefinitionError:
        # Which of them it is takes longer to find out.
        for key, item in items.items():
            try:
                read([item])
            except DefinitionError as error:
                faults.append(str(error))
                items[key] = _kept(unreadable(key), before)
        return Reading(read(items.values()), faults)


def unreadable(key: ItemKey) -> Item:
    """What stands for a definition that can't be read."""
    kind, name = key
    return Item(kind, name, 1, UNREADABLE, "")


def _kept(item: Item, before: Mapping[ItemKey, Item]) -> Item:
    return before.get(item.id, item) if item.evaluator_version == UNREADABLE else item
