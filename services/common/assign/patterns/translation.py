"""JavaScript's regular expressions in Python's syntax."""

from __future__ import annotations

import re

# What JavaScript's \s, \d and \w stand for; Python's know more digits and letters.
_CLASSES = {
    "d": "0-9",
    "w": "A-Za-z0-9_",
    "s": r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff",
}
_ANY = r"[^\n\r\u2028\u2029]"
_SAME_ESCAPES = frozenset("tnrvf0123456789xbB")


def translated(pattern: str) -> str:
    """A JavaScript pattern in Python's syntax. Raises ``ValueError`` for what has none."""
    found: list[str] = []
    at = 0
    in_class = False
    while at < len(pattern):
        part = pattern[at]
        if part == "\\":
            escape, at = _escape(pattern, at, in_class=in_class)
            found.append(escape)
            continue
        if in_class:
            in_class = part != "]"
            # Python reserves these inside a class.
            found.append("\\" + part if part in "[&~|" else part)
        elif part == "[":
            if pattern[at : at + 3] == "[^]":
                found.append(r"[\s\S]")
                at += 3
                continue
            if pattern[at : at + 2] == "[]":
                found.append("(?!)")
                at += 2
                continue
            in_class = True
            found.append(part)
            if pattern[at + 1 : at + 2] == "^":
                found.append("^")
                at += 1
        elif part == "$":
            found.append(r"\Z")
        elif part == ".":
            found.append(_ANY)
        elif pattern.startswith("(?<", at) and pattern[at + 3 : at + 4] not in ("=", "!"):
            found.append("(?P<")
            at += 2
        elif part == "(" and pattern[at + 1 : at + 3] in ("?P", "?#", "?("):
            raise ValueError(f"{pattern[at : at + 3]!r} is not of JavaScript")
        else:
            found.append(part)
        at += 1
    return "".join(found)


def _escape(pattern: str, at: int, *, in_class: bool) -> tuple[str, int]:
    """What an escape at ``at`` becomes, and where it ends."""
    what = pattern[at + 1 : at + 2]
    if not what:
        raise ValueError("ends with a backslash")
    end = at + 2
    if what in _CLASSES:
        return (_CLASSES[what] if in_class else f"[{_CLASSES[what]}]"), end
    if what.lower() in _CLASSES:
        if in_class and what != "S":
            raise ValueError(f"\\{what} inside of brackets is not supported")
        return (r"\S" if in_class else f"[^{_CLASSES[what.lower()]}]"), end
    if what == "b" and not in_class:
        return r"(?a:\b)", end
    if what == "B" and not in_class:
        # In Python an empty text has no place of this kind.
        return r"(?:(?a:\B)|^\Z)", end
    if what == "k" and pattern[end : end + 1] == "<":
        close = pattern.find(">", end)
        if close < 0:
            raise ValueError("has a name of a group that does not end")
        return f"(?P={pattern[end + 1 : close]})", close + 1
    if what == "u":
        code = pattern[end : end + 4]
        if re.fullmatch("[0-9a-fA-F]{4}", code):
            return f"\\u{code}", end + 4
        return "u", end
    if what in _SAME_ESCAPES:
        return f"\\{what}", end
    # Any other letter stands for itself there; Python wants it plain.
    return (what if what.isalnum() else re.escape(what)), end
