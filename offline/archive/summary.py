"""What a log or an archive holds, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

NO_EVENT = "(no event)"


@dataclass
class Summary:
    """Counts of the events seen; times are UTC, None before the first event that has one.

    ``unreadable``: sound records that are no event; they count under ``NO_EVENT``.
    """

    events: int = 0
    duplicates: int = 0
    too_late: int = 0
    unreadable: int = 0
    arrivals: tuple[int, int] | None = None
    arrival_times: tuple[datetime, datetime] | None = None
    event_times: tuple[datetime, datetime] | None = None
    by_type: Counter[str] = field(default_factory=Counter)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, table: pa.Table, keep: int = 0) -> None:
        """Counts a table of ``FLAT_NAMES``; the first ``keep`` events of all stay in ``rows``."""
        if table.num_rows == 0:
            return
        self.events += table.num_rows
        self.duplicates += pc.sum(table["duplicate"]).as_py()
        self.too_late += pc.sum(table["too_late"]).as_py()
        self.unreadable += table["type"].null_count
        for found in pc.value_counts(table["type"]).to_pylist():
            self.by_type[found["values"] or NO_EVENT] += found["counts"]
        self.arrivals = _wider(self.arrivals, table["arrival"])
        self.arrival_times = _wider(self.arrival_times, table["arrival_time"])
        self.event_times = _wider(self.event_times, table["event_time"])
        self.rows += table.slice(0, max(0, keep - len(self.rows))).to_pylist()


def _wider(span: tuple[Any, Any] | None, column: pa.ChunkedArray) -> tuple[Any, Any] | None:
    found = pc.min_max(column).as_py()
    low, high = found["min"], found["max"]
    if low is None:
        return span
    return (low, high) if span is None else (min(span[0], low), max(span[1], high))
