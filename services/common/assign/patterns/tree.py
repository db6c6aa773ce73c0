"""Patterns taken apart by Python's own parser, which has no public name."""

from __future__ import annotations

from re import _compiler, _parser  # type: ignore[attr-defined]
from typing import Any, Final

MAXREPEAT: Final[int] = _parser.MAXREPEAT

Node = tuple[Any, Any]
"""(operation, argument)."""

Tree = Any
"""Nodes one after another; ``getwidth()`` tells the fewest and most characters."""

LITERALS: Final = frozenset({"LITERAL", "NOT_LITERAL", "IN", "ANY"})
"""Operations that take one character."""

REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT"})
ASSERTIONS: Final = frozenset({"ASSERT", "ASSERT_NOT"})
REFERENCES: Final = frozenset({"GROUPREF", "GROUPREF_EXISTS"})


def parsed(pattern: str, flags: int) -> Tree:
    """A pattern taken apart. Raises ``re.error``, ``OverflowError`` and ``RecursionError``."""
    return _parser.parse(pattern, flags)


def one_character(tree: Tree, node: Node, scopes: tuple[tuple[int, int], ...]) -> Any:
    """What matches the one character that a node of ``tree`` takes, as a compiled pattern.
    ``scopes``: flags added and removed around it, the outermost first."""
    found = _parser.SubPattern(tree.state, [node])
    for added, removed in reversed(scopes):
        group = (_parser.SUBPATTERN, (None, added, removed, found))
        found = _parser.SubPattern(tree.state, [group])
    return _compiler.compile(found, tree.state.flags)
