"""A condition's pattern, worked out so that no text can make it slow."""

from __future__ import annotations

import re
from typing import Final

from services.common.assign.patterns.automaton import Automaton, NoAutomatonError
from services.common.assign.patterns.steps import search_steps
from services.common.assign.patterns.translation import translated
from services.common.assign.patterns.tree import Tree, parsed

MAX_PATTERN_CHARACTERS: Final = 1_000
MAX_TEXT_CHARACTERS: Final = 1_024
"""No pattern is found in a longer text."""

MAX_STEPS: Final = 1 << 17
"""Of Python's engine, where there is an automaton to go on with."""

MAX_STEPS_ALONE: Final = 1 << 21
"""Where there is none."""

_LENGTHS: Final = (*(MAX_TEXT_CHARACTERS >> shift for shift in range(10)), 0)


class Pattern:
    """``direct``: up to how many characters a text is searched by Python's engine, which is quicker
    for short ones; longer ones go through the automaton."""

    def __init__(self, pattern: str, *, insensitive: bool) -> None:
        """A JavaScript pattern, without flags or with ``i``. Raises ``ValueError`` for one that is
        too long, that is not understood, or that may take too many steps."""
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise ValueError(f"has more than {MAX_PATTERN_CHARACTERS} characters")
        flags = re.IGNORECASE if insensitive else re.NOFLAG
        try:
            text = translated(pattern)
            self._search = re.compile(text, flags).search
            tree = parsed(text, flags)
            self.direct, self._automaton = _ways(tree)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is not a pattern that is understood: {error}") from error

    def is_found_in(self, text: str) -> bool:
        """Whether it is found anywhere in a text."""
        if len(text) <= self.direct:
            return self._search(text) is not None
        if len(text) > MAX_TEXT_CHARACTERS or self._automaton is None:
            return False
        return self._automaton.searches(text)


def _ways(tree: Tree) -> tuple[int, Automaton | None]:
    """How long a text may be for Python's engine, and what searches longer ones."""
    direct = _characters_within(tree, MAX_STEPS)
    if direct == MAX_TEXT_CHARACTERS:
        return direct, None
    try:
        return direct, Automaton(tree)
    except NoAutomatonError as error:
        if _characters_within(tree, MAX_STEPS_ALONE) == MAX_TEXT_CHARACTERS:
            return MAX_TEXT_CHARACTERS, None
        raise ValueError(
            f"may take more than {MAX_STEPS_ALONE} steps in {MAX_TEXT_CHARACTERS} characters, "
            f"and {error}"
        ) from error


def _characters_within(tree: Tree, most: int) -> int:
    """The longest text, of a few lengths, that takes at most so many steps; -1 for none."""
    return next((n for n in _LENGTHS if search_steps(tree, n) <= most), -1)
