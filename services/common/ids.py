"""Identifiers made by the services: ULIDs, sortable by the millisecond they were made in."""

from __future__ import annotations

import hashlib
import os
import time
from itertools import product
from random import getrandbits
from typing import Final

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(first + second for first, second in product(_DIGITS, repeat=2))
_SHIFTS: Final = tuple(range(120, -1, -10))


def new_rank_id() -> str:
    """Id of one Rank answer: 26 characters, opaque to callers."""
    return _ulid(time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10)))


def new_event_id() -> str:
    """Id of an event that a service itself reports: 26 characters."""
    return new_rank_id()


def new_request_id() -> str:
    """Id of a call whose caller sent none: 32 hexadecimal digits, cheaper than a ULID."""
    return f"{getrandbits(128):032x}"


def id_from(digest: bytes) -> str:
    """An id of the same form made of 16 bytes: equal bytes give equal ids, of no moment."""
    return _ulid(int.from_bytes(digest))


def event_id_of(rank_id: str, what: str) -> str:
    """Id of the event that tells ``what`` (the slate, one experiment's exposure) of an answer: told
    again, it is the same event."""
    return id_from(hashlib.blake2b(f"{rank_id}\0{what}".encode(), digest_size=16).digest())


def seed_of(text: str) -> int:
    """64 bits that depend on a text only."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _ulid(number: int) -> str:
    """128 bits in Crockford's base 32, two digits at a time: a request needs several of them.

    https://github.com/ulid/spec
    """
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
