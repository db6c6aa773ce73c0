"""Arms of hosts and rooms as columns: as assignment says, and worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.common.assign.assign import Definitions, Experiment, Step, Variant, assign
from services.common.assign.canonical import hashed
from services.common.assign.checks import errors_of
from services.ranker.arrays import Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.definitions.arms import NOBODY, EntityArms, arm_index
from services.ranker.feature_rows import View, ViewColumn
from tests.unit.services.ranker.fakes import rows_of

VIEW = View("v", "h", (ViewColumn("host_id", "string", ""), ViewColumn("live", "int64", 0)))
DOUBLED = (Variant("a", 0.5), Variant("b", 0.5, value_factor=2.0))
ON_HOSTS = Experiment("e", "host", "e_1", DOUBLED, coverage=0.8)


def _definitions(*experiments: Experiment) -> Definitions:
    return hashed(Definitions({e.key: e for e in experiments}, ""))


def _table(entity: str, hosts: Sequence[str], before: EntityTable | None = None) -> EntityTable:
    rows = {f"{entity}{n}": {"host_id": host} for n, host in enumerate(hosts)}
    table = before or EntityTable.empty(entity, VIEW)
    return table.changed([rows_of(VIEW, rows)], (), 1)


def _all(table: EntityTable) -> Int64Array:
    return np.arange(len(table))


HOSTS = [f"h{n % 40}" for n in range(100)] + [""]


def _expected(definitions: Definitions, hosts: Sequence[str], now_ms: int = 5) -> list[float]:
    """Factors by assigning every item's host alone."""
    found = []
    for host in hosts:
        (one,) = assign(definitions, {"host": host}, now_ms=now_ms)
        found.append(2.0 if one.variant_key == "b" else 1.0)
    return found


def test_items_have_the_arms_of_their_hosts() -> None:
    definitions, arms = _definitions(ON_HOSTS), EntityArms()
    table = _table("room", HOSTS)
    factors = arms.of(definitions, table, _all(table), [], 5)
    assert factors is not None
    assert factors.tolist() == _expected(definitions, HOSTS)
    assert {1.0, 2.0} == set(factors.tolist())
    some = np.array([7, 3, 50])
    assert arms.of(definitions, table, some, [], 5).tolist() == factors[some].tolist()  # type: ignore[union-attr]
    # Hosts are their own; what has no host has no arm.
    hosts = _table("host", [""] * 30)
    found = arms.of(definitions, hosts, _all(hosts), [], 5)
    assert found is not None
    assert found.tolist() == _expected(definitions, hosts.ids)
    bare = EntityTable.empty("course", View("v", "h", (ViewColumn("live", "int64", 0),)))
    assert arms.of(definitions, bare, _all(bare), [], 5) is None


def test_an_arm_is_worked_out_once_for_a_version_of_the_definitions() -> None:
    worked_out: list[str] = []

    def counted(definitions: Definitions, e: Experiment, unit_id: str, now_ms: int) -> int:
        worked_out.append(unit_id)
        return arm_index(definitions, e, unit_id, now_ms)

    definitions, arms = _definitions(ON_HOSTS), EntityArms(counted)
    table = _table("room", HOSTS)
    for _ in range(3):
        arms.of(definitions, table, _all(table), [], 5)
    assert sorted(worked_out) == sorted(set(HOSTS))
    # A new host alone is worked out when it comes; others' arms stay.
    later = _table("room", [*HOSTS[:50], "h99"], table)
    found = arms.of(definitions, later, _all(later), [], 5)
    assert sorted(worked_out) == sorted([*set(HOSTS), "h99"])
    column = later.strings("host_id")
    assert column is not None
    hosts = [column[1].values[code] for code in column[0].tolist()]
    assert found is not None
    assert found.tolist() == _expected(definitions, hosts)
    changed = _definitions(replace(ON_HOSTS, revision=2, coverage=0.1))
    found = arms.of(changed, later, _all(later), [], 5)
    assert found is not None
    assert found.tolist() == _expected(changed, hosts)


def test_schedules_and_ramps_count() -> None:
    ramp = (Step(1_000, 1.0),)
    definitions = _definitions(replace(ON_HOSTS, coverage=0.2, ramp=ramp, end_ms=2_000))
    arms, table = EntityArms(), _table("room", HOSTS)
    seen = []
    for now_ms in (5, 1_000, 2_000, 5):
        found = arms.of(definitions, table, _all(table), [], now_ms)
        assert found is not None
        assert found.tolist() == _expected(definitions, HOSTS, now_ms)
        seen.append(float(found.sum()))
    assert seen[0] < seen[1]
    assert seen[2] == len(HOSTS)
    assert seen[3] == seen[0]


def test_two_sides_must_meet() -> None:
    two_sided = Experiment("e", "user", "e_1", DOUBLED, other_unit="host")
    definitions, arms = _definitions(two_sided), EntityArms()
    table = _table("room", HOSTS)
    for user in (f"u{n}" for n in range(10)):
        assignments = assign(definitions, {"user": user}, now_ms=5)
        found = arms.of(definitions, table, _all(table), assignments, 5)
        assert found is not None
        for factor, host in zip(found.tolist(), HOSTS, strict=True):
            units = {"user": user} | ({"host": host} if host else {})
            (pair,) = assign(definitions, units, now_ms=5)
            both = pair.variant_key == pair.other_variant_key == "b"
            assert factor == (2.0 if both else 1.0)
    nobody = arms.arms(definitions, two_sided, table, np.array([len(HOSTS) - 1]), 5)
    assert nobody is not None
    assert nobody.tolist() == [NOBODY]


def test_without_factors_nothing_is_worked_out() -> None:
    plain = replace(ON_HOSTS, variants=(Variant("a", 0.5), Variant("b", 0.5)))
    table = _table("room", HOSTS)
    assert EntityArms().of(_definitions(plain), table, _all(table), [], 5) is None


def test_what_a_host_can_not_have_is_refused() -> None:
    found = list(errors_of(_definitions(replace(ON_HOSTS, condition={"a": 1}))))
    ((where, problem),) = found
    assert where == ("experiments", "e", "condition")
    assert problem == "is about a visitor's request, which hosts have none of"
    on_users = replace(ON_HOSTS, unit="user")
    ((where, problem),) = errors_of(_definitions(on_users))
    assert (where[-1], problem) == ("value_factor", "is for hosts and rooms alone")
