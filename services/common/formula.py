"""Arithmetic over features: ``(watched_ms_7d / 1000 + comments_7d) / duration_s``.

Numbers, names, + - * /, parentheses, a leading minus, and min, max (two or more arguments), log1p
and abs (one). Pure: a formula is parsed once into a tree that any backend can walk.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

FUNCTIONS: Final[Mapping[str, int | None]] = {"min": None, "max": None, "log1p": 1, "abs": 1}
"""Number of arguments of each function; None for two or more."""

_OPERATORS: Final[Mapping[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_MAX_DEPTH = 50


@dataclass(frozen=True)
class Constant:
    """A number."""

    value: float


@dataclass(frozen=True)
class Name:
    """A feature."""

    name: str


@dataclass(frozen=True)
class Call:
    """``operator`` is one of + - * / (two operands) or a name of ``FUNCTIONS``."""

    operator: str
    operands: tuple[Node, ...]


Node = Constant | Name | Call


def parse_formula(text: str) -> Node:
    """The tree of ``text``. Raises ``ValueError`` that says what is not allowed in it."""
    if "#" in text:
        raise ValueError(f"{text!r} holds a comment")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"{text!r} is no arithmetic expression") from error
    return _node(tree.body, 0)


def names_in(node: Node) -> tuple[str, ...]:
    """Names that a formula reads, each once, in order of first use."""
    if isinstance(node, Name):
        return (node.name,)
    if isinstance(node, Constant):
        return ()
    return tuple(dict.fromkeys(name for operand in node.operands for name in names_in(operand)))


def evaluator(node: Node) -> Callable[[Mapping[str, float]], float | None]:
    """A function from the values of the names to the result in double precision.

    The result is None where it is not a finite number: a division by zero, log1p of -1 or less.
    """

    def evaluate(values: Mapping[str, float]) -> float | None:
        try:
            found = _evaluate(node, values)
        except (ZeroDivisionError, OverflowError, ValueError):
            return None
        return found if math.isfinite(found) else None

    return evaluate


def _node(tree: ast.expr, depth: int) -> Node:
    if depth > _MAX_DEPTH:
        raise ValueError(f"is nested more than {_MAX_DEPTH} deep")
    match tree:
        case ast.Constant(value=bool()):
            raise ValueError(f"{tree.value!r} is not a number")
        case ast.Constant(value=int() | float() as number):
            return Constant(_finite(number))
        case ast.Name(id=name):
            return Name(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Call("-", (Constant(0.0), _node(operand, depth + 1)))
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            both = (_node(left, depth + 1), _node(right, depth + 1))
            return Call(_OPERATORS[type(operator)], both)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            wanted = FUNCTIONS[name]
            if len(arguments) != wanted and not (wanted is None and len(arguments) > 1):
                raise ValueError(f"{name} takes {wanted or 'two or more'} arguments")
            return Call(name, tuple(_node(argument, depth + 1) for argument in arguments))
        case _:
            raise ValueError(
                f"{ast.unparse(tree)!r} is not allowed: a formula has numbers, names of features, "
                f"+ - * / and {', '.join(FUNCTIONS)}"
            )


def _finite(number: float) -> float:
    try:
        value = float(number)
    except OverflowError as error:
        raise ValueError("a number is too large") from error
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _evaluate(node: Node, values: Mapping[str, float]) -> float:
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Name):
        return float(values[node.name])
    operands = [_evaluate(operand, values) for operand in node.operands]
    match node.operator:
        case "+":
            return operands[0] + operands[1]
        case "-":
            return operands[0] - operands[1]
        case "*":
            return operands[0] * operands[1]
        case "/":
            return operands[0] / operands[1]
        case "min":
            return min(operands)
        case "max":
            return max(operands)
        case "log1p":
            return math.log1p(operands[0])
        case _:
            return abs(operands[0])
