"""Which exposures are news: one a unit, experiment and window. Pure.

A *unit* meets an experiment when a slate is answered that it is assigned for: a visitor, a host or
room of which the slate shows an item, and of a two-sided experiment the pair of them. A visitor in
a slice of time is a unit of that slice. Windows are pieces of time of one length, counted from
1970, alike for every replica.

What was told in this window is remembered in a bounded memory, which costs a look-up a request and
experiment. What is forgotten, or is told by another replica, too, is the same event by its id,
of which the log keeps the first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Final, NamedTuple

from services.common.actor import actor_key
from services.common.assign.assign import Assignment
from services.common.assign.model import TIME_SLICE
from services.ranker.marks import Marks
from services.ranker.types import Call, RankResult

_EXPOSING: Final = (Call.RANK, Call.REFRESH)
_NO_ENTITY: Final = ("", "")


class Exposure(NamedTuple):
    """A unit that met an experiment. ``unit``: the raw id of the visitor in it, empty without one;
    ``entity``: type and id of its host or room, empty without one; ``names_visitor``: whether the
    visitor is, or is part of, the unit; ``window``: number of the window, or of the slice."""

    assignment: Assignment
    unit: str
    entity: tuple[str, str]
    names_visitor: bool
    window: int


class Exposures:
    """Remembers the exposures of this window: at least the ``capacity`` told last, at most twice
    as many. Used by one thread."""

    def __init__(self, *, window_ms: int, capacity: int) -> None:
        self._window_ms = window_ms
        self._told = Marks(capacity)

    def news(self, result: RankResult, now_ms: int) -> list[Exposure]:
        """The exposures that an answer adds at a time (epoch ms); they count as told from now
        on."""
        command = result.command
        # Nobody sees a shadow's slate.
        if command.shadow_of or command.call not in _EXPOSING:
            return []
        return [
            exposure
            for exposure in self._of(result, now_ms)
            if self._told.add(_mark(exposure, result.traffic.value))
        ]

    def take_back(self, result: RankResult, exposures: Sequence[Exposure]) -> None:
        """Makes exposures of an answer news again: they could not be told."""
        for exposure in exposures:
            self._told.discard(_mark(exposure, result.traffic.value))

    def _of(self, result: RankResult, now_ms: int) -> Iterator[Exposure]:
        command, window = result.command, now_ms // self._window_ms
        visitor = actor_key(command.user_id, command.device_id)
        experiments = result.definitions.experiments
        for assignment in result.assignments:
            experiment = experiments.get(assignment.experiment_key)
            # What flags alone run is met where the flag is asked for, and pairs come below.
            if not assignment.variant_key or experiment is None or experiment.other_unit:
                continue
            if experiment.unit == TIME_SLICE:
                slice_ = now_ms // experiment.slice_ms
                yield Exposure(assignment, visitor, _NO_ENTITY, True, slice_)
            else:
                is_device = assignment.unit_type == "device" and command.device_id
                unit = command.device_id if is_device else visitor
                yield Exposure(assignment, unit, _NO_ENTITY, True, window)
        for entity, entity_id, assignment in result.arms:
            is_pair = assignment.unit_type != entity
            unit = visitor if is_pair else ""
            yield Exposure(assignment, unit, (entity, entity_id), is_pair, window)


def _mark(exposure: Exposure, traffic: int) -> Hashable:
    assignment, unit, entity, _, window = exposure
    return (
        assignment.experiment_key,
        assignment.variant_key,
        assignment.other_variant_key,
        assignment.revision,
        unit,
        entity,
        window,
        traffic,
    )
