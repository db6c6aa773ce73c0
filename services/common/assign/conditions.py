"""Targeting conditions: GrowthBook's MongoDB-like expressions, compiled into closures once.

Followed to the letter where a condition is well-formed: comparisons are JavaScript's, a missing
attribute is null. What is malformed is refused when definitions are read, not when they decide.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeGuard

from services.common.assign import javascript
from services.common.assign.patterns.pattern import Pattern
from services.common.assign.versions import padded_version

Predicate = Callable[[Any], bool]
"""Whether a value passes."""

SavedGroups = Mapping[str, Collection[object]]
"""Lists of values by id, which ``$inGroup`` names; or what ``known_groups`` made of them."""

MAX_DEPTH = 32
_KEPT_VERSIONS = 256
_LOGICAL = frozenset({"$or", "$nor", "$and", "$not"})


class ConditionError(ValueError):
    """A condition is malformed; ``path`` says where in it."""

    def __init__(self, path: Sequence[str | int], problem: str) -> None:
        super().__init__(problem)
        self.path = tuple(path)
        self.problem = problem


def compile_condition(
    condition: object, groups: SavedGroups, refused: list[ConditionError] | None = None
) -> Predicate:
    """A predicate over the attributes of a request. ``refused`` takes patterns that can't be
    searched for, which then are found nowhere, as GrowthBook has it. Raises ``ConditionError`` for
    whatever else is malformed, and without ``refused`` for patterns, too."""
    return _Compiler(groups, refused).condition(condition, ())


def attributes_named(condition: object) -> Iterator[str]:
    """Names of the attributes, at the top level, that a condition looks at."""
    if not isinstance(condition, Mapping):
        return
    for key, value in condition.items():
        if key == "$not":
            yield from attributes_named(value)
        elif key in _LOGICAL:
            for part in value:
                yield from attributes_named(part)
        else:
            yield key.split(".")[0]


def _is_operators(value: object) -> bool:
    """Whether it is an object all of whose keys are operators."""
    return isinstance(value, Mapping) and bool(value) and all(k[:1] == "$" for k in value)


def _all_of(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) and second(value)
    return lambda value: all(test(value) for test in tests)


def _any_of(tests: Sequence[Predicate]) -> Predicate:
    # GrowthBook: an empty $or is true.
    if not tests:
        return lambda _: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) or second(value)
    return lambda value: any(test(value) for test in tests)


def _negated(test: Predicate) -> Predicate:
    return lambda value: not test(value)


def _never(_: Any) -> bool:
    return False


class _Compiler:
    def __init__(self, groups: SavedGroups, refused: list[ConditionError] | None) -> None:
        self._groups = groups
        self._refused = refused

    def condition(self, condition: object, at: tuple[str | int, ...]) -> Predicate:
        """Of an object whose keys are attribute paths or $and, $or, $nor, $not."""
        if len(at) > MAX_DEPTH:
            raise ConditionError(at, f"is nested more than {MAX_DEPTH} deep")
        if not isinstance(condition, Mapping):
            raise ConditionError(at, "must be a mapping")
        tests: list[Predicate] = []
        for key, value in condition.items():
            here = (*at, key)
            if key == "$not":
                tests.append(_negated(self.condition(value, here)))
            elif key in _LOGICAL:
                if not _is_list(value):
                    raise ConditionError(here, "must be a list")
                parts = [self.condition(part, (*here, i)) for i, part in enumerate(value)]
                if key == "$and":
                    tests.append(_all_of(parts))
                else:
                    either = _any_of(parts)
                    tests.append(either if key == "$or" else _negated(either))
            else:
                tests.append(_at(key, self.value(value, here)))
        return _all_of(tests)

    def value(
        self, expected: object, at: tuple[str | int, ...], *, insensitive: bool = False
    ) -> Predicate:
        """Of what stands behind an attribute: a value to equal, or operators."""
        if len(at) > MAX_DEPTH:
            raise ConditionError(at, f"is nested more than {MAX_DEPTH} deep")
        if isinstance(expected, str):
            if insensitive:
                lowered = expected.lower()
                return lambda value: javascript.text(value).lower() == lowered
            return lambda value: (
                value == expected if isinstance(value, str) else javascript.text(value) == expected
            )
        if isinstance(expected, bool):
            return lambda value: value is not None and javascript.truthy(value) is expected
        if isinstance(expected, int | float):
            wanted = javascript.number(expected)
            return lambda value: javascript.number(value) == wanted
        if expected is None:
            return lambda value: value is None
        if not isinstance(expected, Mapping) or not _is_operators(expected):
            written = javascript.json_text(expected)
            return lambda value: javascript.json_text(value) == written
        return _all_of(
            [self._operator(name, given, (*at, name)) for name, given in expected.items()]
        )

    def _operator(self, name: str, given: Any, at: tuple[str | int, ...]) -> Predicate:
        if name in _COMPARISONS:
            return _COMPARISONS[name](given)
        if name == "$not":
            return _negated(self.value(given, at))
        if name == "$size":
            size = self.value(given, at)
            return lambda value: _is_list(value) and size(len(value))
        if name == "$elemMatch":
            operators = _is_operators(given)
            each = self.value(given, at) if operators else self.condition(given, at)
            return lambda value: (
                _is_list(value) and any(javascript.truthy(part) and each(part) for part in value)
            )
        if name in ("$all", "$alli"):
            if not _is_list(given):
                return _never
            tests = [
                self.value(part, (*at, i), insensitive=name == "$alli")
                for i, part in enumerate(given)
            ]
            return lambda value: (
                _is_list(value) and all(any(test(part) for part in value) for test in tests)
            )
        if name in ("$inGroup", "$notInGroup"):
            if not isinstance(given, str):
                raise ConditionError(at, "must be the id of a saved group")
            member = _member(self._groups.get(given, ()))
            return member if name == "$inGroup" else _negated(member)
        if name in ("$regex", "$regexi"):
            return self._matches(given, at, insensitive=name == "$regexi")
        raise ConditionError(at, f"{name!r} is no operator")

    def _matches(self, given: object, at: tuple[str | int, ...], *, insensitive: bool) -> Predicate:
        if not isinstance(given, str):
            raise ConditionError(at, "must be a pattern")
        try:
            found_in = Pattern(given, insensitive=insensitive).is_found_in
        except ValueError as error:
            refusal = ConditionError(at, str(error))
            if self._refused is None:
                raise refusal from error
            self._refused.append(refusal)
            return _never
        return lambda value: found_in(javascript.text(value))


def _at(path: str, test: Predicate) -> Predicate:
    """A test of what is at a path of dots."""
    if "." not in path:
        return lambda attributes: test(
            attributes.get(path)
            if type(attributes) is dict
            else javascript.at_path(attributes, (path,))
        )
    keys = path.split(".")
    return lambda attributes: test(javascript.at_path(attributes, keys))


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _key(value: object) -> object:
    """Equal for values that are ``===``; None and lists, which equal nothing, aside."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float):
        return javascript.number(value)
    return value


