"""Patterns as automata: one step a character, and never back.

All ways through a pattern are followed at once, as a set of states (K. Thompson, Regular
expression search algorithm, 1968); what a set becomes by a character is kept for the next time. So
no text takes longer than its length. There is no automaton for look-around and back-references.
"""

from __future__ import annotations

import re
from typing import Final

from services.common.assign.patterns.tree import (
    LITERALS,
    MAXREPEAT,
    REPEATS,
    Node,
    Tree,
    one_character,
)

MAX_STATES: Final = 1_024
"""A character of a pattern is two of them, once for each time that it may repeat."""

_KEPT_STEPS: Final = 4_096

_WORD: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")

_BEGINNING, _END, _BOUNDARY, _INSIDE = 1, 2, 4, 8
"""What is true of a place in a text."""

_CONDITIONS: Final = {
    "AT_BEGINNING": _BEGINNING,
    "AT_END_STRING": _END,
    "AT_BOUNDARY": _BOUNDARY,
    "AT_NON_BOUNDARY": _INSIDE,
}

_Scopes = tuple[tuple[int, int], ...]
_States = int
"""One bit a state."""

_FOUND: Final = -1


class NoAutomatonError(ValueError):
    """A pattern has none, or too large a one."""


class Automaton:
    """Raises ``NoAutomatonError`` where a pattern has none."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._takes: list[re.Pattern[str] | None] = []
        self._after: list[int] = []
        self._free: list[list[tuple[int, int]]] = []
        self._known: dict[tuple[str, _Scopes], re.Pattern[str]] = {}
        start = self._state()
        self._accepting = self._sequence(tree, start, ())
        self._start: _States = 1 << start
        self._steps: dict[tuple[_States, int, str], _States] = {}

    def searches(self, text: str) -> bool:
        """Whether the pattern is found anywhere in a text."""
        steps, entered, before, last = self._steps, self._start, False, len(text)
        for at, character in enumerate(text):
            word = character in _WORD
            place = (_INSIDE if word == before else _BOUNDARY) | (0 if at else _BEGINNING)
            before = word
            following = steps.get((entered, place, character))
            if following is None:
                if len(steps) >= _KEPT_STEPS:
                    # Other threads may be reading: they find nothing, and work it out.
                    steps.clear()
                following = self._step(entered, place, character)
                steps[entered, place, character] = following
            if following == _FOUND:
                return True
            entered = following
        place = (_BOUNDARY if before else _INSIDE) | _END | (0 if last else _BEGINNING)
        return self._accepting in self._reached(entered, place)

    def _step(self, entered: _States, place: int, character: str) -> _States:
        """States after a character, those of a beginning there among them; or ``_FOUND``."""
        reached = self._reached(entered, place)
        if self._accepting in reached:
            return _FOUND
        following = self._start
        for state in reached:
            takes = self._takes[state]
            if takes is not None and takes.match(character):
                following |= 1 << self._after[state]
        return following

    def _reached(self, entered: _States, place: int) -> set[int]:
        """All states that are reached without a character."""
        waiting = []
        while entered:
            lowest = entered & -entered
            waiting.append(lowest.bit_length() - 1)
            entered ^= lowest
        found = set(waiting)
        while waiting:
            for target, condition in self._free[waiting.pop()]:
                if target not in found and (not condition or condition & place):
                    found.add(target)
                    waiting.append(target)
        return found

    def _state(self) -> int:
        if len(self._free) == MAX_STATES:
            raise NoAutomatonError(f"needs more than {MAX_STATES} states, repeats written out")
        self._takes.append(None)
        self._after.append(-1)
        self._free.append([])
        return len(self._free) - 1

    def _sequence(self, tree: Tree, start: int, scopes: _Scopes) -> int:
        """Adds what a tree takes, from a state on; the state after it."""
        at = start
        for node in tree:
            at = self._node(node, at, scopes)
        return at

    def _node(self, node: Node, start: int, scopes: _Scopes) -> int:
        operation, argument = node
        name = operation.name
        if name in LITERALS:
            return self._character(node, start, scopes)
        if name == "AT" and argument.name in _CONDITIONS:
            end = self._state()
            self._free[start].append((end, _CONDITIONS[argument.name]))
            return end
        if name == "SUBPATTERN":
            _, added, removed, body = argument
            inner = (*scopes, (added, removed)) if added or removed else scopes
            return self._sequence(body, start, inner)
        if name == "BRANCH":
            end = self._state()
            for part in argument[1]:
                self._free[self._sequence(part, start, scopes)].append((end, 0))
            return end
        if name in REPEATS:
            least, most, body = argument
            return self._repeat(least, most, body, start, scopes)
        raise NoAutomatonError("looks around or back")

    def _character(self, node: Node, start: int, scopes: _Scopes) -> int:
        key = (repr(node), scopes)
        if key not in self._known:
            self._known[key] = one_character(self._tree, node, scopes)
        state, end = self._state(), self._state()
        self._free[start].append((state, 0))
        self._takes[state], self._after[state] = self._known[key], end
        return end

    def _repeat(self, least: int, most: int, body: Tree, start: int, scopes: _Scopes) -> int:
        at = self._state()
        self._free[start].append((at, 0))
        for _ in range(least):
            at = self._sequence(body, at, scopes)
        end = self._state()
        self._free[at].append((end, 0))
        if most == MAXREPEAT:
            again = self._state()
            self._free[at].append((again, 0))
            self._free[self._sequence(body, again, scopes)].append((again, 0))
            self._free[again].append((end, 0))
            return end
        for _ in range(most - least):
            at = self._sequence(body, at, scopes)
            self._free[at].append((end, 0))
        return end
