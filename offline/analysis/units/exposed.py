"""Who was exposed to what, and when first: the rows of a table of units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from offline.analysis.plan import AnalysisPlan
from offline.analysis.units.log import KnownLog
from offline.dataset.schema import entity_column
from services.common.assign.model import ENTITY_UNITS, TIME_SLICE

# Windows want all their rows in memory: exposures are gone through in parts of about so many.
EXPOSURES_AT_ONCE = 1_000_000

PERSON, GROUP = "person", "group"
CROSSOVER, FORCED, UNKNOWN_VARIANT = "crossover", "forced", "unknown_variant"


@dataclass(frozen=True)
class Rows:
    """``table``, a row each unit that is analysed: ``row`` int64 from 0, in order of exposed_ms,
    person and group; ``person`` and ``group`` (host, room or slice) where the row has one, else
    null; ``variant``; ``other_variant``; ``exposed_ms`` and ``exposed_arrival``; ``until_ms``: what
    happens from then on is another row's, null where nothing is; ``attributes`` of the exposure;
    ``lost_ms``: so much of the beginning of a slice of time is its burn-in, 0 elsewhere.

    ``keys``: those of ``person`` and ``group`` by which events belong to a row. ``excluded``: units
    left out, by reason.
    """

    table: ir.Table
    keys: tuple[str, ...]
    excluded: Mapping[str, int]
    exposures: int
    revisions: tuple[int, ...]


def exposed(log: KnownLog, plan: AnalysisPlan) -> Rows:
    """First exposures of the units of the experiment.

    A unit that was seen in two variants, or was forced into one, is left out.
    """
    found = log.exposures
    found = found.filter((found.experiment == plan.experiment) & (found.variant != ""))
    if plan.start_ms is not None:
        found = found.filter(found.time_ms >= plan.start_ms)
    if plan.exposed_before_ms is not None:
        found = found.filter(found.time_ms < plan.exposed_before_ms)
    found = log.tables.stored(_with_units(found, plan))
    said = log.read(found.select("revision").distinct().order_by("revision"))
    total = log.read(found.aggregate(number=ibis._.count()))["number"][0].as_py()
    units = _units(log, found, total)
    known = units.variant.isin(plan.variants)
    if plan.other_unit:
        known &= units.other_variant.isin(plan.variants)
    reason = ibis.cases(
        (units.forced, FORCED), (units.variants > 1, CROSSOVER), (~known, UNKNOWN_VARIANT), else_=""
    )
    units = units.mutate(reason=reason)
    counts = log.read(
        units.filter(units.reason != "").group_by("reason").aggregate(number=ibis._.count())
    ).to_pylist()
    kept = units.filter(units.reason == "").drop("reason", "forced", "variants")
    if plan.unit == TIME_SLICE:
        kept = _burnt_in(kept, plan)
    keys: tuple[str, ...] = (GROUP,) if _grouped(plan) else (PERSON,)
    if plan.other_unit:
        keys = (PERSON, GROUP)
    elif plan.entered_by:
        kept = _inside(log, plan, log.tables.stored(kept))
        keys = (PERSON,) if plan.unit == TIME_SLICE else (PERSON, GROUP)
    elif plan.unit == TIME_SLICE:
        ends = (kept.group.cast("int64") + 1) * plan.slice_ms
        kept = kept.mutate(until_ms=ends)
    return Rows(
        _numbered(log, log.tables.stored(kept)),
        keys,
        {part["reason"]: part["number"] for part in counts},
        total,
        tuple(said["revision"].to_pylist()),
    )


def _burnt_in(slices: ir.Table, plan: AnalysisPlan) -> ir.Table:
    """Slices of time, exposed after their burn-in where they have one: behind another variant, or
    behind a slice of which nobody knows. ``met_ms`` is when they were met."""
    number = slices.group.cast("int64")
    before = ibis.window(order_by=number)
    follows = number.lag().over(before) == number - 1
    same = slices.variant.lag().over(before) == slices.variant
    lost_ms = ibis.ifelse((follows & same).fill_null(False), 0, plan.burn_in_ms).cast("int64")
    found = slices.mutate(lost_ms=lost_ms, met_ms=slices.exposed_ms)
    settled_ms = number * plan.slice_ms + found.lost_ms
    return found.mutate(exposed_ms=ibis.greatest(found.exposed_ms, settled_ms))


def _numbered(log: KnownLog, kept: ir.Table) -> ir.Table:
    """``kept`` with its rows' numbers, in order of exposed_ms and arrival: each has its own."""
    order = ibis.window(order_by=[kept.exposed_ms, kept.exposed_arrival])
    places = kept.select("exposed_arrival", row=ibis.row_number().over(order).cast("int64"))
    return log.tables.stored(kept.join(places, "exposed_arrival"))


