"""Rows that were computed before and still hold: windows stand still until something leaves them.

What was made of a row is kept with the bytes of the state it came from and the time until which
nothing in it changes but the seconds since something happened, which whoever keeps it writes anew
from the times that rows have. Thread-safe: a lost race costs a computation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.domain_features import Feature
from services.feature.definitions import inputs_of
from services.feature.rows.moving import StillWindows, expiry_ms
from services.feature.rows.rows import RowReader
from services.feature.states.key_state import KeyState

KEPT_ROWS = 20_000
_FOREVER_MS = 2**62

Made = TypeVar("Made")
"""What is made of a row."""


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Made]):
    data: bytes
    from_ms: int
    until_ms: int
    made: Made


class RowCache(Generic[Made]):
    """Keeps what was made of one reader's rows: at least the ``kept_rows`` read last, at most twice
    as many."""

    def __init__(self, reader: RowReader, *, kept_rows: int = KEPT_ROWS) -> None:
        self._kept_rows = kept_rows
        self._recent: dict[str, _Kept[Made]] = {}
        self._older: dict[str, _Kept[Made]] = {}
        definitions = {column.name: column.definition for column in reader.columns}
        self._windows = StillWindows(reader.plan.aggregates, definitions.values())
        self._usable = not any(_never_still(d, definitions) for d in definitions.values())
        self._view = reader.view

    def kept(self, identity: str, data: bytes, t_ms: int) -> Made | None:
        """What is kept of a state's row, if it holds at ``t_ms``."""
        kept = self._recent.get(identity) or self._older.get(identity)
        if kept is not None and kept.data == data and kept.from_ms <= t_ms < kept.until_ms:
            return kept.made
        return None

    def keep(self, identity: str, data: bytes, t_ms: int, state: KeyState, made: Made) -> None:
        """Keeps what was made of a row, computed as of ``t_ms`` from the visible ``state``."""
        if not self._usable:
            return
        recent = self._recent
        recent[identity] = _Kept(data, t_ms, self._until_ms(state, t_ms), made)
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


def _never_still(definition: Feature, definitions: Mapping[str, Feature]) -> bool:
    """Whether a value may change at any time, or with another state."""
    if definition.kind == "last_n":
        return definition.ttl is not None
    if definition.kind == "pairs":
        return definition.emit != "id"
    return any(definitions[name].kind == "recency" for name in inputs_of(definition))
