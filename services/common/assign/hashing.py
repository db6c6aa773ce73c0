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


def bucket_of(salt: str, unit_id: str) -> float:
    """Position of a unit in [0, 1), by ``xxh3``."""
    digest = xxhash.xxh3_64_intdigest(salt.encode() + b"\0" + unit_id.encode())
    return (digest >> 11) / (1 << 53)


def bucketing(hash_name: str, salt: str) -> Bucket | None:
    """The function of a hash with a salt; None for a hash that is not known here."""
    if hash_name == XXH3:
        return _xxh3(salt)
    if hash_name == FNV1:
        units = tuple(_units(salt))
        return lambda unit_id: fnv1a(units, fnv1a(_units(unit_id))) % 1_000 / 1_000
    if hash_name == FNV2:
        state = fnv1a(_units(salt))
        return lambda unit_id: fnv1a(str(fnv1a(_units(unit_id), state)).encode()) % 10_000 / 10_000
    return None


def fnv1a(units: Iterable[int], state: int = _BASIS) -> int:
    """FNV-1a of further units after ``state``, 32 bits."""
    for unit in units:
        state = (state ^ unit) * _PRIME & _MASK
    return state


def _xxh3(salt: str) -> Bucket:
    prefix = salt.encode() + b"\0"
    digest = xxhash.xxh3_64_intdigest
    scale = 1 / (1 << 53)
    return lambda unit_id: (digest(prefix + unit_id.encode()) >> 11) * scale


def _units(value: str) -> Iterable[int]:
    """UTF-16 units of a text."""
    if value.isascii():
        return value.encode()
    return (unit for (unit,) in iter_unpack(">H", units_of_text(value)))
