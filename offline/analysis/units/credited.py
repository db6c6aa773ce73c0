"""What two rankings earned that were interleaved in one slate (team draft)."""

from __future__ import annotations

from functools import reduce
from operator import or_

import ibis
import ibis.expr.types as ir
import numpy as np

from offline.analysis.plan import AnalysisPlan, PlannedMetric
from offline.analysis.units.exposed import Rows
from offline.analysis.units.log import KnownLog
from offline.analysis.units.outcomes import counted_events
from offline.analysis.units.table import Credits, Flags, Floats, Ints
from offline.dataset.schema import entity_column


def credits_of(
    log: KnownLog,
    plan: AnalysisPlan,
    rows: Rows,
    variant: Ints,
    mature: dict[str, Flags],
) -> tuple[Credits, ...]:
    """Credits of the experiment's variants that interleave, one a variant.

    An event counts for the team that brought the item it names, where it carries the rank_id of the
    slate and happens within the metric's window after the person's exposure; of rows that are not
    ``mature`` by the metric all is 0.
    """
    found = []
    for key, teams in plan.interleaved.items():
        arm = variant == plan.variants.index(key)
        unit = np.flatnonzero(arm).astype(np.int64)
        earned: dict[str, Floats] = {}
        for name, metric in plan.metrics.items():
            if metric.denominator is None and not metric.within_ms:
                sums = np.zeros((len(variant), 2))
                told = log.read(_earned(log, plan, rows, metric, key))
                places = {team: place for place, team in enumerate(teams)}
                for row, team, value in zip(*told.to_pydict().values(), strict=True):
                    if team in places:
                        sums[row, places[team]] = value
                sums[~mature[name]] = 0
                earned[name] = sums[unit]
        found.append(Credits(key, teams, unit, earned))
    return tuple(found)


def _earned(
    log: KnownLog, plan: AnalysisPlan, rows: Rows, metric: PlannedMetric, variant: str
) -> ir.Table:
    """row, team, value."""
    teams = log.teams
    shown = teams.filter(
        (teams.arms.get(plan.experiment, ibis.literal("")) == variant) & (teams.rank_id != "")
    )
    shown = shown.select("person", "rank_id", "item_type", "item_id", "team").distinct()
    events = counted_events(log, plan, rows, metric, "numerator")
    named = [c for c in events.columns if c.startswith(entity_column(""))]
    of_item = reduce(
        or_,
        (
            (shown.item_type == column.removeprefix(entity_column("")))
            & (shown.item_id == events[column])
            for column in named
        ),
    )
    shown = shown.rename(seen_by="person", slate="rank_id")
    both = events.join(
        shown, [events.rank_id == shown.slate, events.doer == shown.seen_by, of_item]
    )
    return both.group_by("row", "team").aggregate(value=both.value.cast("float64").sum())
