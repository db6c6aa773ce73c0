"""How many steps Python's engine, which goes back and tries again, may take for a text.

A bound, not a measure: every way through the pattern counts, whether or not a text has it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from services.common.assign.patterns.tree import ASSERTIONS, LITERALS, REFERENCES, REPEATS, Tree

ENDLESS: Final = 1 << 60
"""As many as make no difference any more."""


class _Cost(NamedTuple):
    """``ways``: how many ends there may be from one start; ``steps``: until all are tried."""

    ways: int
    steps: int


def search_steps(tree: Tree, characters: int) -> int:
    """Most steps of a search through a text of so many characters; at most ``ENDLESS``."""
    starts = 1 if _is_anchored(tree) else characters + 1
    return min(ENDLESS, starts * _sequence(tree, characters).steps)


def _is_anchored(tree: Tree) -> bool:
    if not len(tree):
        return False
    operation, argument = tree[0]
    if operation.name == "SUBPATTERN":
        return _is_anchored(argument[3])
    return bool(operation.name == "AT" and argument.name == "AT_BEGINNING")


def _sequence(tree: Tree, characters: int) -> _Cost:
    ways, steps = 1, 1
    for operation, argument in tree:
        cost = _node(operation.name, argument, characters)
        steps = min(ENDLESS, steps + ways * cost.steps)
        ways = min(ENDLESS, ways * cost.ways)
    return _Cost(ways, steps)


def _node(name: str, argument: object, characters: int) -> _Cost:
    arguments = argument if isinstance(argument, tuple) else ()
    if name in LITERALS or name == "AT":
        return _Cost(1, 1)
    if name == "SUBPATTERN":
        return _sequence(arguments[3], characters)
    if name == "BRANCH":
        parts = [_sequence(part, characters) for part in arguments[1]]
        ways, steps = sum(part.ways for part in parts), sum(part.steps for part in parts)
        return _Cost(min(ENDLESS, ways), min(ENDLESS, 1 + steps))
    if name in REPEATS:
        least, most, body = arguments
        return _repeat(least, most, body, characters)
    if name in ASSERTIONS:
        return _Cost(1, _sequence(arguments[1], characters).steps)
    if name in REFERENCES:
        # What a group found is as long as the text at most.
        return _Cost(1, 1 + characters) if name == "GROUPREF" else _Cost(ENDLESS, ENDLESS)
    return _Cost(ENDLESS, ENDLESS)


def _repeat(least: int, most: int, body: Tree, characters: int) -> _Cost:
    once = _sequence(body, characters)
    shortest, _ = body.getwidth()
    if shortest == 0 and most > 1:
        # Rounds that take nothing: the engines don't agree on how many there may be.
        return _Cost(ENDLESS, ENDLESS)
    rounds = min(most, characters // max(1, shortest) + 1)
    if once.ways == 1:
        return _Cost(max(1, rounds - least + 1), 1 + rounds * (1 + once.steps))
    ways, steps, entered = 0, 1, 1
    for done in range(rounds + 1):
        ways += entered if done >= least else 0
        steps += entered * (1 + once.steps)
        entered *= once.ways
        if steps >= ENDLESS or ways >= ENDLESS:
            return _Cost(ENDLESS, ENDLESS)
    return _Cost(max(1, ways), steps)
