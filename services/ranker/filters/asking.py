"""For whom filters are asked, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.ranker.feature_rows import FeatureRows, empty_rows
from services.ranker.types import Circumstances


@dataclass(frozen=True, slots=True)
class Asking:
    """One request: now in epoch milliseconds, its circumstances, and the user's row."""

    now_ms: int
    circumstances: Circumstances
    rows: FeatureRows
    row: int

    @classmethod
    def nobody(cls, now_ms: int) -> Asking:
        """Nothing is known of who asks."""
        return cls(now_ms, Circumstances(), empty_rows([""]), 0)

    def list_of(self, feature: str) -> Sequence[str]:
        """One of the user's list features; empty where it is not known."""
        return self.rows.strings_of(self.row, feature)

    def texts_of(self, feature: str) -> Sequence[str]:
        """A list feature of the user, or a string feature as a list of one."""
        text = self.rows.text_of(self.row, feature)
        return self.list_of(feature) if text is None else (text,)

    def number_of(self, feature: str) -> float | None:
        """A numeric feature of the user; None where it is not known, or is not finite."""
        number = self.rows.number_of(self.row, feature)
        return number if number is not None and math.isfinite(number) else None
