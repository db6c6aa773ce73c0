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
        self._takes: dict[tuple[str, _Scopes], tuple[re.Pattern[str], _States]] = {}
        self._free: list[list[tuple[int, int]]] = []
        start = self._state()
        self._accepting: _States = 1 << self._sequence(tree, start, ())
        self._start: _States = 1 << start
        self._reached: dict[int, list[_States]] = {}
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
        return bool(self._all_reached(entered, place) & self._accepting)

    def _step(self, entered: _States, place: int, character: str) -> _States:
        """States after a character, those of a beginning there among them; or ``_FOUND``."""
        reached = self._all_reached(entered, place)
        if reached & self._accepting:
            return _FOUND
        taking = 0
        for takes, states in self._takes.values():
            if takes.match(character):
                taking |= states
        return self._start | (reached & taking) << 1

    def _all_reached(self, entered: _States, place: int) -> _States:
        """All states that are reached without a character."""
        known = self._reached.setdefault(place, [0] * len(self._free))
        found = 0
        while left := entered & ~found:
            state = left.bit_length() - 1
            if not known[state]:
                known[state] = self._reached_from(state, place)
            found |= known[state]
        return found

    def _reached_from(self, state: int, place: int) -> _States:
        found, waiting = 1 << state, [state]
        while waiting:
            for target, condition in self._free[waiting.pop()]:
                if not found >> target & 1 and (not condition or condition & place):
                    found |= 1 << target
                    waiting.append(target)
        return found

    def _state(self) -> int:
        if len(self._free) == MAX_STATES:
            raise NoAutomatonError(f"needs more than {MAX_STATES} states, repeats written out")
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
        takes, states = self._takes.get(key) or (one_character(self._tree, node, scopes), 0)
        # What comes after a character has the next number: ``_step`` shifts.
        state, end = self._state(), self._state()
        self._free[start].append((state, 0))
        self._takes[key] = takes, states | 1 << state
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
