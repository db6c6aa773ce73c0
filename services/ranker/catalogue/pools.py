"""Dictionaries of the texts and lists in a table. They only grow: codes stay what they are.

One thread adds; another may read meanwhile what an earlier version of the table has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from services.ranker.arrays import Int32Array


class StringPool:
    """Strings by code, from 0; code 0 is the empty string, which stands for a missing value."""

    def __init__(self, values: Sequence[str] = ("",)) -> None:
        self.values: list[str] = list(values)
        self._codes: dict[str, int] = {value: code for code, value in enumerate(self.values)}

    def code(self, value: str) -> int:
        """Code of a value, which is added when it is new."""
        code = self._codes.get(value)
        if code is None:
            code = len(self.values)
            self.values.append(value)
            self._codes[value] = code
        return code

    def codes(self, values: Sequence[str]) -> Int32Array:
        """Codes of values, int32 [len(values)], adding new ones."""
        return np.fromiter((self.code(value) for value in values), np.int32, len(values))

    def code_of(self, value: str) -> int | None:
        """Code of a non-empty value; None when it is not known."""
        return self._codes.get(value) or None

    def known(self, values: Sequence[str]) -> list[int]:
        """Codes of the non-empty values that are known."""
        found = (self._codes.get(value, 0) for value in values)
        return [code for code in found if code]

    def having(self, value: str) -> Sequence[int]:
        """The code of a value, if it is known."""
        code = self._codes.get(value)
        return () if code is None else (code,)


class ListPool:
    """Lists of strings by code, from 0; code 0 is the empty list, which also stands for a missing
    one. A table has few different lists: what is asked of a list is asked once for all its rows."""

    def __init__(self, values: Iterable[Sequence[str]] = ((),)) -> None:
        self.values: list[tuple[str, ...]] = []
        self.sizes: list[int] = []
        self._codes: dict[tuple[str, ...], int] = {}
        self._having: dict[str, list[int]] = {}
        for value in values:
            self.code(tuple(value))

    def code(self, value: tuple[str, ...]) -> int:
        """Code of a list, which is added when it is new. ``sizes`` counts its different members."""
        code = self._codes.get(value)
        if code is None:
            code = len(self.values)
            members = dict.fromkeys(value)
            self.sizes.append(len(members))
            self.values.append(value)
            for member in members:
                self._having.setdefault(member, []).append(code)
            self._codes[value] = code
        return code

    def having(self, member: str) -> Sequence[int]:
        """Codes of the lists with a member, ascending; of lists added later, too."""
        return self._having.get(member, ())
