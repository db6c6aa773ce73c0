"""Rows of users and of the catalogue as they were at points of the log, for the ranker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from offline.dataset.columns import Columns
from offline.dataset.log_tables import LogTables
from offline.dataset.point_in_time import point_in_time, selected_features
from offline.dataset.schema import changes_table
from offline.evaluation.protocol import array_of, coded, read_columns
from offline.evaluation.ragged import Rows as Integers
from services.common.domain import Domain
from services.feature.definitions import USER_ENTITY, ViewFeature
from services.ranker.in_process import Column, Rows

PROBES_AT_ONCE = 200_000
"""Rows of the catalogue that are computed at once: bounds memory."""

Moment = tuple[int, int]


@dataclass(frozen=True)
class Presence:
    """Who was in the catalogue when: whom some event described, unless withdrawn.

    Changes by (time_ms, arrival): ``rows`` are places in ``ids``, ``withdrawn`` bool what was said
    of it where ``stated``; events of rooms say nothing.
    """

    ids: Sequence[str]
    rows: Integers
    time_ms: Integers
    arrival: Integers
    withdrawn: NDArray[np.bool_]
    stated: NDArray[np.bool_]

    @classmethod
    def of(cls, columns: Columns, entity: str) -> Presence:
        """Of one entity type."""
        names = ["id", "time_ms", "arrival", "withdrawn"]
        changes = read_columns(columns, changes_table(entity), names)
        changes = changes.sort_by([("time_ms", "ascending"), ("arrival", "ascending")])
        ids, rows = coded(changes["id"])
        return cls(
            ids,
            rows,
            array_of(changes["time_ms"]),
            array_of(changes["arrival"]),
            array_of(pc.fill_null(changes["withdrawn"], False)),
            array_of(pc.is_valid(changes["withdrawn"])),
        )

    def at(self, moment: Moment) -> list[str]:
        """Ids in the catalogue at a point, ascending."""
        time_ms, arrival = moment
        known = (self.time_ms <= time_ms) & (self.arrival < arrival)
        there = np.zeros(len(self.ids), np.bool_)
        there[self.rows[known]] = True
        known &= self.stated
        # Assignment by a repeated index keeps the last one, which is the latest statement.
        there[self.rows[known]] = ~self.withdrawn[known]
        return [self.ids[row] for row in np.flatnonzero(there).tolist()]


class KnownRows:
    """Reads them of a compacted log that is open in an engine."""

    def __init__(self, domain: Domain, columns: Columns, tables: LogTables) -> None:
        self._domain = domain
        self._columns = columns
        self._tables = tables

    def users(self, ids: Sequence[str], time_ms: Integers, arrival: Integers) -> Rows:
        """A row a user, each at its own point."""
        return self._rows(USER_ENTITY, ids, time_ms, arrival)

    def catalogues(
        self, entities: Sequence[str], moments: Sequence[Moment]
    ) -> Iterator[Mapping[str, Rows]]:
        """The catalogue of every moment in turn, by entity type."""
        presence = {entity: Presence.of(self._columns, entity) for entity in entities}
        waiting: list[dict[str, list[str]]] = []
        begin = rows = 0
        for at, moment in enumerate(moments):
            waiting.append({entity: there.at(moment) for entity, there in presence.items()})
            rows += sum(map(len, waiting[-1].values()))
            if rows >= PROBES_AT_ONCE or at == len(moments) - 1:
                yield from self._together(waiting, moments[begin : at + 1])
                waiting, begin, rows = [], at + 1, 0

    def _together(
        self, held: Sequence[Mapping[str, list[str]]], moments: Sequence[Moment]
    ) -> Iterator[Mapping[str, Rows]]:
        found = {}
        for entity in held[0]:
            sizes = [len(ids[entity]) for ids in held]
            every = self._rows(
                entity,
                [id_ for ids in held for id_ in ids[entity]],
                np.repeat(np.array([time for time, _ in moments], np.int64), sizes),
                np.repeat(np.array([arrival for _, arrival in moments], np.int64), sizes),
            )
            found[entity] = (every, np.cumsum([0, *sizes]).tolist())
        for at in range(len(moments)):
            yield {
                entity: part(every, ends[at], ends[at + 1])
                for entity, (every, ends) in found.items()
            }

    def _rows(self, entity: str, ids: Sequence[str], time_ms: Integers, arrival: Integers) -> Rows:
        probes = pa.table(
            {
                "id": pa.array(ids, pa.string()),
                "time_ms": pa.array(time_ms, pa.int64()),
                "arrival": pa.array(arrival, pa.int64()),
            }
        )
        columns = selected_features(self._domain, entity)
        known = point_in_time(self._domain, self._tables, entity, probes, defaults=False)
        return Rows(ids, {column.name: _column(known[column.name], column) for column in columns})


def part(rows: Rows, first: int, last: int) -> Rows:
    """The rows from ``first`` up to ``last``."""
    columns = {
        name: Column(column.values[first:last], column.present[first:last])
        for name, column in rows.columns.items()
    }
    return Rows(rows.ids[first:last], columns)


def _column(found: pa.ChunkedArray, column: ViewFeature) -> Column:
    """What has no value carries its default, as the feature service answers it."""
    present = pc.is_valid(found).to_numpy()
    default: Any = column.default
    if column.dtype in ("float32", "int64"):
        values = pc.fill_null(found, default).to_numpy()
        return Column(values, present)
    texts = found.to_pylist()
    if column.dtype == "vector":
        filled = [default if value is None else value for value in texts]
        return Column(np.array(filled, np.float32).reshape(len(filled), column.dim), present)
    if column.dtype == "list":
        default = list(default)
        if column.kind != "attribute":
            # A history of nothing is known to be empty.
            present = np.ones(len(texts), np.bool_)
    return Column([default if value is None else value for value in texts], present)
