"""A caller's own filter as a tree, checked: its fields are filterable and hold what is asked."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Operator(enum.Enum):
    """How a value is compared."""

    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    LESS_OR_EQUAL = 4
    GREATER = 5
    GREATER_OR_EQUAL = 6


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts hold."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the parts holds."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Expression


@dataclass(frozen=True, slots=True)
class Compare:
    """An item's value against a constant of its type; texts and booleans for equality only."""

    field: str
    operator: Operator
    value: str | bool | int | float


@dataclass(frozen=True, slots=True)
class In:
    """An item's value is one of the constants; of a list: one of its members is."""

    field: str
    values: frozenset[str] | frozenset[int]


Expression = And | Or | Not | Compare | In
