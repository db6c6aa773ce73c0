"""Answers lookups: which view a request names, and its rows from one moment of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from services.common.errors import NotFound, UnknownFeatureView
from services.feature.definitions import FeatureView
from services.feature.row_cache import RowCache
from services.feature.rows import Row, RowReader, decoded
from services.feature.state_codec import decode_state
from services.feature.store.protocol import FeatureStore
from services.feature.windows import KeyState


class Lookup(NamedTuple):
    """Rows in the order asked for, as of ``t_ms``, from the log up to ``position``."""

    rows: list[Row]
    t_ms: int
    position: int


class FeatureLookup:
    """Reads rows of the views served here. Thread-safe."""

    def __init__(
        self,
        store: FeatureStore,
        readers: Mapping[str, RowReader],
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._readers = readers
        self._clock_ms = clock_ms
        self._caches = {entity: RowCache(reader) for entity, reader in readers.items()}

    def view(self, entity: str, name: str, view_hash: str) -> FeatureView:
        """The view a request names. Raises ``NotFound`` for the entity type,
        ``UnknownFeatureView`` for a name or hash that is not served here."""
        reader = self._readers.get(entity)
        if reader is None:
            raise NotFound(f"entity type {entity!r} has no features", reason="UNKNOWN_ENTITY_TYPE")
        if (reader.view.name, reader.view.hash) != (name, view_hash):
            raise UnknownFeatureView(
                f"view {name!r} with hash {view_hash!r} is not served here; "
                f"{entity} has {reader.view.name!r} with hash {reader.view.hash!r}"
            )
        return reader.view

    def read(self, entity: str, keys: Sequence[str]) -> Lookup:
        """Rows of entities of one type, all from one moment of the store, with their times."""
        reader, cache = self._readers[entity], self._caches[entity]
        with self._store.read() as view:
            t_ms = self._clock_ms()

            def read_state(other: str, identity: str) -> KeyState | None:
                return decoded(view.state(other, identity))

            def row(key: str) -> Row:
                data = view.state(entity, key)
                if data is None:
                    return reader.row(None, t_ms)

                def compute() -> tuple[KeyState, Row]:
                    state = reader.visible(decode_state(data), t_ms)
                    found = reader.row(state, t_ms, identity=key, read=read_state, times=True)
                    return state, found

                return cache.row(key, data, t_ms, compute)

            return Lookup([row(key) for key in keys], t_ms, view.position())
