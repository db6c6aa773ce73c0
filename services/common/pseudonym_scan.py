"""Pseudonyms in bytes of any form: found by their look, known for sure by their key.

A pseudonym is encrypted with authentication: what looks like one and opens under the key of its
version is one, whatever surrounds it. So records, damaged stretches and files of stores are gone
through in the same way, and the letters that happen to follow one are told from it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.pseudonym import Pseudonymiser

_SHORTEST = 23
"""Base64 letters of an id of one byte: 17 bytes with the tag."""
_LONGEST = 192
"""The same of the longest id there may be, 128 bytes."""
_LOOKS_LIKE_ONE = re.compile(rb"p(\d{1,9})\.([A-Za-z0-9_-]{%d,%d})" % (_SHORTEST, _LONGEST))
_CACHED = 50_000
_CHUNK_BYTES = 8 << 20
_OVERLAP_BYTES = 256


class PseudonymScan:
    """Finds pseudonyms under any key of ``names``. Thread-safe."""

    def __init__(self, names: Pseudonymiser) -> None:
        self._names = names
        self._opened = lru_cache(_CACHED)(self._open)

    def translated(self, data: bytes) -> bytes:
        """The bytes with every pseudonym under the key that encrypts, of the same length; those
        without their key stay.

        Raises ``FailedPrecondition`` (KEY_VERSION_DIGITS) where the length can't stay.
        """
        wanted = self._names.version
        prefix = b"p%d." % wanted
        parts: list[bytes] = []
        at = 0
        for found in _LOOKS_LIKE_ONE.finditer(data):
            if found.group().startswith(prefix):
                continue
            name = self._opened(found.group())
            if name is None:
                continue
            after = self._names.translate(name).encode()
            if len(after) != len(name):
                raise FailedPrecondition(
                    f"key versions {int(found.group(1))} and {wanted} differ in their number of"
                    " digits: what is written can't change its length",
                    reason="KEY_VERSION_DIGITS",
                )
            parts += data[at : found.start()], after
            at = found.start() + len(name)
        return b"".join((*parts, data[at:])) if parts else data

    def versions(self, data: bytes) -> Counter[int]:
        """How many pseudonyms there are, by key version. What looks like one of a version that
        there is no key of counts as one."""
        return self._counted(data, len(data))

    def versions_in(self, path: Path) -> Counter[int]:
        """The same of a file; nothing of one that has gone meanwhile."""
        found: Counter[int] = Counter()
        data = b""
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    data += chunk
                    # What begins further on may not be read to its end yet.
                    end = max(0, len(data) - _OVERLAP_BYTES)
                    found += self._counted(data, end)
                    data = data[end:]
        except FileNotFoundError:
            return found
        return found + self._counted(data, len(data))

    def _counted(self, data: bytes, end: int) -> Counter[int]:
        """Of those that begin before ``end``."""
        found: Counter[int] = Counter()
        known = set(self._names.versions)
        for match in _LOOKS_LIKE_ONE.finditer(data):
            if match.start() >= end:
                break
            version = int(match.group(1))
            if version not in known or self._opened(match.group()) is not None:
                found[version] += 1
        return found

    def _open(self, look: bytes) -> str | None:
        """The pseudonym that the bytes begin with; None where they do not, or without its key."""
        for name in _beginnings(look.decode()):
            try:
                self._names.decrypt(name)
            except InvalidArgument:
                continue
            except FailedPrecondition:
                return None
            return name
        return None


def without_pseudonyms(data: bytes) -> bytes:
    """The bytes without what looks like pseudonyms: the same under every key."""
    return _LOOKS_LIKE_ONE.sub(b"", data)


def _beginnings(look: str) -> Iterator[str]:
    """Longest first: few letters follow by chance."""
    shortest = look.index(".") + 1 + _SHORTEST
    for end in range(len(look), shortest - 1, -1):
        yield look[:end]
