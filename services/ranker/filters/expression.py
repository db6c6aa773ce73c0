"""Evaluates a caller's filter over items, in three-valued logic.

A comparison with a missing value is UNKNOWN. AND is FALSE where a part is, OR is TRUE where a part
is, NOT leaves UNKNOWN as it is (Kleene's strong logic); an item passes where the whole is TRUE.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from services.ranker.arrays import BoolArray, Float32Array, Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.filters.asking import Asking
from services.ranker.filters.members import Rows, members_of
from services.ranker.filters.tree import And, Compare, Expression, In, Not, Operator, Or

REASON = "caller_filter"
"""Under which what a caller's filter removes is counted."""

_OPERATIONS: Mapping[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}


class Truth(NamedTuple):
    """Where an expression is TRUE and where it is FALSE, bool [n] each; elsewhere UNKNOWN."""

    true: BoolArray
    false: BoolArray


def passing(expression: Expression, table: EntityTable, rows: Rows = slice(None)) -> BoolArray:
    """Which rows of a table a caller's filter lets through, bool [len(rows)]."""
    return truth(expression, table, rows).true


@dataclass(frozen=True)
class CallerFilter:
    """A request's own filter, as one more of its surface's."""

    expression: Expression
    table: EntityTable

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        """Which of the slots [n] pass, bool [n]."""
        del asking
        return passing(self.expression, self.table, slots)


def truth(expression: Expression, table: EntityTable, rows: Rows) -> Truth:
    """What an expression is for each of the rows. A column that the table lacks is missing."""
    match expression:
        case And(parts):
            found = [truth(part, table, rows) for part in parts]
            return Truth(
                np.logical_and.reduce([part.true for part in found]),
                np.logical_or.reduce([part.false for part in found]),
            )
        case Or(parts):
            found = [truth(part, table, rows) for part in parts]
            return Truth(
                np.logical_or.reduce([part.true for part in found]),
                np.logical_and.reduce([part.false for part in found]),
            )
        case Not(part):
            inner = truth(part, table, rows)
            return Truth(inner.false, inner.true)
        case Compare(field, compared, value):
            return _compared(table, field, compared, value, rows)
        case In(field, values):
            texts = [value for value in values if isinstance(value, str)]
            numbers = [value for value in values if isinstance(value, int)]
            members = members_of(table, field) if texts else None
            column = table.numeric(field) if numbers else None
            if members is not None:
                return _where(members.mask(members.codes_having(texts), rows), table, field, rows)
            if column is not None:
                return _where(np.isin(column[rows], numbers), table, field, rows)
            return _unknown(table, rows)


def like(column: Float32Array | Int64Array, number: float) -> float | np.float32:
    """A number as a column of float32 would hold it, so that 0.1 equals a stored 0.1."""
    if column.dtype != np.float32:
        return number
    with np.errstate(over="ignore"):
        return np.float32(number)


def _compared(
    table: EntityTable, field: str, compared: Operator, value: str | bool | int | float, rows: Rows
) -> Truth:
    if not isinstance(value, str):
        column = table.numeric(field)
        if column is None:
            return _unknown(table, rows)
        holds: BoolArray = _OPERATIONS[compared](column[rows], like(column, value))
        return _where(holds, table, field, rows)
    members = members_of(table, field)
    if members is None:
        return _unknown(table, rows)
    equal = members.mask(members.codes_having([value]), rows)
    return _where(~equal if compared is Operator.NOT_EQUAL else equal, table, field, rows)


def _where(holds: BoolArray, table: EntityTable, field: str, rows: Rows) -> Truth:
    if field == "id":
        return Truth(holds, ~holds)
    present: BoolArray = table.present_of(field)[rows]
    return Truth(holds & present, ~holds & present)


def _unknown(table: EntityTable, rows: Rows) -> Truth:
    nothing = np.zeros_like(table.alive[rows])
    return Truth(nothing, nothing)