def numbers(rows: Rows, plan: AnalysisPlan) -> ir.Table:
    """exposed_ms and variant by row, and where rows lie in groups unit and cluster, where sides
    have arms other_variant, where slices are cut lost_ms: as numbers."""
    table = rows.table

    def place(column: ir.StringValue) -> ir.IntegerValue:
        arms = [(column == key, index) for index, key in enumerate(plan.variants)]
        return ibis.cases(*arms, else_=-1).cast("int64")

    def number(column: ir.StringValue) -> ir.IntegerValue:
        return ibis.dense_rank().over(ibis.window(order_by=column)).cast("int64")

    wanted: dict[str, ir.Value] = {"variant": place(table.variant)}
    if plan.timed:
        wanted["lost_ms"] = table.lost_ms
    if plan.cluster is not None:
        wanted |= {"unit": number(table.person), "cluster": number(table.group)}
    if plan.other_unit:
        wanted["other_variant"] = place(table.other_variant)
    return table.select("row", "exposed_ms", **wanted).order_by("row").drop("row")


def group_of(events: ir.Table, plan: AnalysisPlan) -> ir.StringValue:
    """The host, room or slice of time that events belong to; null where they belong to none."""
    if plan.unit == TIME_SLICE:
        return (events.time_ms // plan.slice_ms).cast("int64").cast("string")
    return events[entity_column(plan.other_unit or plan.unit)]


def _grouped(plan: AnalysisPlan) -> bool:
    return plan.unit in (*ENTITY_UNITS, TIME_SLICE)


def _with_units(exposures: ir.Table, plan: AnalysisPlan) -> ir.Table:
    """Exposures that name their unit, with it in ``person`` and ``group``."""
    nobody = ibis.null("string")
    if _grouped(plan):
        found = exposures.mutate(group=group_of(exposures, plan), person=nobody)
        return found.filter(found.group.notnull())
    if plan.other_unit:
        found = exposures.mutate(group=group_of(exposures, plan))
        return found.filter(found.person.notnull() & found.group.notnull())
    return exposures.filter(exposures.person.notnull()).mutate(group=nobody)


def _units(log: KnownLog, exposures: ir.Table, number: int) -> ir.Table:
    """One row a unit, with its first exposure; ``number`` of exposures in all."""
    exposures = exposures.mutate(
        unit=ibis.coalesce(exposures.person, "") + "\x1f" + ibis.coalesce(exposures.group, "")
    )
    parts = 1 << (number // EXPOSURES_AT_ONCE).bit_length()
    mark = exposures.unit.hash() & (parts - 1)
    found = [log.tables.stored(_firsts(exposures.filter(mark == part))) for part in range(parts)]
    return found[0] if parts == 1 else ibis.union(*found)


def _firsts(exposures: ir.Table) -> ir.Table:
    """First exposures of units, each with the number of its variants."""
    both = exposures.variant + "\x1f" + exposures.other_variant
    told = exposures.group_by("unit").aggregate(
        variants=both.nunique(), forced=exposures.forced.any()
    )
    first = ibis.window(group_by=exposures.unit, order_by=[exposures.time_ms, exposures.arrival])
    numbered = exposures.mutate(place=ibis.row_number().over(first))
    firsts = numbered.filter(numbered.place == 0).select(
        "unit",
        "person",
        "group",
        "variant",
        "other_variant",
        "attributes",
        exposed_ms=numbered.time_ms,
        exposed_arrival=numbered.arrival,
        until_ms=ibis.null("int64"),
        lost_ms=ibis.literal(0, "int64"),
    )
    return firsts.join(told, "unit").drop("unit")


def _inside(log: KnownLog, plan: AnalysisPlan, groups: ir.Table) -> ir.Table:
    """Viewers within the groups, each from the event on by which they entered. In slices of time
    what a viewer does belongs to the one entered last; who came in a burn-in is there from the
    next entry after it on."""
    events = log.events
    entries = events.filter(events.type.isin(plan.entered_by) & events.person.notnull())
    entries = entries.select("person", "time_ms", "arrival", entered=group_of(entries, plan))
    of_slices = plan.unit == TIME_SLICE
    since_ms = groups.met_ms if of_slices else groups.exposed_ms
    here = [entries.entered == groups.group, entries.time_ms >= since_ms]
    both = entries.rename(viewer="person").join(groups.drop("person"), here)
    counted = both.filter(both.time_ms >= both.exposed_ms)
    first = ibis.window(
        group_by=[counted.group, counted.viewer], order_by=[counted.time_ms, counted.arrival]
    )
    counted = counted.mutate(place=ibis.row_number().over(first))
    found = counted.filter(counted.place == 0).select(
        "group",
        "variant",
        "other_variant",
        "attributes",
        person=counted.viewer,
        exposed_ms=counted.time_ms,
        exposed_arrival=counted.arrival,
        until_ms=counted.until_ms,
        lost_ms=counted.lost_ms,
    )
    if not of_slices:
        return found
    came = both.group_by(came_as=both.viewer, came_to=both.group).aggregate(
        came_ms=both.time_ms.min()
    )
    following = ibis.window(group_by=came.came_as, order_by=came.came_ms)
    came = came.mutate(left_ms=came.came_ms.lead().over(following))
    stays = found.join(came, [found.person == came.came_as, found.group == came.came_to])
    return stays.mutate(until_ms=stays.left_ms).select(*found.columns)
