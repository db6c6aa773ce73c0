"""The steps that a watcher is sent: a snapshot or what it missed, then changes, or a heartbeat.

A step is encoded once for all watchers of the same views that need it. A watcher keeps the version
it has seen and nothing else: one that is slow misses what was overtaken meanwhile, and gets each
row as it is when its turn comes.

Where many rows have changed, urgent changes are told first, in a step of their own, which does not
move the version on: they come once more with the others. While watchers are late, what only moves
is gathered for longer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from services.common.courtesy import Courtesy
from services.common.turns import Turns
from services.feature.definitions import FeatureView, Key
from services.feature.rows.rows import Row
from services.feature.watch.changes import Changes
from services.feature.watch.feed import CatalogueFeed, Waited
from services.feature.watch.hub import MOVING_INTERVAL_S, EntityHub, views_digest

HEARTBEAT_S: Final = 1.0
CHUNK_BYTES: Final = 900 << 10
"""Estimated size of a step's rows; under the 1 MiB of the contract with room for the rest."""

STEP_ROWS: Final = 4_000
GONE_BYTES: Final = 224
"""Most that an entity that is gone adds to a step."""

ROWS_ON_THE_LOOP: Final = 256
"""More rows are encoded in a thread: they would hold the event loop up."""

SNAPSHOT_S: Final = 5.0
"""For so long a snapshot is given to all that come; changes since follow it."""

ALONE_ROWS: Final = 64
"""Where more rows than that have changed, the urgent ones are told before them."""

MOST_INTERVAL_S: Final = 3.5
"""What only moves is gathered for this long at most; ``MOVING_INTERVAL_S`` is the least."""

_KEPT_STEPS: Final = 32

_StepKey = tuple[bytes, int, int | None, int]
"""Views, version before, which urgent changes were told before (None for all changes), version."""

Rows = Sequence[tuple[str, Row]]
"""(id, row) of one entity type."""


class StepEncoder(Protocol):
    """Encodes steps. ``as_of_ms`` 0 means that it is not known."""

    def row_bytes(self, identity: str, row: Row) -> int:
        """Upper estimate of what a row adds to a step."""
        ...

    def reset(self, as_of_ms: int) -> bytes:
        """Forget everything; a snapshot follows."""
        ...

    def chunk(self, view: FeatureView, rows: Rows, as_of_ms: int) -> bytes:
        """Part of a snapshot."""
        ...

    def end(self, rows: int, token: bytes, as_of_ms: int) -> bytes:
        """The snapshot is complete."""
        ...

    def delta(
        self,
        upserts: Sequence[tuple[FeatureView, Rows]],
        gone: Sequence[Key],
        token: bytes,
        as_of_ms: int,
    ) -> bytes:
        """Changes."""
        ...

    def heartbeat(self, token: bytes, as_of_ms: int) -> bytes:
        """Nothing changed."""
        ...


class WatchObserver(Protocol):
    """Is told how long changes took to a watcher's step, from their acknowledgement."""

    def told(self, waited: Waited, now_s: float) -> None:
        """Changes that waited since those times (monotonic) are handed to a watcher."""
        ...


class _Watched:
    """Views that are watched together, by entity type."""

    def __init__(self, views: Sequence[FeatureView]) -> None:
        self.views = {view.entity: view for view in views}
        self.entities = tuple(self.views)
        self.digest = views_digest(views)


@dataclass(frozen=True, slots=True)
class _Step:
    """Encoded changes, None for none of these views; with them a watcher has seen ``reached``."""

    data: bytes | None
    reached: int
    waited: Waited
    alone: bool = False
    """Urgent changes only: of others nothing up to ``reached`` is in it."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Encoded steps of a snapshot of the rows at ``version``."""

    steps: Sequence[bytes]
    version: int


