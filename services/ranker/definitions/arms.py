"""Arms of hosts and rooms, as columns beside the catalogue's: the arm of an entity is worked out
once for a version of the definitions, when it is first a candidate, and not again per request.

An item's host is in its column ``host_id``, its room in ``room_id``; items of that very type are
their own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from services.common.assign.asking import Asking
from services.common.assign.assign import Assignment, Context, Definitions, Experiment
from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.catalogue.table import EntityTable

NOBODY: Final = -1
"""Arm of an entity that is in none."""

_UNKNOWN: Final = -2
_KEPT_COLUMNS: Final = 64


ArmOf = Callable[[Definitions, Experiment, str, int], int]
"""Index of the variant of a unit id at a time (epoch ms)."""


class ShownArm(NamedTuple):
    """The arm of a host or room (its type and id) of which a slate shows items; of a two-sided
    experiment the assignment is the viewer's, with the arm of the other side."""

    entity: str
    entity_id: str
    assignment: Assignment


class ItemFactors(Protocol):
    """Says by how much the values of items are multiplied, and in which arms they are."""

    def of(
        self,
        definitions: Definitions,
        table: EntityTable,
        slots: Int64Array,
        assignments: Sequence[Assignment],
        now_ms: int,
    ) -> Float32Array | None:
        """Factors float32 [N] of the items at ``slots`` [N]; None where all are 1."""

    def shown(
        self,
        definitions: Definitions,
        table: EntityTable,
        slots: Int64Array,
        assignments: Sequence[Assignment],
        now_ms: int,
    ) -> Sequence[ShownArm]:
        """The arms of the items at ``slots`` [N], each host and room once."""


class _Named(NamedTuple):
    """Units of items: ``codes`` int64 [N] into ``values``, which ``source`` has, and which only
    grow."""

    codes: Int64Array
    values: Sequence[str]
    source: object


class _Column:
    """Arms of one experiment by code, int8, for as long as ``source`` and the definitions hold."""

    def __init__(self, source: object) -> None:
        self.source = source
        self.arms = np.full(0, _UNKNOWN, np.int8)
        self.told: dict[int, Assignment] = {}
        """Assignments of entities that were shown, by code."""

    def reserve(self, count: int) -> None:
        """Makes room for ``count`` codes."""
        if count > len(self.arms):
            more = np.full(max(count, 2 * len(self.arms)) - len(self.arms), _UNKNOWN, np.int8)
            self.arms = np.concatenate([self.arms, more])


