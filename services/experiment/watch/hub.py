"""Which definitions changed since when: a watcher keeps the version that it saw, and no more."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from services.common.assign.assign import Definitions
from services.common.assign.canonical import Item, ItemKey, items_of

_EPOCH_BYTES: Final = 8
_TOKEN: Final = struct.Struct("<8sQ")
_KEPT_TOMBSTONES: Final = 10_000


class Changes(NamedTuple):
    """Definitions that changed, and those that are gone."""

    upserts: list[Item]
    gone: list[ItemKey]


class DefinitionsHub:
    """Definitions with the version of each one's last change."""

    def __init__(self, definitions: Definitions, *, kept_tombstones: int = _KEPT_TOMBSTONES):
        self.definitions = definitions
        self.version = 1
        self._epoch = secrets.token_bytes(_EPOCH_BYTES)
        self._kept_tombstones = kept_tombstones
        self._forgotten = 0
        self._items: dict[ItemKey, tuple[int, Item | None]] = {
            key: (1, item) for key, item in items_of(definitions).items()
        }

    def install(self, definitions: Definitions) -> bool:
        """Takes new definitions in; whether anything changed."""
        if definitions.hash == self.definitions.hash:
            return False
        self.definitions = definitions
        self.version += 1
        after: Mapping[ItemKey, Item] = items_of(definitions)
        for key, item in after.items():
            if self._items.get(key, (0, None))[1] != item:
                self._items[key] = (self.version, item)
        for key, (_, before) in list(self._items.items()):
            if before is not None and key not in after:
                self._items[key] = (self.version, None)
        self._forget()
        return True

    def snapshot(self) -> list[Item]:
        """All definitions."""
        return [item for _, item in self._items.values() if item is not None]

    def changes(self, since: int) -> Changes:
        """What changed after version ``since``."""
        later = {key: item for key, (version, item) in self._items.items() if version > since}
        return Changes(
            [item for item in later.values() if item is not None],
            [key for key, item in later.items() if item is None],
        )

    def token(self, version: int) -> bytes:
        """Resume token of a watcher that has seen ``version``."""
        return _TOKEN.pack(self._epoch, version)

    def resume(self, token: bytes) -> int | None:
        """Version behind a token; None when it is none of this hub's, or what changed since is not
        known any more."""
        if len(token) != _TOKEN.size:
            return None
        epoch, version = _TOKEN.unpack(token)
        if epoch != self._epoch or not self._forgotten <= version <= self.version:
            return None
        return int(version)

    def forgotten(self, version: int) -> bool:
        """Whether it is not known any more what changed since ``version``."""
        return version < self._forgotten

    def _forget(self) -> None:
        gone = sorted(
            (version, key) for key, (version, item) in self._items.items() if item is None
        )
        for version, key in gone[: max(0, len(gone) - self._kept_tombstones)]:
            del self._items[key]
            self._forgotten = version
