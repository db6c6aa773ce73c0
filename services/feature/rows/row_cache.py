"""Rows that were computed before and still hold: windows stand still until something leaves them.

A row is kept with the bytes of the state it came from and the time until which nothing in it
changes but the age of recencies, which are written anew. What is kept never differs from what
would be computed. Thread-safe: a lost race costs a computation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.common.domain_features import Feature
from services.feature.definitions import inputs_of
from services.feature.rows.moving import StillWindows, expiry_ms
from services.feature.rows.rows import PRESENT, Row, RowReader
from services.feature.states.key_state import KeyState

KEPT_ROWS = 20_000
_FOREVER_MS = 2**62


@dataclass(frozen=True, slots=True)
class _Kept:
    data: bytes
    from_ms: int
    until_ms: int
    row: Row


class RowCache:
    """Keeps the rows of one reader: at least the ``kept_rows`` read last, at most twice as many."""

    def __init__(self, reader: RowReader, *, kept_rows: int = KEPT_ROWS) -> None:
        self._kept_rows = kept_rows
        self._recent: dict[str, _Kept] = {}
        self._older: dict[str, _Kept] = {}
        definitions = {column.name: column.definition for column in reader.columns}
        self._ages = [n for n, c in enumerate(reader.columns) if c.kind == "recency"]
        self._windows = StillWindows(reader.plan.aggregates, definitions.values())
        self._usable = not any(_never_still(d, definitions) for d in definitions.values())
        self._view = reader.view

    def row(
        self,
        identity: str,
        data: bytes,
        t_ms: int,
        compute: Callable[[], tuple[KeyState, Row]],
    ) -> Row:
        """The row of a state as of ``t_ms``. ``compute`` gives the visible state and its row with
        times, if none is kept."""
        found = self.kept(identity, data, t_ms)
        if found is not None:
            return found
        state, row = compute()
        self.keep(identity, data, t_ms, state, row)
        return row

    def kept(self, identity: str, data: bytes, t_ms: int) -> Row | None:
        """The row that is kept of a state, if it holds at ``t_ms``."""
        kept = self._recent.get(identity) or self._older.get(identity)
        if kept is not None and kept.data == data and kept.from_ms <= t_ms < kept.until_ms:
            return self._aged(kept.row, t_ms)
        return None

    def keep(self, identity: str, data: bytes, t_ms: int, state: KeyState, row: Row) -> None:
        """Keeps a row with times, computed as of ``t_ms`` from the visible ``state``."""
        if not self._usable:
            return
        recent = self._recent
        recent[identity] = _Kept(data, t_ms, self._until_ms(state, t_ms), row)
        if len(recent) >= self._kept_rows:
            self._recent, self._older = {}, recent

    def _until_ms(self, state: KeyState, t_ms: int) -> int:
        """The first time at which something else may be read of the state."""
        ends = []
        still_ms = self._windows.until_ms(state, t_ms)
        if still_ms is not None:
            ends.append(still_ms)
        if state.pending:
            ends.append(state.pending[0][0])
        expiry = expiry_ms(self._view, state, t_ms)
        if expiry is not None:
            ends.append(expiry)
        return min(ends, default=_FOREVER_MS)

    def _aged(self, row: Row, t_ms: int) -> Row:
        if not self._ages:
            return row
        values = list(row.values)
        for column in self._ages:
            if row.statuses[column] == PRESENT:
                values[column] = (t_ms - row.times_ms[column]) / 1000
        return row._replace(values=tuple(values))


def _never_still(definition: Feature, definitions: Mapping[str, Feature]) -> bool:
    """Whether a value may change at any time, or with another state."""
    if definition.kind == "last_n":
        return definition.ttl is not None
    if definition.kind == "pairs":
        return definition.emit != "id"
    return any(definitions[name].kind == "recency" for name in inputs_of(definition))
