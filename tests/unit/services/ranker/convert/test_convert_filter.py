"""A caller's filter from the wire: what it becomes, and how each mistake is refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from podium.ranker.v1.filter_pb2 import Filter
from services.common.errors import InvalidArgument
from services.ranker.convert.filter import caller_filter
from services.ranker.filters.tree import And, Compare, In, Not, Operator, Or

FIELDS = {"price": "int", "rate": "float", "title": "string", "live": "bool", "tags": "list"}
PRICE = {"comparison": {"field": "price", "operator": "OPERATOR_LESS", "intValue": "5"}}


def read(content: dict[str, Any]) -> Any:
    """The tree of a filter written as JSON."""
    return caller_filter("filter", ParseDict(content, Filter()), FIELDS)


def test_a_tree_is_read_as_it_was_written() -> None:
    found = read(
        {
            "allOf": {
                "filters": [
                    PRICE,
                    {
                        "negation": {
                            "filter": {"membership": {"field": "tags", "stringValues": ["a"]}}
                        }
                    },
                    {
                        "anyOf": {
                            "filters": [
                                {"membership": {"field": "price", "intValues": ["1", "2"]}},
                                {
                                    "comparison": {
                                        "field": "live",
                                        "operator": "OPERATOR_EQUAL",
                                        "boolValue": False,
                                    }
                                },
                                {
                                    "comparison": {
                                        "field": "rate",
                                        "operator": "OPERATOR_GREATER_OR_EQUAL",
                                        "doubleValue": 0.5,
                                    }
                                },
                            ]
                        }
                    },
                ]
            }
        }
    )
    assert found == And(
        (
            Compare("price", Operator.LESS, 5),
            Not(In("tags", frozenset({"a"}))),
            Or(
                (
                    In("price", frozenset({1, 2})),
                    Compare("live", Operator.EQUAL, False),
                    Compare("rate", Operator.GREATER_OR_EQUAL, 0.5),
                )
            ),
        )
    )


def compared(field: str, operator: str = "OPERATOR_EQUAL", **value: Any) -> dict[str, Any]:
    return {"comparison": {"field": field, "operator": operator, **value}}


def nested(content: dict[str, Any], levels: int) -> dict[str, Any]:
    for _ in range(levels):
        content = {"negation": {"filter": content}}
    return content


def every(*contents: dict[str, Any]) -> dict[str, Any]:
    return {"allOf": {"filters": list(contents)}}


@pytest.mark.parametrize(
    ("content", "field", "says"),
    [
        ({}, "filter", "must be one of all_of, any_of"),
        ({"negation": {}}, "filter.negation.filter", "must be one of"),
        ({"allOf": {}}, "filter.all_of.filters", "has 0 elements, must have 1 to 64"),
        ({"anyOf": {}}, "filter.any_of.filters", "has 0 elements"),
        (every(PRICE, {}), "filter.all_of.filters[1]", "must be one of"),
        (nested(PRICE, 8), "filter" + ".negation.filter" * 8, "at most 8 levels"),
        (every(*[PRICE] * 64), "filter.all_of.filters[63]", "at most 64 are allowed"),
        (every(*[PRICE] * 65), "filter.all_of.filters", "has 65 elements"),
        (compared("", intValue="1"), "filter.comparison.field", "is required"),
        (
            compared("cost", intValue="1"),
            "filter.comparison.field",
            "'cost' is not one of the filterable live, price, rate, tags, title",
        ),
        (compared("tags", stringValue="a"), "filter.comparison.field", "holds a list"),
        (
            compared("price", "OPERATOR_UNSPECIFIED", intValue="1"),
            "filter.comparison.operator",
            "must be one of OPERATOR_EQUAL, OPERATOR_NOT_EQUAL",
        ),
        (compared("price", 99, intValue="1"), "filter.comparison.operator", "must be one of"),
        (compared("price"), "filter.comparison.value", "is required, one of string_value"),
        (
            every(PRICE, compared("price", stringValue="5")),
            "filter.all_of.filters[1].comparison.string_value",
            "does not fit 'price', which holds int",
        ),
        (compared("title", intValue="5"), "filter.comparison.int_value", "which holds string"),
        (compared("live", intValue="1"), "filter.comparison.int_value", "which holds bool"),
        (compared("rate", boolValue=True), "filter.comparison.bool_value", "which holds float"),
        (
            compared("title", "OPERATOR_LESS", stringValue="m"),
            "filter.comparison.operator",
            "'title' holds string: EQUAL or NOT_EQUAL only",
        ),
        (
            compared("live", "OPERATOR_GREATER", boolValue=False),
            "filter.comparison.operator",
            "'live' holds bool",
        ),
        (
            compared("title", stringValue="é" * 513),
            "filter.comparison.string_value",
            "has 1026 bytes, at most 1024",
        ),
        (compared("rate", doubleValue="NaN"), "filter.comparison.double_value", "must be finite"),
        (
            {"membership": {"field": "rate", "intValues": ["1"]}},
            "filter.membership.field",
            "'rate' holds float: ask for it by comparison",
        ),
        (
            {"membership": {"field": "tags", "intValues": ["1"]}},
            "filter.membership.int_values",
            "which holds list",
        ),
        (
            {"membership": {"field": "price", "intValues": ["1"], "stringValues": ["1"]}},
            "filter.membership.string_values",
            "which holds int",
        ),
        (
            {"membership": {"field": "title"}},
            "filter.membership.string_values",
            "has 0 elements, must have 1 to 1000",
        ),
        (
            {"membership": {"field": "price", "intValues": ["1"] * 1001}},
            "filter.membership.int_values",
            "has 1001 elements",
        ),
        (
            {"membership": {"field": "title", "stringValues": ["a", "x" * 1025]}},
            "filter.membership.string_values[1]",
            "has 1025 bytes",
        ),
    ],
)
def test_a_mistake_names_its_path_and_the_limit(
    content: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read(content)
    assert refused.value.violations[0].field == field
    assert says in refused.value.violations[0].description


def test_the_limits_themselves_are_allowed() -> None:
    read(nested(PRICE, 7))
    read(every(*[PRICE] * 63))
    read({"membership": {"field": "title", "stringValues": [f"t{n}" for n in range(1_000)]}})


def test_without_filterable_fields_nothing_may_be_asked() -> None:
    with pytest.raises(InvalidArgument, match="'price' is not filterable: nothing is"):
        caller_filter("filter", ParseDict(PRICE, Filter()), {})
