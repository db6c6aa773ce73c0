"""Formulas of features as expressions, with the meaning of ``services.common.formula``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import ibis
import ibis.expr.types as ir

from services.common.formula import Constant, Name, Node


def formula_value(node: Node, values: Mapping[str, ir.FloatingValue]) -> ir.FloatingValue:
    """The result in double precision; null where it is not a finite number.

    ``values``: of the names, none of them null.
    """
    guards: list[ir.BooleanValue] = []
    result = _value(node, values, guards)
    guards.append(~result.isnan() & ~result.isinf())
    allowed = reduce(lambda left, right: left & right, guards)
    return ibis.ifelse(allowed.fill_null(False), result, ibis.null("float64"))


def _value(
    node: Node, values: Mapping[str, ir.FloatingValue], guards: list[ir.BooleanValue]
) -> ir.FloatingValue:
    if isinstance(node, Constant):
        return ibis.literal(node.value, "float64")
    if isinstance(node, Name):
        return values[node.name]
    operands = [_value(operand, values, guards) for operand in node.operands]
    match node.operator:
        case "+":
            return operands[0] + operands[1]
        case "-":
            return operands[0] - operands[1]
        case "*":
            return operands[0] * operands[1]
        case "/":
            # Backends differ in what they make of a zero: none gets to see one.
            guards.append(operands[1] != 0)
            return operands[0] / operands[1].nullif(0.0)
        case "min":
            return ibis.least(*operands)
        case "max":
            return ibis.greatest(*operands)
        case "log1p":
            guards.append(operands[0] > -1)
            return _log1p(ibis.ifelse(operands[0] > -1, operands[0], ibis.null("float64")))
        case _:
            return operands[0].abs()


def _log1p(x: ir.FloatingValue) -> ir.FloatingValue:
    """log(1 + x), accurate where x is small (Goldberg 1991, theorem 4)."""
    u = x + 1.0
    return ibis.ifelse(u == 1.0, x, u.ln() * x / (u - 1.0).nullif(0.0))
