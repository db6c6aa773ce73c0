"""The event log of one experiment, as it was known at a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from offline.analysis.plan import AnalysisPlan
from offline.dataset.columns import Columns
from offline.dataset.histories import SINCE, forgotten, histories
from offline.dataset.log_tables import MEMORY_LIMIT, LogTables, open_tables
from offline.dataset.schema import (
    EXPOSURES,
    TEAM_SCHEMA,
    TEAMS,
    ColumnSchema,
    entity_column,
    value_column,
)
from services.common.errors import FailedPrecondition
from services.feature.definitions import PURCHASE, REFUND

_ALWAYS = ("arrival", "event_id", "type", "time_ms", "rank_id", "actor")
_OF_REFUNDS = ("given_back_minor", "purchase_event_id", "purchase_amount_minor")


@dataclass(frozen=True)
class KnownLog:
    """What the first ``position`` records of a log say, of which at least ``lost_records`` could
    not be read; ``as_of_ms``: the moment (epoch).

    ``tables``, ``events``, ``exposures`` and ``teams`` are without what came later and what erased
    actors did; columns are those of ``ColumnSchema``. Where an actor is named the last three have
    ``person`` instead: the user of a device that turned out to be theirs, else the actor; null
    without one. ``events`` are those that the plan counts, with the columns that it reads.
    """

    tables: LogTables
    events: ir.Table
    exposures: ir.Table
    teams: ir.Table
    position: int
    as_of_ms: int
    lost_records: int

    def read(self, expression: ir.Table) -> pa.Table:
        """What an expression gives."""
        return self.tables.engine.read(expression)


@contextmanager
def open_known(
    columns: Columns,
    plan: AnalysisPlan,
    as_of_ms: int | None = None,
    *,
    memory_limit: str = MEMORY_LIMIT,
) -> Iterator[KnownLog]:
    """Opens a compacted log as it was at ``as_of_ms``; None for all of it, as of when its last
    record that counts was written.

    What had arrived by then is told by position: all before the first record that was written
    later. Raises ``FailedPrecondition`` (EMPTY_LOG) where nothing that counts had arrived.
    """
    with open_tables(columns, memory_limit=memory_limit) as tables:
        yield _known(tables, columns, plan, as_of_ms)


def _known(
    tables: LogTables, columns: Columns, plan: AnalysisPlan, as_of_ms: int | None
) -> KnownLog:
    exposures = _table(tables, columns, EXPOSURES, columns.schema.exposure_schema)
    teams = _table(tables, columns, TEAMS, TEAM_SCHEMA)
    position = tables.next_arrival
    events = tables.events
    if as_of_ms is not None:
        later = events.filter(events.clock_ms > as_of_ms)
        found = tables.engine.read(later.aggregate(first=later.arrival.min()))
        first = found["first"][0].as_py()
        position = position if first is None else min(position, first)
        events = events.filter(events.arrival < position)
        exposures = exposures.filter(exposures.arrival < position)
        teams = teams.filter(teams.arrival < position)
    last = tables.engine.read(events.aggregate(clock_ms=events.clock_ms.max()))
    watermark = last["clock_ms"][0].as_py()
    if watermark is None:
        raise FailedPrecondition("the log holds no event that counts", reason="EMPTY_LOG")
    endings = tables.endings
    cut = replace(
        tables,
        events=events,
        changes={n: t.filter(t.arrival < position) for n, t in tables.changes.items()},
        endings=None if endings is None else endings.filter(endings.arrival < position),
        _kept={},
    )
    gone = forgotten(cut)
    met = cut.stored(_of_people(cut, exposures, gone))
    counted = _of_people(cut, _read_by(plan, columns.schema, events), gone)
    if plan.design == "user":
        own = met.filter(met.experiment == plan.experiment)
        counted = counted.semi_join(own.select("person").distinct(), "person")
    return KnownLog(
        cut,
        cut.stored(counted),
        met,
        _of_people(cut, teams, gone),
        position,
        watermark if as_of_ms is None else as_of_ms,
        sum(count for first, count in columns.state.lost.items() if first < position),
    )


def _read_by(plan: AnalysisPlan, schema: ColumnSchema, events: ir.Table) -> ir.Table:
    """Events of the types that a plan counts, with the columns that it reads."""
    metrics = (*plan.metrics.values(), *(covariate.metric for covariate in plan.covariates))
    parts = [part for m in metrics for part in (m.numerator, m.denominator) if part is not None]
    types = {*plan.entered_by, *(event for part in parts for event in part.events)}
    if PURCHASE in types:
        types.add(REFUND)
    values = {name for part in parts for name in (*part.at_least, part.value) if name is not None}
    named = [plan.other_unit or plan.unit]
    if plan.interleaved:
        named = list(schema.entities)
    wanted = [
        *_ALWAYS,
        *_OF_REFUNDS,
        *(entity_column(name) for name in schema.entities if name in named),
        *(value_column(name) for name in sorted(values)),
    ]
    return events.filter(events.type.isin(sorted(types))).select(*wanted)


def _table(tables: LogTables, columns: Columns, name: str, schema: pa.Schema) -> ir.Table:
    files = columns.files(name)
    if files:
        return tables.engine.opened(files, name)
    return tables.imported(schema.empty_table())


def _of_people(tables: LogTables, rows: ir.Table, gone: ir.Table | None) -> ir.Table:
    """Rows with the ``person`` instead of the actor; an actor's history has a name of its own from
    each of its ends on."""
    names = [*(name for name in rows.columns if name != "actor"), "person"]
    if gone is not None:
        rows = rows.anti_join(gone, "arrival")
    ended = histories(tables)
    if ended is None:
        return rows.mutate(person=rows.actor.nullif("")).select(*names)
    both = ended.of_actors(rows.mutate(id=rows.actor))
    inherited = both.filter(both[SINCE] != both.arrival)
    own = both.filter(both[SINCE] == both.arrival)
    # A slate's items have one arrival: all or none of them are inherited.
    own = own.anti_join(inherited, "arrival")
    found = ibis.union(own, inherited)
    return found.mutate(person=found.id.nullif("")).select(*names)
