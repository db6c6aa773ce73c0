"""Identifiers made by the services: ULIDs, sortable by the millisecond they were made in."""

from __future__ import annotations

from random import getrandbits

from ulid import ULID


def new_rank_id() -> str:
    """Id of one Rank answer: 26 characters, opaque to callers."""
    return str(ULID())


def new_event_id() -> str:
    """Id of an event that a service itself reports: 26 characters."""
    return str(ULID())


def new_request_id() -> str:
    """Id of a call whose caller sent none: 32 hexadecimal digits, cheaper than a ULID."""
    return f"{getrandbits(128):032x}"
