"""JSON values as JavaScript converts and compares them (ECMA-262, sections 6 and 7).

GrowthBook's specification leans on JavaScript: what is hashed is ``String(value)``, conditions
compare with its rules. Values are what JSON knows: None, bool, int, float, str, list, dict.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_RADIX = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)", re.ASCII)
_SPACES = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    chr(code) for code in range(0x2000, 0x200B)
)
_EXACT = 1 << 53
_INDEX = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)


def is_number(value: object) -> bool:
    """Whether JavaScript calls it a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number_text(number: float) -> str:
    """``String(number)``: 123.0 is "123", 1e21 is "1e+21", 0.0000001 is "1e-7"."""
    if isinstance(number, int):
        if -_EXACT <= number <= _EXACT:
            return str(number)
        try:
            number = float(number)
        except OverflowError:
            return "Infinity" if number > 0 else "-Infinity"
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    if number.is_integer() and abs(number) <= _EXACT:
        return str(int(number))
    sign = "-" if number < 0 else ""
    # Python's repr and JavaScript agree on the digits (the fewest that give the number again).
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    return sign + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    """Digits with the decimal point after the first ``point`` of them."""
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    power = point - 1
    shown = digits if count == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{shown}e{'+' if power > 0 else '-'}{abs(power)}"


def text(value: object) -> str:
    """``String(value)``."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, Sequence):
        return ",".join("" if part is None else text(part) for part in value)
    return "[object Object]"


def number(value: object) -> float:
    """``Number(value)``; NaN where it is none."""
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if value is None:
        return 0.0
    written = text(value).strip(_SPACES)
    if not written:
        return 0.0
    if _NUMBER.fullmatch(written):
        return float(written)
    if _RADIX.fullmatch(written):
        return number(int(written, 0))
    infinite = {"Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf}
    return infinite.get(written, math.nan)


def truthy(value: object) -> bool:
    """``Boolean(value)``: empty lists and objects are true."""
    if isinstance(value, Sequence | Mapping) and not isinstance(value, str):
        return True
    return bool(value) and value == value  # noqa: PLR0124 - NaN is the one that differs


def same(left: object, right: object) -> bool:
    """``left === right``; two lists or objects are never the same one."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str) and left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return number(left) == number(right)
    return False


def less(left: object, right: object, *, or_equal: bool = False) -> bool:
    """``left < right``, or ``left <= right``; false where either is not a number."""
    first, second = _primitive(left), _primitive(right)
    if isinstance(first, str) and isinstance(second, str):
        return text_less(first, second, or_equal=or_equal)
    low, high = number(first), number(second)
    return low <= high if or_equal else low < high


def text_less(left: str, right: str, *, or_equal: bool = False) -> bool:
    """``left < right`` of two texts, which JavaScript orders by UTF-16 units."""
    if left.isascii() and right.isascii():
        return left <= right if or_equal else left < right
    first, second = units_of_text(left), units_of_text(right)
    return first <= second if or_equal else first < second


def units_of_text(value: str) -> bytes:
    """UTF-16 units of a text, the upper byte of each first."""
    return value.encode("utf-16-be", "surrogatepass")


def json_text(value: object) -> str:
    """``JSON.stringify(value)``, which tells lists and objects apart."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value) if math.isfinite(number(value)) else "null"
    if isinstance(value, Sequence):
        return f"[{','.join(json_text(part) for part in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{json_text(k)}:{json_text(value[k])}' for k in _key_order(value))}}}"
    return text(value)


def at_path(value: object, path: Sequence[str]) -> object:
    """What is at a path of keys, None where nothing is."""
    for key in path:
        if isinstance(value, Mapping):
            if key not in value:
                return None
            value = value[key]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if key == "length":
                value = len(value)
            elif _INDEX.fullmatch(key) and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        else:
            return None
    return value


def _primitive(value: object) -> object:
    is_compound = isinstance(value, Sequence | Mapping) and not isinstance(value, str)
    return text(value) if is_compound else value


def _key_order(value: Mapping[Any, Any]) -> list[str]:
    """Keys of an object: those that are array indices by number, then the others as they came."""
    indices = [key for key in value if _INDEX.fullmatch(key)]
    return sorted(indices, key=int) + [key for key in value if not _INDEX.fullmatch(key)]