def known_groups(groups: SavedGroups) -> SavedGroups:
    """The same groups, worked out once for all conditions that name them."""
    return {name: _known(values) for name, values in groups.items()}


def _known(expected: Collection[object]) -> frozenset[object]:
    if isinstance(expected, frozenset):
        return expected
    return frozenset(
        value if type(value) is str else _key(value)
        for value in expected
        if type(value) is str or isinstance(value, str | int | float | None)
    )


def _member(expected: Collection[object]) -> Predicate:
    """Whether a value, or one of a list of values, is among these."""
    known = _known(expected)

    def among(value: object) -> bool:
        if isinstance(value, str):
            return value in known
        if _is_list(value):
            return any(not _is_compound(part) and _key(part) in known for part in value)
        return not _is_compound(value) and _key(value) in known

    return among


def _is_compound(value: object) -> bool:
    return isinstance(value, Sequence | Mapping) and not isinstance(value, str)


def _folded(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _member_insensitive(expected: Sequence[object]) -> Predicate:
    member = _member([_folded(value) for value in expected])
    return lambda value: member(
        [_folded(part) for part in value] if _is_list(value) else _folded(value)
    )


def _in(given: object, *, insensitive: bool, negated: bool) -> Predicate:
    # GrowthBook: without a list neither $in nor $nin is true.
    if not isinstance(given, Sequence) or isinstance(given, str):
        return _never
    member = _member_insensitive(given) if insensitive else _member(given)
    return _negated(member) if negated else member


def _type_name(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if _is_list(value) else "object"


def _exists(given: object) -> Predicate:
    wanted = javascript.truthy(given)
    return lambda value: (value is not None) is wanted


def _version(compare: Callable[[str, str], bool]) -> Callable[[Any], Predicate]:
    def made(given: object) -> Predicate:
        wanted = padded_version(given)

        def outcome(value: object) -> bool:
            return compare(padded_version(value), wanted)

        # An app has few versions, and taking one apart takes longer than all else of an experiment.
        known = lru_cache(_KEPT_VERSIONS)(outcome)
        return lambda value: known(value) if type(value) is str else outcome(value)

    return made


def _equal(given: Any) -> Predicate:
    # A text equals nothing but a text, in Python, too.
    if type(given) is str:
        return lambda value: value == given
    return lambda value: javascript.same(value, given)


def _unequal(given: Any) -> Predicate:
    if type(given) is str:
        return lambda value: value != given
    return lambda value: not javascript.same(value, given)


def _ordered(
    of_numbers: Callable[[Any, Any], bool], of_all: Callable[[Any], Predicate]
) -> Callable[[Any], Predicate]:
    """A comparison: two numbers at once, everything else by JavaScript's rules."""

    def made(given: object) -> Predicate:
        otherwise = of_all(given)
        if type(given) is not int and type(given) is not float:
            return otherwise
        return lambda value: (
            of_numbers(value, given)
            if type(value) is float or type(value) is int
            else otherwise(value)
        )

    return made


_less = javascript.less
_text_less = javascript.text_less

_COMPARISONS: Mapping[str, Callable[[Any], Predicate]] = {
    "$eq": _equal,
    "$ne": _unequal,
    "$lt": _ordered(operator.lt, lambda given: lambda value: _less(value, given)),
    "$lte": _ordered(operator.le, lambda given: lambda value: _less(value, given, or_equal=True)),
    "$gt": _ordered(operator.gt, lambda given: lambda value: _less(given, value)),
    "$gte": _ordered(operator.ge, lambda given: lambda value: _less(given, value, or_equal=True)),
    "$exists": _exists,
    "$in": lambda given: _in(given, insensitive=False, negated=False),
    "$nin": lambda given: _in(given, insensitive=False, negated=True),
    "$ini": lambda given: _in(given, insensitive=True, negated=False),
    "$nini": lambda given: _in(given, insensitive=True, negated=True),
    "$type": lambda given: lambda value: _type_name(value) == given,
    "$veq": _version(lambda left, right: left == right),
    "$vne": _version(lambda left, right: left != right),
    "$vlt": _version(_text_less),
    "$vlte": _version(lambda left, right: _text_less(left, right, or_equal=True)),
    "$vgt": _version(lambda left, right: _text_less(right, left)),
    "$vgte": _version(lambda left, right: _text_less(right, left, or_equal=True)),
}
