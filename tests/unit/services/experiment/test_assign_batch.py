"""AssignBatch answers for each unit what Assign answers for it alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import Definitions, Experiment, Variant
from services.common.convert_limits import MAX_BATCH_UNITS
from services.common.errors import InvalidArgument, NotFound
from services.experiment.convert_assigning import UNITS_A_SLICE, batch_assignments
from services.experiment.servicer import ExperimentServicer
from services.experiment.source import InForce
from services.experiment.watch.stream import DefinitionsWatch
from tests.support.assigning_worlds import NOW_MS, definitions, visitors

HALVES = Definitions(
    {"e": Experiment("e", "user", "e", (Variant("a", 0.5), Variant("b", 0.5)))}, "hash"
)


class _Source:
    def __init__(self, definitions: Definitions) -> None:
        self._in_force = InForce(definitions, NOW_MS)

    def current(self) -> InForce:
        return self._in_force

    async def run(self, told: Callable[[], None]) -> None:
        del told


def _servicer(definitions: Definitions) -> ExperimentServicer:
    watch = cast(DefinitionsWatch, None)
    return ExperimentServicer(_Source(definitions), watch, lambda: NOW_MS)


def _unit(visitor: dict[str, Any]) -> experiment_pb2.BatchUnit:
    unit = experiment_pb2.BatchUnit(
        actor=common_pb2.Actor(user_id=visitor["user"], device_id=visitor["device"])
    )
    if visitor["host"]:
        unit.context.units["host"] = visitor["host"]
    if visitor["region"]:
        unit.context.attributes["region"] = visitor["region"]
    if visitor["age"]:
        unit.context.attributes["age"] = visitor["age"]
    if visitor["sticky"] is not None:
        unit.context.sticky_documents.SetInParent()
        if visitor["device"]:
            unit.context.sticky_documents.documents.add(
                unit_type="device", unit_id=visitor["device"], assignments=visitor["sticky"]
            )
    return unit


def _batch(
    definitions: Definitions, units: Sequence[experiment_pb2.BatchUnit], keys: Sequence[str] = ()
) -> experiment_pb2.AssignBatchResponse:
    request = experiment_pb2.AssignBatchRequest(units=units, experiment_keys=keys)
    context = cast(Any, None)
    return asyncio.run(_servicer(definitions).AssignBatch(request, context))


@settings(max_examples=20)
@given(definitions(), st.lists(visitors(), min_size=1, max_size=2 * UNITS_A_SLICE))
def test_a_batch_is_assigned_as_one_by_one(
    world: Definitions, asking: list[dict[str, Any]]
) -> None:
    units = [_unit(visitor) for visitor in asking]
    keys = ["e0"] if len(asking) % 2 else []
    batch = _batch(world, units, keys)
    servicer, context = _servicer(world), cast(Any, None)
    changes = {change.unit: change.documents for change in batch.sticky_changes}
    assigned = batch_assignments(batch.assignments)
    assert len(assigned) == len(units)
    for number, unit in enumerate(units):
        request = experiment_pb2.AssignRequest(
            actor=unit.actor, context=unit.context, experiment_keys=keys
        )
        alone = asyncio.run(servicer.Assign(request, context))
        assert assigned[number] == list(alone.assignments)
        assert list(changes.get(number, ())) == list(alone.sticky_changes)
        assert alone.definitions_hash == batch.definitions_hash


def test_forced_variants_are_of_one_unit() -> None:
    units = [
        experiment_pb2.BatchUnit(actor=common_pb2.Actor(user_id="ann"), forced_variants=forced)
        for forced in ({"e": "a"}, {"e": "b"}, {})
    ]
    found = [assigned.variant_key for (assigned,) in batch_assignments(_told(units))]
    assert found[:2] == ["a", "b"]


def _told(units: Sequence[experiment_pb2.BatchUnit]) -> experiment_pb2.AssignmentColumns:
    return _batch(HALVES, units).assignments


@pytest.mark.parametrize(
    ("count", "change", "field"),
    [
        (0, {}, "units"),
        (MAX_BATCH_UNITS + 1, {}, "units"),
        (3, {"actor": common_pb2.Actor()}, "units[2].actor"),
        (3, {"forced_variants": {"e": "no"}}, "units[2].forced_variants.e"),
    ],
)
def test_what_is_wrong_names_the_unit(count: int, change: dict[str, Any], field: str) -> None:
    actor = common_pb2.Actor(user_id="ann")
    units = [experiment_pb2.BatchUnit(actor=actor) for _ in range(count)]
    if change:
        units[2] = experiment_pb2.BatchUnit(**{"actor": actor} | change)
    with pytest.raises(InvalidArgument) as caught:
        _batch(HALVES, units)
    assert caught.value.violations[0].field == field
    assert caught.value.message.startswith(field)


def test_an_unknown_experiment_is_not_found() -> None:
    unit = experiment_pb2.BatchUnit(actor=common_pb2.Actor(user_id="ann"))
    with pytest.raises(NotFound):
        _batch(HALVES, [unit], ["no"])


def test_a_batch_of_all_that_it_may_have() -> None:
    units = [
        experiment_pb2.BatchUnit(actor=common_pb2.Actor(user_id=f"user-{number}"))
        for number in range(MAX_BATCH_UNITS)
    ]
    columns = _told(units)
    assert list(columns.counts) == [1] * MAX_BATCH_UNITS
    assert columns.texts[0] == ""
    assert sorted(columns.texts) == ["", "a", "b", "e", "user"]
