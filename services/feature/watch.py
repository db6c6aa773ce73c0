"""What watchers of the catalogue see: current rows of every entity, and which changed since when.

``refresh`` reads the store and finds what changed; it is slow and runs off the event loop.
``install`` takes its result in and is quick; rows are only changed there. Each changed row gets
the next version; a watcher needs to keep the last version it saw and no more.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from services.feature.definitions import FeatureView
from services.feature.rows import Row, RowReader, decoded
from services.feature.store.protocol import FeatureStore, StoreView

MOVING_INTERVAL_S: Final = 1.0
"""An entity is looked at this often at most for events that only move its windows."""

SWEEP_S: Final = 30.0
"""Every entity with a moving feature is looked at this often, since windows decay unprompted."""

MAX_CHANGES: Final = 20_000

_EPOCH_BYTES = 8
_TOKEN = struct.Struct("<8s16sQ")
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Update:
    """A row that changed; ``row`` is None when the entity is not to be shown any more."""

    entity: str
    identity: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a look at the store found: everything logged up to ``position`` is in it."""

    updates: list[Update]
    position: int
    read_at_ms: int


class EntityHub:
    """Rows of every catalogue entity type in ``readers``."""

    def __init__(
        self,
        store: FeatureStore,
        readers: Mapping[str, RowReader],
        clock_ms: Callable[[], int],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._readers = dict(readers)
        self._clock_ms = clock_ms
        self._monotonic_s = monotonic_s
        self._epoch = secrets.token_bytes(_EPOCH_BYTES)
        # The latest change last: dictionaries keep the order of insertion.
        self._rows: dict[str, dict[str, tuple[int, Row | None]]] = {e: {} for e in self._readers}
        self._version = 0
        # Owned by refresh:
        self._next_change = 0
        self._looked_at_s: dict[_Key, float] = {}
        self._due: list[tuple[float, _Key]] = []
        self._moving: dict[_Key, None] = {}
        self._sweep: Iterator[_Key] = iter(())
        self._swept_s = 0.0

    @property
    def version(self) -> int:
        """Version of the latest change."""
        return self._version

    @property
    def entities(self) -> Sequence[str]:
        """Entity types that can be watched."""
        return tuple(self._readers)

    def load(self) -> Refresh:
        """Reads the whole catalogue; to be installed before the first ``refresh``."""
        now_ms, now_s = self._clock_ms(), self._monotonic_s()
        self._swept_s = now_s
        with self._store.read() as view:
            self._next_change = view.next_change()
            updates = [
                update
                for entity, reader in self._readers.items()
                for identity, data in view.states(entity)
                if (update := self._look((entity, identity), reader, data, now_ms, now_s))
                is not None
            ]
            return Refresh(updates, view.position(), now_ms)

    def refresh(self) -> Refresh:
        """Looks at what the store's changes, elapsed intervals and the sweep call for."""
        now_ms, now_s = self._clock_ms(), self._monotonic_s()
        with self._store.read() as view:
            wanted = self._wanted(view, now_s)
            updates = []
            for key in wanted:
                reader = self._readers[key[0]]
                update = self._look(key, reader, view.state(*key), now_ms, now_s)
                if update is not None:
                    updates.append(update)
            return Refresh(updates, view.position(), now_ms)

    def install(self, refresh: Refresh) -> bool:
        """Takes updates in; True when there were any."""
        for update in refresh.updates:
            self._version += 1
            rows = self._rows[update.entity]
            rows.pop(update.identity, None)
            rows[update.identity] = (self._version, update.row)
        return bool(refresh.updates)

    def snapshot(self, entity: str) -> list[tuple[str, Row]]:
        """(id, row) of every entity of a type that is shown."""
        return [(i, row) for i, (_, row) in self._rows[entity].items() if row is not None]

    def changes(self, entity: str, since: int) -> list[tuple[str, Row | None]]:
        """(id, row) of what changed after version ``since``, oldest first; None for one gone."""
        found: list[tuple[str, Row | None]] = []
        for identity, (version, row) in reversed(self._rows[entity].items()):
            if version <= since:
                break
            found.append((identity, row))
        found.reverse()
        return found

    def token(self, views: Sequence[FeatureView], version: int) -> bytes:
        """Resume token of a watcher of ``views`` that has seen ``version``."""
        return _TOKEN.pack(self._epoch, _digest(views), version)

    def resume(self, views: Sequence[FeatureView], token: bytes) -> int | None:
        """Version behind a token; None when it is not one of this hub's for these views."""
        if len(token) != _TOKEN.size:
            return None
        epoch, digest, version = _TOKEN.unpack(token)
        if epoch != self._epoch or digest != _digest(views) or version > self._version:
            return None
        return int(version)

    def _wanted(self, view: StoreView, now_s: float) -> dict[_Key, None]:
        """Entities to look at now."""
        wanted: dict[_Key, None] = {}
        changes = view.changes(self._next_change, MAX_CHANGES)
        if changes and changes[0].sequence > self._next_change:
            # The store dropped changes before they were seen: any row may be stale.
            wanted |= dict.fromkeys((e, i) for e in self._readers for i, _ in view.states(e))
        for change in changes:
            self._next_change = change.sequence + 1
            key = (change.entity, change.identity)
            if change.entity not in self._readers:
                continue
            looked_at_s = self._looked_at_s.get(key)
            if change.described or looked_at_s is None:
                wanted[key] = None
            elif self._readers[change.entity].moves:
                heapq.heappush(self._due, (looked_at_s + MOVING_INTERVAL_S, key))
        while self._due and self._due[0][0] <= now_s:
            due_s, key = heapq.heappop(self._due)
            # Several events within the interval are answered by one look.
            if self._looked_at_s.get(key, 0.0) < due_s:
                wanted[key] = None
        wanted |= dict.fromkeys(self._next_swept(now_s))
        return wanted

    def _next_swept(self, now_s: float) -> list[_Key]:
        """The sweep's share of the time since the last one."""
        share = (now_s - self._swept_s) / SWEEP_S
        count = min(len(self._moving), int(len(self._moving) * share) + 1)
        self._swept_s = now_s
        keys = list(islice(self._sweep, count))
        if len(keys) < count:
            self._sweep = iter(list(self._moving))
            keys += islice(self._sweep, count - len(keys))
        return keys

    def _look(
        self, key: _Key, reader: RowReader, data: bytes | None, now_ms: int, now_s: float
    ) -> Update | None:
        """The update an entity's state gives, if its row changed."""
        state = decoded(data)
        if state is None:
            return None
        self._looked_at_s[key] = now_s
        if state.pending:
            visible_ms = min(visible_ms for visible_ms, _ in state.pending)
            heapq.heappush(self._due, (now_s + max(1, visible_ms - now_ms) / 1000, key))
        visible = reader.visible(state, now_ms)
        row = reader.row(visible, now_ms) if visible.in_catalogue else None
        if row is not None and state.moves:
            self._moving[key] = None
        else:
            self._moving.pop(key, None)
        entity, identity = key
        _, before = self._rows[entity].get(identity, (0, None))
        return Update(entity, identity, row) if row != before else None


def _digest(views: Sequence[FeatureView]) -> bytes:
    hashes = sorted(view.hash for view in views)
    return hashlib.blake2b("".join(hashes).encode(), digest_size=16).digest()
