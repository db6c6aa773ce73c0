"""Where a unit lies in [0, 1). Every hash is frozen: running experiments must keep their units.

- ``xxh3``, ours: XXH3-64 of UTF-8(salt) + one zero byte + UTF-8(unit id), its upper 53 bits divided
  by 2**53.
- ``fnv1``, GrowthBook's version 1: FNV-1a (32 bits) of unit id + salt, modulo 1,000.
- ``fnv2``, GrowthBook's version 2: FNV-1a of the decimal digits of FNV-1a of salt + unit id, modulo
  10,000.

FNV-1a takes in UTF-16 units, as ``charCodeAt`` of the SDK in JavaScript gives them.
``tests/golden/assign_v1.json`` and ``tests/golden/growthbook_v1.json`` hold values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from struct import iter_unpack
from typing import Final

import xxhash

from services.common.assign.javascript import units_of_text

XXH3: Final = "xxh3"
FNV1: Final = "fnv1"
FNV2: Final = "fnv2"

Bucket = Callable[[str], float]
"""Position of a unit id in [0, 1)."""

_BASIS = 0x811C9DC5
_PRIME = 0x01000193
_MASK = 0xFFFFFFFF
_KEPT_IDS = 8


def bucket_of(salt: str, unit_id: str) -> float:
    """Position of a unit in [0, 1), by ``xxh3``."""
    digest = xxhash.xxh3_64_intdigest(salt.encode() + b"\0" + unit_id.encode())
    return (digest >> 11) / (1 << 53)


class Hashes:
    """Bucketing functions of one set of definitions. All its experiments ask for the same few ids:
    what they can share of an id's hash is kept for the last ones. Thread-safe."""

    def __init__(self) -> None:
        self._state_of: Callable[[str], int] = lru_cache(_KEPT_IDS)(_fnv1a_of)

    def bucketing(self, hash_name: str, salt: str) -> Bucket | None:
        """The function of a hash with a salt; None for a hash that is not known here."""
        if hash_name == XXH3:
            return _xxh3(salt)
        if hash_name == FNV1:
            return self._fnv1(salt)
        if hash_name == FNV2:
            return _fnv2(salt)
        return None

    def _fnv1(self, salt: str) -> Bucket:
        # The salt comes last: up to it the hash of an id is the same for all.
        state_of, units = self._state_of, tuple(_units(salt))
        return lambda unit_id: fnv1a(units, state_of(unit_id)) % 1_000 / 1_000


def fnv1a(units: Iterable[int], state: int = _BASIS) -> int:
    """FNV-1a of further units after ``state``, 32 bits."""
    # What lies above 32 bits never comes down again: cutting it off once is enough, and quicker.
    for unit in units:
        state = (state ^ unit) * _PRIME
    return state & _MASK


def _fnv1a_of(unit_id: str) -> int:
    return fnv1a(_units(unit_id))


def _xxh3(salt: str) -> Bucket:
    prefix = salt.encode() + b"\0"
    digest = xxhash.xxh3_64_intdigest
    scale = 1 / (1 << 53)
    return lambda unit_id: (digest(prefix + unit_id.encode()) >> 11) * scale


def _fnv2(salt: str) -> Bucket:
    state = fnv1a(_units(salt))

    def bucket(unit_id: str) -> float:
        first = fnv1a(_units(unit_id), state)
        return fnv1a(b"%d" % first) % 10_000 / 10_000

    return bucket


def _units(value: str) -> Iterable[int]:
    """UTF-16 units of a text."""
    if value.isascii():
        return value.encode()
    return (unit for (unit,) in iter_unpack(">H", units_of_text(value)))