class WatchStreams:
    """Streams of steps over one feed. ``start`` before the first, ``close`` after the last."""

    def __init__(
        self,
        feed: CatalogueFeed,
        encoder: StepEncoder,
        observer: WatchObserver,
        courtesy: Courtesy | None = None,
        *,
        alone_rows: int = ALONE_ROWS,
    ) -> None:
        """``courtesy`` knows the calls that must not wait for steps to thousands."""
        self._alone_rows = alone_rows
        self._feed = feed
        self._hub: EntityHub = feed.hub
        self._encoder = encoder
        self._observer = observer
        self._turns = Turns(courtesy)
        self._steps: OrderedDict[_StepKey, asyncio.Task[_Step] | _Step] = OrderedDict()
        self._snapshots: dict[bytes, asyncio.Task[_Snapshot]] = {}
        self._closed = False

    def start(self) -> None:
        """Starts handing out turns."""
        self._feed.installed = self._installed
        self._turns.start()

    async def close(self) -> None:
        """Ends the streams."""
        self._closed = True
        await self._turns.close()

    async def stream(
        self, views: Sequence[FeatureView], resume_token: bytes
    ) -> AsyncGenerator[bytes, None]:
        """Encoded steps, until ``close``. ``views`` are of entity types that can be watched."""
        watched = _Watched(views)
        hub = self._hub
        version = hub.resume(views, resume_token)
        told = version or 0
        sent_s = time.monotonic()
        while True:
            if version is None or hub.forgotten(version):
                making = self._snapshot(watched)
                while not (await asyncio.wait({making}, timeout=HEARTBEAT_S))[0]:
                    yield self._encoder.heartbeat(b"", 0)
                snapshot = making.result()
                for data in snapshot.steps:
                    await self._turns.soon()
                    yield data
                version = told = snapshot.version
                sent_s = time.monotonic()
            if hub.version == version:
                await self._turns.changed(sent_s + HEARTBEAT_S)
            else:
                await self._turns.soon()
            if self._closed:
                return
            if hub.version > version and not hub.forgotten(version):
                step = self._urgent_step(watched, version, told)
                if step is None:
                    step = await self._step(watched, version, told)
                waited = step.waited
                if told > version and not step.alone:
                    # The urgent changes among these did not wait for this step.
                    waited = waited._replace(urgent_s=None)
                told = max(told, step.reached)
                version = version if step.alone else step.reached
                if step.data is not None:
                    sent_s = time.monotonic()
                    self._observer.told(waited, sent_s)
                    yield step.data
            if time.monotonic() - sent_s >= HEARTBEAT_S:
                sent_s = time.monotonic()
                as_of_ms = self._feed.as_of_ms if hub.version == version else 0
                yield self._encoder.heartbeat(hub.token(views, version), as_of_ms)

    def _installed(self, urgent: bool) -> None:
        late_s = 2 * self._turns.behind_s
        self._hub.moving_interval_s = min(max(MOVING_INTERVAL_S, late_s), MOST_INTERVAL_S)
        self._turns.change(urgent=urgent)

    def _urgent_step(self, watched: _Watched, since: int, told: int) -> _Step | None:
        """The urgent changes after ``told`` for a watcher that has seen version ``since``; None
        where they need no step of their own."""
        urgent = self._feed.urgent
        if urgent.version <= told or self._hub.pending(since) <= self._alone_rows:
            return None
        key = (watched.digest, since, told, urgent.version)
        known = self._steps.get(key)
        if isinstance(known, _Step):
            return known
        keys = urgent.since(told)
        if keys is None or len(keys) > ROWS_ON_THE_LOOP:
            return None
        rows = self._hub.current([key for key in keys if key[0] in watched.views])
        step = self._encode(watched, told, Changes(rows, urgent.version), 0, seen=since)
        if step.reached < urgent.version:
            return None
        self._keep(key, step)
        return step

    async def _step(self, watched: _Watched, since: int, told: int) -> _Step:
        """What follows version ``since``, made once for all that ask for it.

        One of many rows serves until more has moved: what came since is little, and follows it. It
        has older rows than those who were told of an urgent change since may get.
        """
        made = self._hub.version
        moved = self._feed.urgent.moved_version
        if moved > since and told <= moved and self._hub.pending(since) > self._alone_rows:
            made = moved
        key = (watched.digest, since, None, made)
        known = self._steps.get(key)
        if known is None:
            known = self._make_step(watched, since)
            self._keep(key, known)
        return known if isinstance(known, _Step) else await asyncio.shield(known)

    def _keep(self, key: _StepKey, step: asyncio.Task[_Step] | _Step) -> None:
        self._steps[key] = step
        while len(self._steps) > _KEPT_STEPS:
            self._steps.popitem(last=False)

    def _make_step(self, watched: _Watched, since: int) -> asyncio.Task[_Step] | _Step:
        changes = self._hub.changes(watched.entities, since, STEP_ROWS)
        as_of_ms = self._feed.as_of_ms if changes.reached == self._hub.version else 0
        if len(changes.rows) <= ROWS_ON_THE_LOOP:
            return self._encode(watched, since, changes, as_of_ms)
        return asyncio.create_task(
            asyncio.to_thread(self._encode, watched, since, changes, as_of_ms)
        )

    def _encode(
        self,
        watched: _Watched,
        since: int,
        changes: Changes,
        as_of_ms: int,
        *,
        seen: int | None = None,
    ) -> _Step:
        """One step of as many of the changes as fit. ``seen``: the version that watchers have seen
        who get urgent changes alone."""
        reached = changes.reached
        upserts: dict[str, list[tuple[str, Row]]] = {}
        gone: list[Key] = []
        size = 0
        before = since
        for changed in changes.rows:
            entity, identity = changed.key
            row = changed.row
            needed = GONE_BYTES if row is None else self._encoder.row_bytes(identity, row)
            if size + needed > CHUNK_BYTES and size:
                reached, as_of_ms = before, 0
                break
            if row is None:
                gone.append(changed.key)
            else:
                upserts.setdefault(entity, []).append((identity, row))
            size, before = size + needed, changed.version
        alone = seen is not None
        waited = self._feed.waited(since, reached)
        if alone:
            waited = waited._replace(moving_s=None)
        if not upserts and not gone:
            return _Step(None, reached, waited, alone)
        token = self._hub.token(tuple(watched.views.values()), reached if seen is None else seen)
        rows = [(watched.views[entity], found) for entity, found in upserts.items()]
        return _Step(self._encoder.delta(rows, gone, token, as_of_ms), reached, waited, alone)

    def _snapshot(self, watched: _Watched) -> asyncio.Task[_Snapshot]:
        """A snapshot that is at most a few seconds old, or is being made."""
        making = self._snapshots.get(watched.digest)
        if making is not None and making.done():
            failed = making.cancelled() or making.exception() is not None
            if failed or self._hub.forgotten(making.result().version):
                making = None
        if making is None:
            # Copied here: rows change on this thread only.
            rows = self._hub.snapshot(watched.entities)
            version, as_of_ms = self._hub.version, self._feed.as_of_ms
            making = self._snapshots[watched.digest] = asyncio.create_task(
                asyncio.to_thread(self._encode_snapshot, watched, rows, version, as_of_ms)
            )
            asyncio.get_running_loop().call_later(
                SNAPSHOT_S, self._drop_snapshot, watched.digest, making
            )
        return making

    def _drop_snapshot(self, digest: bytes, made: asyncio.Task[_Snapshot]) -> None:
        if self._snapshots.get(digest) is made:
            del self._snapshots[digest]

    def _encode_snapshot(
        self, watched: _Watched, rows: Sequence[tuple[Key, Row]], version: int, as_of_ms: int
    ) -> _Snapshot:
        encoder = self._encoder
        by_entity: dict[str, list[tuple[str, Row]]] = {entity: [] for entity in watched.views}
        for (entity, identity), row in rows:
            by_entity[entity].append((identity, row))
        steps = [encoder.reset(as_of_ms)]
        for entity, view in watched.views.items():
            steps += [
                encoder.chunk(view, chunk, as_of_ms) for chunk in self._chunks(by_entity[entity])
            ]
        token = self._hub.token(tuple(watched.views.values()), version)
        steps.append(encoder.end(len(rows), token, as_of_ms))
        return _Snapshot(steps, version)

    def _chunks(self, rows: Rows) -> Iterator[Rows]:
        start = size = 0
        for index, (identity, row) in enumerate(rows):
            needed = self._encoder.row_bytes(identity, row)
            if size + needed > CHUNK_BYTES and index > start:
                yield rows[start:index]
                start, size = index, 0
            size += needed
        if start < len(rows):
            yield rows[start:]
