"""Entity types, and the ids of pairs. Pure."""

from __future__ import annotations

from typing import Final

from services.common.domain import Domain
from services.feature.definitions.events import USER_ENTITY

Key = tuple[str, str]
"""(entity type, id) of an entity, user or pair."""

_PAIR_MARK: Final = ":"

MAX_KEY_BYTES: Final = 128
"""Longest id, in UTF-8, that an attribute may derive; longer ones derive nothing."""


def pair_id(first: str, second: str) -> str:
    """Id of a pair. No two pairs share one, and those with one ``first`` share a beginning."""
    return f"{len(first)}{_PAIR_MARK}{first}{second}"


def pair_members(identity: str) -> tuple[str, str]:
    """Inverse of ``pair_id``."""
    length, _, both = identity.partition(_PAIR_MARK)
    return both[: int(length)], both[int(length) :]


def is_pair_id(identity: str) -> bool:
    """Whether an id has the form of a pair's."""
    length, mark, both = identity.partition(_PAIR_MARK)
    return bool(mark) and length.isascii() and length.isdecimal() and int(length) <= len(both)


def other_side(domain: Domain, pair: str) -> str:
    """Entity type that a pair's entity type pairs users with."""
    members = domain.entities[pair].pair
    if members is None:
        raise ValueError(f"{pair} is no pair")
    return members[1]


def catalogue_entities(domain: Domain) -> frozenset[str]:
    """Entity types that can be listed and watched: neither users nor pairs."""
    return frozenset(n for n, e in domain.entities.items() if n != USER_ENTITY and e.pair is None)
