"""JSON as fields of dataclasses: whatever stands there, a field has a value of its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

Made = TypeVar("Made")
_Test = Callable[[object], bool]
_WORDS = {bool: "true or false", float: "a number", int: "a whole number", str: "a text"}


def made(kind: type[Made], data: Mapping[str, Any]) -> Made:
    """``kind`` of these fields, those within it made already. Raises ``TypeError`` for a value of
    another type, a field that is missing, and one that is not known."""
    tests = _tests(cast(Any, kind))
    for name, value in data.items():
        if name in tests and not tests[name][0](value):
            raise TypeError(f"{name} must be {tests[name][1]}, is {value!r:.40}")
    return kind(**data)


@lru_cache
def _tests(kind: type[Any]) -> dict[str, tuple[_Test, str]]:
    """By field: whether a value has its type, and what that is called."""
    hints = get_type_hints(kind)
    return {
        field.name: (_test(hints[field.name]), _WORDS.get(hints[field.name], "of another type"))
        for field in fields(kind)
    }


def _test(hint: Any) -> _Test:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal or hint is str:
        # Words of a later release are for checks to refuse.
        return lambda value: isinstance(value, str)
    if hint is object:
        return lambda _: True
    if hint is float:
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, NoneType) or is_dataclass(hint):
        return lambda value: isinstance(value, hint)
    if origin is Mapping:
        inner = _test(arguments[1])
        return lambda value: isinstance(value, Mapping) and all(map(inner, value.values()))
    if origin is tuple:
        return _of_tuple(arguments)
    either = [_test(argument) for argument in arguments]
    return lambda value: any(test(value) for test in either)


def _of_tuple(arguments: Sequence[Any]) -> _Test:
    if arguments[-1] is ...:
        inner = _test(arguments[0])
        return lambda value: isinstance(value, tuple) and all(map(inner, value))
    parts = [_test(argument) for argument in arguments]
    return lambda value: (
        isinstance(value, tuple)
        and len(value) == len(parts)
        and all(test(part) for test, part in zip(parts, value, strict=True))
    )
