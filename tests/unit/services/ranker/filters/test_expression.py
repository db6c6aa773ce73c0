"""A caller's filter against three-valued logic written down item by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.filters.expression import passing, truth
from services.ranker.filters.tree import And, Compare, Expression, In, Not, Operator, Or
from tests.unit.services.ranker.fakes import tables_of

Row = Mapping[str, Any]
TEXTS = st.sampled_from(["", "h1", "h2", "h3"])
SMALL = st.integers(-2, 2)
HALVES = st.sampled_from([-1.5, -0.5, 0.0, 0.5, 1.0])
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "clicks": SMALL,
        "score": HALVES,
        "live": st.integers(0, 1),
        "host": TEXTS,
        "tags": st.lists(TEXTS, max_size=3),
    },
)
CATALOGUES = st.dictionaries(st.sampled_from(["i1", "i2", "i3", "i4"]), ROWS, min_size=1)
OPERATORS = st.sampled_from(Operator)
EQUALITY = st.sampled_from([Operator.EQUAL, Operator.NOT_EQUAL])
LEAVES: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Compare, st.sampled_from(["clicks", "score", "gone"]), OPERATORS, SMALL | HALVES),
    st.builds(Compare, st.sampled_from(["host", "gone"]), EQUALITY, TEXTS),
    st.builds(Compare, st.just("id"), EQUALITY, st.sampled_from(["i1", "i2", "i9"])),
    st.builds(Compare, st.just("live"), EQUALITY, st.booleans()),
    st.builds(In, st.sampled_from(["host", "tags", "gone"]), st.frozensets(TEXTS, min_size=1)),
    st.builds(In, st.just("id"), st.frozensets(st.sampled_from(["i1", "i3"]), min_size=1)),
    st.builds(In, st.sampled_from(["clicks", "gone"]), st.frozensets(SMALL, min_size=1)),
)


def _parts(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[tuple[Expression, ...]]:
    return st.lists(children, min_size=1, max_size=3).map(tuple)


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    LEAVES,
    lambda children: (
        st.builds(And, _parts(children))
        | st.builds(Or, _parts(children))
        | st.builds(Not, children)
    ),
    max_leaves=8,
)


def oracle(expression: Expression, row: Row) -> bool | None:
    """TRUE, FALSE, or None for UNKNOWN."""
    if isinstance(expression, Not):
        inner = oracle(expression.part, row)
        return None if inner is None else not inner
    if isinstance(expression, And | Or):
        # FALSE < UNKNOWN < TRUE: AND is the least of the parts, OR the greatest.
        rank = {False: 0, None: 1, True: 2}
        pick = min if isinstance(expression, And) else max
        return pick((oracle(part, row) for part in expression.parts), key=rank.__getitem__)
    if expression.field not in row:
        return None
    value = row[expression.field]
    if isinstance(expression, In):
        held = value if isinstance(value, list) else [value]
        return any(member in expression.values for member in held)
    wanted = expression.value
    match expression.operator:
        case Operator.EQUAL:
            return bool(value == wanted)
        case Operator.NOT_EQUAL:
            return bool(value != wanted)
        case Operator.LESS:
            return bool(value < wanted)
        case Operator.LESS_OR_EQUAL:
            return bool(value <= wanted)
        case Operator.GREATER:
            return bool(value > wanted)
        case Operator.GREATER_OR_EQUAL:
            return bool(value >= wanted)


@settings(max_examples=150, deadline=None)
@given(rows=CATALOGUES, expression=EXPRESSIONS)
def test_every_item_is_what_the_definition_says(
    rows: dict[str, Row], expression: Expression
) -> None:
    table = tables_of(rows).by_entity["item"]
    expected = [oracle(expression, {**row, "id": id_}) for id_, row in rows.items()]

    found = truth(expression, table, slice(None))

    assert found.true.tolist() == [value is True for value in expected]
    assert found.false.tolist() == [value is False for value in expected]
    backwards = np.arange(len(rows))[::-1]
    assert passing(expression, table, backwards).tolist() == found.true.tolist()[::-1]


def test_not_over_a_missing_value_lets_nobody_in() -> None:
    rows: dict[str, Row] = {"known": {"clicks": 3}, "unknown": {}}
    table = tables_of(rows).by_entity["item"]
    below = Compare("clicks", Operator.LESS, 2)
    assert passing(Not(below), table).tolist() == [True, False]
    assert passing(Or((below, Not(below))), table).tolist() == [True, False]
    assert passing(Compare("clicks", Operator.NOT_EQUAL, 7), table).tolist() == [True, False]


@pytest.mark.parametrize(
    ("operator", "passes"),
    [
        (Operator.EQUAL, True),
        (Operator.LESS_OR_EQUAL, True),
        (Operator.GREATER_OR_EQUAL, True),
        (Operator.LESS, False),
        (Operator.GREATER, False),
    ],
)
def test_a_float_equals_the_number_it_was_told(operator: Operator, passes: bool) -> None:
    table = tables_of({"a": {"score": 0.1}}).by_entity["item"]
    assert passing(Compare("score", operator, 0.1), table).tolist() == [passes]


def test_numbers_beyond_what_a_column_holds_are_compared_all_the_same() -> None:
    table = tables_of({"a": {"score": 1.0, "clicks": 1}}).by_entity["item"]
    for field in ("score", "clicks"):
        for huge in (1e300, 2**63 - 1):
            assert passing(Compare(field, Operator.LESS, huge), table).tolist() == [True]
            assert passing(Compare(field, Operator.LESS, -huge), table).tolist() == [False]
