"""Cross features: what a user's row says of one item, by pair lists and by numbers. Pure.

Training and serving compute them here, from the same columns: the user's lists (the ids that a
``pairs`` or ``last_n`` feature holds and, beside them, a number each) are joined with what each
item says of itself. Texts are codes of any dictionary that both sides share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListedCross(_Strict):
    """What the user's list ``ids`` says of the item's string feature ``item``.

    With ``values``, a ``pairs`` feature beside ``ids``: the number there; else how often the list
    has it. ``first``: only so many of the latest pairs count. ``missing`` where none is.
    """

    kind: Literal["listed"]
    ids: str
    item: str
    values: str | None = None
    first: int | None = Field(default=None, ge=1)
    missing: float = Field(default=0.0, allow_inf_nan=False)
    transform: Literal["none", "log1p"] = "none"


class RatioCross(_Strict):
    """log(item / user) of a feature of the item and one of the user, which both models read
    themselves; 0 where one is not above 0."""

    kind: Literal["ratio"]
    user: str
    item: str


class AffinityCross(_Strict):
    """How much the item goes with the history that the user tower reads, by the bundle's table:
    see ``affinities.Affinities.of_histories``.

    An item of the history counts by ``decay`` to the power of its age, 0 for the latest. Sums
    below ``least`` are all the same.
    """

    kind: Literal["affinity"]
    decay: float = Field(default=0.95, gt=0, le=1)
    least: float = Field(default=0.01, gt=0, lt=1)


Cross = Annotated[ListedCross | RatioCross | AffinityCross, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Entries:
    """Lists of B users, entry after entry: ``owner`` int64 [M] is the user's row, ``code`` int64
    [M] that of the text, never 0, ``value`` float32 [M]."""

    owner: IntArray
    code: IntArray
    value: FloatArray


def listed(
    entries: Entries, users: int, width: int, wanted: NDArray[np.integer], missing: float
) -> FloatArray:
    """Sum of the values of each item's entries, float32 [N]; ``missing`` where it has none.

    ``wanted`` [N]: the item's user x ``width`` + the code of the item's own text, 0 where it has
    none; codes are below ``width``. Costs memory for ``users`` x ``width`` numbers.
    """
    table = np.full(users * width, missing, np.float32)
    keys = entries.owner * width + entries.code
    table[keys] = 0
    np.add.at(table, keys, entries.value)
    found: FloatArray = table[wanted]
    return found


def ratio(user: FloatArray, item: FloatArray) -> FloatArray:
    """log(item / user), float32 [N], of numbers [N] each; 0 where one is not above 0."""
    both = (user > 0) & (item > 0)
    safe = np.where(both, item, 1) / np.where(both, user, 1)
    logs: FloatArray = np.log(safe).astype(np.float32)
    return logs


def unknown(crosses: Iterable[Cross]) -> FloatArray:
    """Cross features [X] of a user of whom nothing is known."""
    return np.array([_missing(cross) for cross in crosses], np.float32)


def _missing(cross: Cross) -> float:
    if isinstance(cross, AffinityCross):
        return math.log(cross.least)
    return cross.missing if isinstance(cross, ListedCross) else 0.0
