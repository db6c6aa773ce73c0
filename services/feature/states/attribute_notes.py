"""Attributes that were read while records were folded, so that folding them again reads the same.

Which keys an event leads to can depend on an attribute of another key (the category of a course).
Where a batch is written in parts, that other state may be further when the batch is made again.
The same goes for states that were moved from one key to another. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable

_Name = tuple[str, str, str]
_Said = list[tuple[int, str | None]]


class AttributeNotes:
    """Notes of one batch. ``before``: those of the batch noted last, perhaps the same one."""

    def __init__(self, before: bytes = b"") -> None:
        self._before_bytes = before
        self._before_end = 0
        self._before: dict[_Name, _Said] = {}
        self._said: dict[_Name, _Said] = {}
        if before:
            self._before_end, entries = json.loads(before)
            for entity, identity, attribute, said in entries:
                self._before[entity, identity, attribute] = said

    def read(
        self,
        entity: str,
        identity: str,
        attribute: str,
        arrival: int,
        look: Callable[[], str | None],
    ) -> str | None:
        """The attribute as it was read when the record at ``arrival`` was folded first; what
        ``look`` gives when this is the first time."""
        name = (entity, identity, attribute)
        value: str | None = None
        noted = [v for at, v in self._before.get(name, ()) if at <= arrival < self._before_end]
        value = noted[-1] if noted else look()
        said = self._said.setdefault(name, [])
        if not said or said[-1][1] != value:
            said.append((arrival, value))
        return value

    def keep(self, entity: str, identity: str, name: str, arrival: int, value: str) -> None:
        """Notes something under a name that is no attribute's, for ``before``."""
        self._said.setdefault((entity, identity, name), []).append((arrival, value))

    def before(self, entity: str, identity: str, name: str, arrival: int) -> str | None:
        """What was kept at ``arrival`` when that was folded before; None where nothing was."""
        said = self._before.get((entity, identity, name), ())
        return next((value for at, value in said if at == arrival), None)

    def encode(self, end: int) -> bytes:
        """Stored form; ``end`` is the arrival after the batch. Empty where nothing was read.

        A batch that ends before the one noted last leaves its notes: the rest will be read again.
        """
        if self._before_end > end:
            return self._before_bytes
        if not self._said:
            return b""
        entries = [(*name, said) for name, said in self._said.items()]
        return json.dumps([end, entries], ensure_ascii=False, separators=(",", ":")).encode()
