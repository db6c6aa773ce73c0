"""What watchers of the catalogue see: current rows of every entity, and which changed since when.

``refresh`` reads the store and finds what changed; it is slow and runs off the event loop.
``install`` takes its result in and is quick; rows are only changed there. Each changed row gets
the next version; a watcher needs to keep the last version it saw and no more.

What may no longer be shown as it was is told at once: events that describe an entity, and values
that expire. What only moves (windows, viewers) is gathered and told together, every
``MOVING_INTERVAL_S``.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from services.feature.definitions import FeatureView, Key
from services.feature.rows.moving import expiry_ms, next_hop_ms
from services.feature.rows.row_cache import RowCache
from services.feature.rows.rows import Row, RowReader, decoded
from services.feature.store.protocol import FeatureStore, StoreView
from services.feature.watch.acknowledged import Acknowledgements
from services.feature.watch.changes import Changed, Changes, Refresh, Update

MOVING_INTERVAL_S: Final = 2.0
"""What only moves is gathered for this long at least, so that a value told is younger than 5 s."""

MAX_CHANGES: Final = 20_000
"""Changes of the store read in one refresh."""

LOOKS_A_REFRESH: Final = 500
"""Moving entities looked at in one refresh: what is urgent does not wait for more."""

KEPT_TOMBSTONES: Final = 50_000
"""Entities that are gone are told to watchers that missed fewer later ones; others start anew."""

_KEPT_ROWS: Final = 500_000
_LOOKS_A_TURN: Final = 16
_COURTESY_S: Final = 0.0002
_EPOCH_BYTES = 8
_TOKEN = struct.Struct("<8s16sQ")


@dataclass(slots=True)
class _Gathered:
    """Entities to look at: those from before ``floor_ms`` were; the first since ``since_s``."""

    keys: dict[Key, None] = field(default_factory=dict)
    floor_ms: int = 0
    since_s: float = 0.0


class EntityHub:
    """Rows of every catalogue entity type in ``readers``."""

    def __init__(
        self,
        store: FeatureStore,
        readers: Mapping[str, RowReader],
        clock_ms: Callable[[], int],
        monotonic_s: Callable[[], float] = time.monotonic,
        *,
        acknowledgements: Acknowledgements | None = None,
        kept_tombstones: int = KEPT_TOMBSTONES,
    ) -> None:
        self._store = store
        self._readers = dict(readers)
        self._caches: dict[str, RowCache[Row]] = {
            e: RowCache(r, kept_rows=_KEPT_ROWS) for e, r in self._readers.items()
        }
        self._clock_ms = clock_ms
        self._monotonic_s = monotonic_s
        self._acknowledgements = acknowledgements or Acknowledgements()
        self._kept_tombstones = kept_tombstones
        self._epoch = secrets.token_bytes(_EPOCH_BYTES)
        self._rows: dict[Key, tuple[int, Row | None]] = {}
        # Every change in order; those of a row but the last are stale, and dropped now and then.
        self._versions: list[int] = []
        self._changed: list[Key] = []
        self._version = 0
        self._tombstones = 0
        self._forgotten = 0
        # Owned by refresh:
        self._next_change = 0
        self._covered_ms = 0
        self._due: list[tuple[int, Key]] = []
        self._due_ms: dict[Key, int] = {}
        self._moving: dict[str, dict[str, None]] = {e: {} for e in self._readers}
        self._hop_ms: dict[str, int | None] = {}
        self._gathered = _Gathered()
        self._looking = _Gathered()
        self._found: dict[Key, Update] = {}
        self._told_s = 0.0
        self.moving_interval_s = MOVING_INTERVAL_S
        """For how long what only moves is gathered."""

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
        self._told_s = now_s
        for entity, reader in self._readers.items():
            self._hop_ms[entity] = next_hop_ms(reader.view, now_ms)
        with self._store.read() as view:
            self._next_change = view.next_change()
            updates = [
                update
                for entity, reader in self._readers.items()
                for identity, data in view.states(entity)
                if (update := self._look((entity, identity), reader, data, now_ms)) is not None
            ]
            position = view.position()
        _, self._covered_ms = self._acknowledgements.applied(position, now_ms)
        return Refresh(updates, position, self._covered_ms)

    def refresh(self) -> Refresh:
        """Looks at what the store's changes and the time call for."""
        now_ms, now_s = self._clock_ms(), self._monotonic_s()
        with self._store.read() as view:
            position = view.position()
            acknowledged_s, covered_ms = self._acknowledgements.applied(position, now_ms)
            at_s = now_s if acknowledged_s is None else acknowledged_s
            urgent, more = self._wanted(view, now_ms, at_s)
            for key in urgent:
                # What was found before is older than what is found now.
                self._found.pop(key, None)
                self._gathered.keys.pop(key, None)
                self._looking.keys.pop(key, None)
            updates = self._looks(view, urgent, now_ms)
            urgent_s = at_s if updates else None
            moved, moving_s = self._look_at_moving(view, now_ms, now_s)
        updates += moved
        self._covered_ms = covered_ms
        as_of_ms = covered_ms
        for gathered in (self._gathered, self._looking):
            if gathered.keys or (gathered is self._looking and self._found):
                as_of_ms = min(as_of_ms, gathered.floor_ms)
        return Refresh(
            updates,
            position,
            as_of_ms,
            urgent_s,
            moving_s if moved else None,
            more or bool(self._looking.keys),
            self._due_s(now_ms, now_s),
            len(moved),
        )

    def install(self, refresh: Refresh) -> bool:
        """Takes updates in; True when there were any."""
        for update in refresh.updates:
            key = (update.entity, update.identity)
            self._version += 1
            _, before = self._rows.get(key, (0, None))
            gone_before = key in self._rows and before is None
            self._tombstones += (update.row is None) - gone_before
            self._rows[key] = (self._version, update.row)
            self._versions.append(self._version)
            self._changed.append(key)
        stale = len(self._versions) - len(self._rows)
        if stale > len(self._rows) + 1_000 or self._tombstones > 2 * self._kept_tombstones:
            self._compact()
        return bool(refresh.updates)

    def snapshot(self, entities: Sequence[str]) -> list[tuple[Key, Row]]:
        """(key, row) of every entity of these types that is shown."""
        wanted = set(entities)
        return [
            (key, row)
            for key, (_, row) in self._rows.items()
            if row is not None and key[0] in wanted
        ]

    def changes(self, entities: Sequence[str], since: int, limit: int) -> Changes:
        """What changed of these types after version ``since``, at most ``limit`` rows of it: each
        row once, as it is now."""
        found: list[Changed] = []
        for place in range(bisect_right(self._versions, since), len(self._versions)):
            key, version = self._changed[place], self._versions[place]
            latest, row = self._rows.get(key, (0, None))
            if latest != version or key[0] not in entities:
                continue
            if len(found) == limit:
                return Changes(found, since)
            found.append(Changed(key, row, version))
            since = version
        return Changes(found, self._version)

    def pending(self, since: int) -> int:
        """How many changes there were after ``since``, of any type."""
        return len(self._versions) - bisect_right(self._versions, since)

    def current(self, keys: Iterable[Key]) -> list[Changed]:
        """The rows of ``keys`` as they are now."""
        found = [(key, self._rows[key]) for key in keys if key in self._rows]
        return [Changed(key, row, version) for key, (version, row) in found]

    def forgotten(self, version: int) -> bool:
        """Whether it is not known any more what changed since ``version``."""
        return version < self._forgotten

    def token(self, views: Sequence[FeatureView], version: int) -> bytes:
        """Resume token of a watcher of ``views`` that has seen ``version``."""
        return _TOKEN.pack(self._epoch, views_digest(views), version)

    def resume(self, views: Sequence[FeatureView], token: bytes) -> int | None:
        """Version behind a token; None when it is not one of this hub's for these views, or what
        changed since is not known any more."""
        if len(token) != _TOKEN.size:
            return None
        epoch, digest, version = _TOKEN.unpack(token)
        if epoch != self._epoch or digest != views_digest(views) or version > self._version:
            return None
        return None if self.forgotten(version) else int(version)

    def _compact(self) -> None:
        """Drops stale changes, and tombstones beyond those to keep."""
        current = [
            (version, key)
            for version, key in zip(self._versions, self._changed, strict=True)
            if self._rows.get(key, (0, None))[0] == version
        ]
        surplus = self._tombstones - self._kept_tombstones
        if surplus > 0:
            gone = (change for change in current if self._rows[change[1]][1] is None)
            for version, key in list(islice(gone, surplus)):
                del self._rows[key]
                self._forgotten = version
            self._tombstones -= surplus
            current = [change for change in current if change[1] in self._rows]
        self._versions = [version for version, _ in current]
        self._changed = [key for _, key in current]

    def _wanted(self, view: StoreView, now_ms: int, at_s: float) -> tuple[dict[Key, None], bool]:
        """Entities to look at now, and whether there are more changes. Gathers the others."""
        urgent: dict[Key, None] = {}
        changes = view.changes(self._next_change, MAX_CHANGES)
        if changes and changes[0].sequence > self._next_change:
            # The store dropped changes before they were seen: any row may be stale.
            urgent |= dict.fromkeys((e, i) for e in self._readers for i, _ in view.states(e))
        for change in changes:
            self._next_change = change.sequence + 1
            key = (change.entity, change.identity)
            if change.entity not in self._readers:
                continue
            if change.described:
                urgent[key] = None
            else:
                self._gather((key,), at_s)
        while self._due and self._due[0][0] <= now_ms:
            due_ms, key = heapq.heappop(self._due)
            if self._due_ms.get(key) == due_ms:
                del self._due_ms[key]
                urgent[key] = None
        for entity, hop_ms in self._hop_ms.items():
            if hop_ms is not None and hop_ms <= now_ms:
                self._hop_ms[entity] = next_hop_ms(self._readers[entity].view, now_ms)
                self._gather(((entity, i) for i in self._moving[entity]), at_s)
        return urgent, len(changes) == MAX_CHANGES

    def _gather(self, keys: Iterable[Key], at_s: float) -> None:
        gathered = self._gathered
        before = bool(gathered.keys)
        gathered.keys.update(dict.fromkeys(keys))
        if gathered.keys and not before:
            gathered.floor_ms, gathered.since_s = self._covered_ms, at_s

    def _looks(self, view: StoreView, keys: Iterable[Key], now_ms: int) -> list[Update]:
        updates: list[Update] = []
        waiting = list(keys)
        for start in range(0, len(waiting), _LOOKS_A_TURN):
            if start:
                # The event loop gets the interpreter soon, not when its patience is over.
                time.sleep(_COURTESY_S)
            part = waiting[start : start + _LOOKS_A_TURN]
            for key, data in zip(part, view.states_at(part), strict=True):
                update = self._look(key, self._readers[key[0]], data, now_ms)
                if update is not None:
                    updates.append(update)
        return updates

    def _look_at_moving(
        self, view: StoreView, now_ms: int, now_s: float
    ) -> tuple[list[Update], float]:
        """Looks at some of what was gathered; the updates once all of it is looked at."""
        looking = self._looking
        if not looking.keys and not self._found:
            if now_s < self._told_s + self.moving_interval_s or not self._gathered.keys:
                return [], now_s
            self._told_s = now_s
            looking = self._looking = self._gathered
            self._gathered = _Gathered()
        part = list(islice(looking.keys, LOOKS_A_REFRESH))
        for key in part:
            del looking.keys[key]
        for update in self._looks(view, part, now_ms):
            self._found[update.entity, update.identity] = update
        if looking.keys:
            return [], looking.since_s
        found, self._found = list(self._found.values()), {}
        return found, looking.since_s

    def _due_s(self, now_ms: int, now_s: float) -> float:
        """When something is to be looked at next, events aside (monotonic)."""
        due_s = float("inf")
        times = [hop_ms for e, hop_ms in self._hop_ms.items() if hop_ms and self._moving[e]]
        if self._due:
            times.append(self._due[0][0])
        if times:
            due_s = now_s + max(0, min(times) - now_ms) / 1000
        return min(due_s, self._told_s + self.moving_interval_s) if self._gathered.keys else due_s

    def _look_next(self, key: Key, times_ms: Sequence[int]) -> None:
        """Has an entity looked at when the first of these comes, whatever was due before."""
        if not times_ms:
            self._due_ms.pop(key, None)
            return
        due_ms = min(times_ms)
        if self._due_ms.get(key) != due_ms:
            self._due_ms[key] = due_ms
            heapq.heappush(self._due, (due_ms, key))
        if len(self._due) > 2 * len(self._due_ms) + 1_000:
            # Most are of times that an entity is not waited for any more.
            self._due = [(due_ms, key) for key, due_ms in self._due_ms.items()]
            heapq.heapify(self._due)

    def _look(self, key: Key, reader: RowReader, data: bytes | None, now_ms: int) -> Update | None:
        """The update an entity's state gives, if its row changed."""
        entity, identity = key
        cache = self._caches[entity]
        if data is not None and (kept := cache.kept(identity, data, now_ms)) is not None:
            # Nothing but ages has changed since it was looked at, and what is due is known.
            return self._update(key, reader.aged(kept, now_ms))
        state = decoded(data)
        if state is None or data is None:
            return None
        visible = reader.visible(state, now_ms)
        row = None
        if visible.in_catalogue:
            row = reader.row(visible, now_ms, times=True)
            cache.keep(identity, data, now_ms, visible, row)
            row = row._replace(times_ms=())
        changes_ms = [visible.pending[0][0]] if visible.pending else []
        if row is not None:
            expires_ms = expiry_ms(reader.view, visible, now_ms)
            changes_ms += [expires_ms] if expires_ms is not None else []
        self._look_next(key, changes_ms)
        if row is not None and visible.moves:
            self._moving[entity][identity] = None
        else:
            self._moving[entity].pop(identity, None)
        return self._update(key, row)

    def _update(self, key: Key, row: Row | None) -> Update | None:
        _, before = self._rows.get(key, (0, None))
        return Update(*key, row) if row != before else None


def views_digest(views: Sequence[FeatureView]) -> bytes:
    """16 bytes that tell sets of views apart."""
    hashes = sorted(view.hash for view in views)
    return hashlib.blake2b("".join(hashes).encode(), digest_size=16).digest()
