"""What filters read of a request: its numbers, and the caller's own filter, checked, as a tree.

What is wrong names its path in the message, e.g. ``filter.all_of.filters[1].comparison.value``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from podium.ranker.v1 import filter_pb2
from services.common.convert_limits import (
    MAX_NAME_BYTES,
    MAX_STRING_BYTES,
    optional_text,
    require_count,
    require_finite,
    require_text,
)
from services.common.errors import InvalidArgument
from services.ranker.filters.tree import And, Compare, Expression, In, Not, Operator, Or
from services.ranker.types import Circumstances

MAX_DEPTH = 8
MAX_NODES = 64
MAX_VALUES = 1_000

_NUMBERS = ("int", "float")
_OPERATORS = {
    filter_pb2.Filter.OPERATOR_EQUAL: Operator.EQUAL,
    filter_pb2.Filter.OPERATOR_NOT_EQUAL: Operator.NOT_EQUAL,
    filter_pb2.Filter.OPERATOR_LESS: Operator.LESS,
    filter_pb2.Filter.OPERATOR_LESS_OR_EQUAL: Operator.LESS_OR_EQUAL,
    filter_pb2.Filter.OPERATOR_GREATER: Operator.GREATER,
    filter_pb2.Filter.OPERATOR_GREATER_OR_EQUAL: Operator.GREATER_OR_EQUAL,
}
_EQUALITY = (Operator.EQUAL, Operator.NOT_EQUAL)
_HOLDING = {
    "string_value": ("string",),
    "int_value": _NUMBERS,
    "double_value": _NUMBERS,
    "bool_value": ("bool",),
}
_KINDS = "all_of, any_of, negation, comparison, membership"


def caller_filter(field: str, message: filter_pb2.Filter, fields: Mapping[str, str]) -> Expression:
    """The tree of a filter over ``fields``, what each holds by name: string, int, float, bool or
    list. Raises ``InvalidArgument``."""
    return _Reader(fields).node(field, message, 1)


def require_numbers(field: str, circumstances: Circumstances, names: Iterable[str]) -> None:
    """Of a request's attributes those that filters read as numbers are numbers.

    Raises ``InvalidArgument``: a cap given as a text would be none.
    """
    for name in names:
        if name in circumstances.attributes and circumstances.number(name) is None:
            raise InvalidArgument.field(
                f"{field}.{name}", "must be a number: a filter of the surface reads it"
            )


class _Reader:
    """Reads one filter, counting its nodes."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self._nodes = 0

    def node(self, at: str, message: filter_pb2.Filter, depth: int) -> Expression:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidArgument.field(
                at, f"is one node too many, at most {MAX_NODES} are allowed"
            )
        if depth > MAX_DEPTH:
            raise InvalidArgument.field(at, f"is too deep, at most {MAX_DEPTH} levels are allowed")
        match message.WhichOneof("kind"):
            case "all_of":
                return And(self._parts(f"{at}.all_of.filters", message.all_of.filters, depth))
            case "any_of":
                return Or(self._parts(f"{at}.any_of.filters", message.any_of.filters, depth))
            case "negation":
                inner = message.negation.filter
                return Not(self.node(f"{at}.negation.filter", inner, depth + 1))
            case "comparison":
                return self._comparison(f"{at}.comparison", message.comparison)
            case "membership":
                return self._membership(f"{at}.membership", message.membership)
            case _:
                raise InvalidArgument.field(at, f"must be one of {_KINDS}")

    def _parts(
        self, at: str, messages: Sequence[filter_pb2.Filter], depth: int
    ) -> tuple[Expression, ...]:
        require_count(at, len(messages), 1, MAX_NODES)
        return tuple(
            self.node(f"{at}[{index}]", message, depth + 1)
            for index, message in enumerate(messages)
        )

    def _comparison(self, at: str, message: filter_pb2.Filter.Compare) -> Compare:
        holds = self._holds(f"{at}.field", message.field)
        if holds == "list":
            raise InvalidArgument.field(
                f"{at}.field", f"{message.field!r} holds a list: ask for its members by membership"
            )
        compared = _OPERATORS.get(message.operator)
        if compared is None:
            known = ", ".join(filter_pb2.Filter.Operator.keys()[1:])
            raise InvalidArgument.field(f"{at}.operator", f"must be one of {known}")
        kind = message.WhichOneof("value")
        if kind is None:
            raise InvalidArgument.field(f"{at}.value", f"is required, one of {', '.join(_HOLDING)}")
        if holds not in _HOLDING[kind]:
            raise InvalidArgument.field(
                f"{at}.{kind}", f"does not fit {message.field!r}, which holds {holds}"
            )
        if holds not in _NUMBERS and compared not in _EQUALITY:
            raise InvalidArgument.field(
                f"{at}.operator", f"{message.field!r} holds {holds}: EQUAL or NOT_EQUAL only"
            )
        match kind:
            case "string_value":
                text = optional_text(f"{at}.{kind}", message.string_value, MAX_STRING_BYTES)
                return Compare(message.field, compared, text)
            case "bool_value":
                return Compare(message.field, compared, message.bool_value)
            case "int_value":
                return Compare(message.field, compared, message.int_value)
            case _:
                number = require_finite(f"{at}.{kind}", message.double_value)
                return Compare(message.field, compared, number)

    def _membership(self, at: str, message: filter_pb2.Filter.In) -> In:
        holds = self._holds(f"{at}.field", message.field)
        if holds not in ("string", "list", "int"):
            raise InvalidArgument.field(
                f"{at}.field", f"{message.field!r} holds {holds}: ask for it by comparison"
            )
        asked, other = ("int_values", "string_values")
        if holds != "int":
            asked, other = other, asked
        if getattr(message, other):
            raise InvalidArgument.field(
                f"{at}.{other}", f"does not fit {message.field!r}, which holds {holds}"
            )
        values = getattr(message, asked)
        require_count(f"{at}.{asked}", len(values), 1, MAX_VALUES)
        if holds != "int":
            for index, text in enumerate(values):
                optional_text(f"{at}.{asked}[{index}]", text, MAX_STRING_BYTES)
        return In(message.field, frozenset(values))

    def _holds(self, at: str, field: str) -> str:
        require_text(at, field, MAX_NAME_BYTES)
        holds = self._fields.get(field)
        if holds is None:
            known = ", ".join(sorted(self._fields))
            says = f"one of the filterable {known}" if known else "filterable: nothing is"
            raise InvalidArgument.field(at, f"{field!r} is not {says}")
        return holds
