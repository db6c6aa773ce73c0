"""Answers lookups: which view a request names, and its rows from one moment of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from services.common.errors import NotFound, UnknownFeatureView
from services.feature.definitions import USER_ENTITY, Key
from services.feature.rows.packed import PackedRow, RowBlock, RowPacker
from services.feature.rows.row_cache import RowCache
from services.feature.rows.rows import ReadState, RowReader, decoded
from services.feature.states.codec import decode_state
from services.feature.states.key_state import KeyState
from services.feature.states.sticky import MARK, kept_variants
from services.feature.store.protocol import FeatureStore

MOMENTS: Final = 8
"""How often rows are read until they list no pairs but those that were read with them."""

_TOLD_VIEWS: Final = 8


class Lookup(NamedTuple):
    """Rows in the order asked for with their times, as of ``t_ms``, from the log up to
    ``position``."""

    rows: RowBlock
    t_ms: int
    position: int


class ServedView(NamedTuple):
    """A view that is served, with the rows it served lately."""

    reader: RowReader
    packer: RowPacker
    cache: RowCache[PackedRow]
    missing: PackedRow


class FeatureLookup:
    """Reads rows of the views served here, side by side. Thread-safe."""

    def __init__(self, store: FeatureStore, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._served: Mapping[str, Mapping[str, ServedView]] = {}

    def serve(self, readers: Sequence[RowReader]) -> None:
        """Serves these views, in place of those before; what is cached of both stays."""
        served: dict[str, dict[str, ServedView]] = {}
        for reader in readers:
            view = reader.view
            before = self._served.get(view.entity, {}).get(view.hash)
            served.setdefault(view.entity, {})[view.hash] = (
                _served_view(reader) if before is None else before
            )
        self._served = served

    def readers(self) -> list[RowReader]:
        """Readers of all views that are served."""
        return [one.reader for served in self._served.values() for one in served.values()]

    def view(self, entity: str, name: str, view_hash: str) -> ServedView:
        """The view a request names. Raises ``NotFound`` for the entity type,
        ``UnknownFeatureView`` for a name or hash that is not served here."""
        served = self._served.get(entity)
        if not served:
            raise NotFound(f"entity type {entity!r} has no features", reason="UNKNOWN_ENTITY_TYPE")
        found = served.get(view_hash)
        if found is None or found.reader.view.name != name:
            views = [one.reader.view for one in served.values()][-_TOLD_VIEWS:]
            known = ", ".join(f"{view.name!r} with hash {view.hash!r}" for view in views)
            raise UnknownFeatureView(
                f"view {name!r} with hash {view_hash!r} is not served here; {entity} has {known}"
            )
        return found

    def read(self, served: ServedView, keys: Sequence[str]) -> Lookup:
        """Rows of entities of the view's type, all from one moment of the store."""
        found = self._read(served, keys, len(keys))
        assert found is not None  # noqa: S101 - every row may be computed
        return found

    async def read_soon(
        self, served: ServedView, keys: Sequence[str], *, compute_at_most: int
    ) -> Lookup | None:
        """The same on an event loop, without holding it up; None when that would take more than
        ``compute_at_most`` rows that have to be computed, or a thread that waits."""
        if not self._store.shared:
            return self._read(served, keys, compute_at_most)
        if served.reader.reads_others:
            return None
        entity, t_ms = served.reader.view.entity, self._clock_ms()
        moment = await self._store.moment_soon([(entity, key) for key in keys])
        if moment is None:
            return None
        rows = _rows(served, keys, moment.states, t_ms, _reads_no_other, compute_at_most)
        if rows is None:
            return None
        return Lookup(served.packer.block(rows, t_ms), t_ms, moment.position)

    async def kept_soon(self, keys: Sequence[str]) -> list[Mapping[str, str]] | None:
        """Variants that users keep, by entry, in the order of their keys; None when only ``kept``,
        which may wait, can tell them."""
        if not self._store.shared:
            return self.kept(keys)
        moment = await self._store.moment_soon([(USER_ENTITY, key) for key in keys])
        return None if moment is None else [*map(_kept, moment.states)]

    def kept(self, keys: Sequence[str]) -> list[Mapping[str, str]]:
        """The same."""
        with self._store.read() as view:
            return [*map(_kept, view.moment([(USER_ENTITY, key) for key in keys]).states)]

    def _read(self, served: ServedView, keys: Sequence[str], compute_at_most: int) -> Lookup | None:
        entity = served.reader.view.entity
        with self._store.read() as view:
            t_ms = self._clock_ms()
            listed: list[Key] = []
            for more in reversed(range(MOMENTS)):
                position, states = view.moment([*((entity, key) for key in keys), *listed])
                held = dict(zip(listed, states[len(keys) :], strict=True))
                # A shared store has moved on by the time it is asked again: then all is read again.
                unread: dict[Key, None] | None = {} if self._store.shared and more else None

                def read_state(
                    other: str,
                    identity: str,
                    held: Mapping[Key, bytes | None] = held,
                    unread: dict[Key, None] | None = unread,
                ) -> KeyState | None:
                    key = (other, identity)
                    if key in held:
                        return decoded(held[key])
                    if unread is None:
                        return decoded(view.state(other, identity))
                    unread[key] = None
                    return None

                rows = _rows(served, keys, states, t_ms, read_state, compute_at_most)
                if rows is None or not unread:
                    break
                listed += unread
        return Lookup(served.packer.block(rows, t_ms), t_ms, position) if rows is not None else None


def _kept(data: bytes | None) -> Mapping[str, str]:
    # Most keep nothing, which shows at sight.
    return {} if data is None or MARK not in data else kept_variants(decode_state(data))


def _served_view(reader: RowReader) -> ServedView:
    packer = RowPacker(reader.view)
    return ServedView(reader, packer, RowCache(reader), packer.pack(reader.row(None, 0)))


def _reads_no_other(entity: str, identity: str) -> KeyState | None:
    raise LookupError(f"{entity} {identity} is not read here")


def _rows(
    served: ServedView,
    keys: Sequence[str],
    states: Sequence[bytes | None],
    t_ms: int,
    read: ReadState,
    compute_at_most: int,
) -> list[PackedRow] | None:
    """None when more rows than that have to be computed."""
    reader, packer, cache, missing = served
    rows: list[PackedRow] = []
    for key, data in zip(keys, states, strict=False):
        if data is None:
            rows.append(missing)
            continue
        packed = cache.kept(key, data, t_ms)
        if packed is None:
            if compute_at_most == 0:
                return None
            compute_at_most -= 1
            state = reader.visible(decode_state(data), t_ms)
            packed = packer.pack(reader.row(state, t_ms, identity=key, read=read, times=True))
            cache.keep(key, data, t_ms, state, packed)
        rows.append(packed)
    return rows