class EntityArms:
    """Columns of arms. Used by one thread. ``arm_of`` works an arm out."""

    def __init__(self, arm_of: ArmOf | None = None) -> None:
        self._arm_of = arm_of or arm_index
        self._columns: OrderedDict[tuple[int, str, str, int], _Column] = OrderedDict()

    def of(
        self,
        definitions: Definitions,
        table: EntityTable,
        slots: Int64Array,
        assignments: Sequence[Assignment],
        now_ms: int,
    ) -> Float32Array | None:
        """Implements ``ItemFactors``. Of a two-sided experiment only the pairs count of which both
        sides are in the same arm."""
        if not definitions.factored:
            return None
        viewers = {a.experiment_key: a.variant_key for a in assignments}
        found: Float32Array | None = None
        for experiment in definitions.factored:
            arms = self.arms(definitions, experiment, table, slots, now_ms)
            if arms is None:
                continue
            factors = _factors(experiment, viewers)[arms]
            found = factors if found is None else found * factors
        return found

    def shown(
        self,
        definitions: Definitions,
        table: EntityTable,
        slots: Int64Array,
        assignments: Sequence[Assignment],
        now_ms: int,
    ) -> Sequence[ShownArm]:
        """Implements ``ItemFactors``. Of a two-sided experiment pairs of which both sides are in an
        arm."""
        found: list[ShownArm] = []
        if not definitions.of_entities or not len(slots):
            return found
        viewers = {a.experiment_key: a for a in assignments if a.variant_key}
        for experiment in definitions.of_entities:
            entity = experiment.other_unit or experiment.unit
            viewer = viewers.get(experiment.key)
            named = _named(table, slots, entity)
            if named is None or (experiment.other_unit and viewer is None):
                continue
            column = self._column(definitions, experiment, named.source, now_ms)
            arms = self._arms(definitions, experiment, column, named, now_ms).tolist()
            for code, arm in dict(zip(named.codes.tolist(), arms, strict=True)).items():
                if arm == NOBODY:
                    continue
                unit_id = named.values[code]
                if viewer is not None:
                    of_pair = viewer._replace(other_variant_key=experiment.variants[arm].key)
                    found.append(ShownArm(entity, unit_id, of_pair))
                    continue
                told = column.told.get(code)
                if told is None:
                    told = entity_assignment(definitions, experiment, unit_id, now_ms)
                    column.told[code] = told
                found.append(ShownArm(entity, unit_id, told))
        return found

    def arms(
        self,
        definitions: Definitions,
        experiment: Experiment,
        table: EntityTable,
        slots: Int64Array,
        now_ms: int,
    ) -> Int64Array | None:
        """Index of each item's variant, int64 [N], ``NOBODY`` where its host or room is in none;
        None where the items have no such unit."""
        named = _named(table, slots, experiment.other_unit or experiment.unit)
        if named is None:
            return None
        column = self._column(definitions, experiment, named.source, now_ms)
        return self._arms(definitions, experiment, column, named, now_ms)

    def _arms(
        self,
        definitions: Definitions,
        experiment: Experiment,
        column: _Column,
        named: _Named,
        now_ms: int,
    ) -> Int64Array:
        column.reserve(len(named.values))
        arms = column.arms[named.codes]
        if (arms == _UNKNOWN).any():
            for code in np.unique(named.codes[arms == _UNKNOWN]).tolist():
                column.arms[code] = self._arm_of(
                    definitions, experiment, named.values[code], now_ms
                )
            arms = column.arms[named.codes]
        return arms.astype(np.int64)

    def _column(
        self, definitions: Definitions, experiment: Experiment, source: object, now_ms: int
    ) -> _Column:
        # What a schedule or a ramp changes begins a column of its own.
        period = bisect_right(_moments(experiment), now_ms)
        key = (id(source), definitions.hash, experiment.key, period)
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = _Column(source)
            while len(self._columns) > _KEPT_COLUMNS:
                self._columns.popitem(last=False)
        else:
            self._columns.move_to_end(key)
        return column


def _named(table: EntityTable, slots: Int64Array, unit: str) -> _Named | None:
    if table.entity == unit:
        return _Named(slots, table.ids, table.slot_of)
    column = table.strings(f"{unit}_id")
    if column is None:
        return None
    codes, pool = column
    return _Named(codes[slots].astype(np.int64), pool.values, pool)


def _moments(experiment: Experiment) -> list[int]:
    bounds = (experiment.start_ms, experiment.end_ms)
    return sorted([m for m in bounds if m is not None] + [s.at_ms for s in experiment.ramp])


def arm_index(definitions: Definitions, experiment: Experiment, unit_id: str, now_ms: int) -> int:
    """Index of the variant of a host or room, ``NOBODY`` for none."""
    if not unit_id:
        return NOBODY
    decider = definitions.compiled.deciders[experiment.key]
    if experiment.other_unit:
        key = decider.other_arm_of(unit_id, now_ms)
    else:
        key = entity_assignment(definitions, experiment, unit_id, now_ms).variant_key
    keys = [variant.key for variant in experiment.variants]
    return keys.index(key) if key else NOBODY


def entity_assignment(
    definitions: Definitions, experiment: Experiment, unit_id: str, now_ms: int
) -> Assignment:
    """The assignment of a host or room."""
    context = Context({experiment.unit: unit_id}, now_ms=now_ms)
    decider = definitions.compiled.deciders[experiment.key]
    return decider.decide(Asking(context, definitions.common.aliases))


def _factors(experiment: Experiment, viewers: Mapping[str, str]) -> Float32Array:
    """By index of the variant; the last, which ``NOBODY`` finds, is 1."""
    factors = np.ones(len(experiment.variants) + 1, np.float32)
    for at, variant in enumerate(experiment.variants):
        if not experiment.other_unit or viewers.get(experiment.key) == variant.key:
            factors[at] = variant.value_factor
    return factors
