"""User rows into the models' inputs; a row that is not there becomes an empty history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.common.errors import (
    DeadlinePassed,
    Overloaded,
    PodiumError,
    Unavailable,
    UnknownFeatureView,
)
from services.ranker.arrays import BoolArray, Float32Array, Int64Array
from services.ranker.feature_rows import FeatureRows, View, empty_rows
from services.ranker.plan import BundleSpec
from services.ranker.ports import Model, PendingRows
from services.ranker.types import RankCommand, Reason


@dataclass(frozen=True, slots=True)
class UserInputs:
    """Inputs of B users: history ``items`` and ``actions`` int64 [B, L], right-aligned, 0 pads;
    ``features`` float32 [B, U]; ``repaired`` bool [B] where a feature was not finite."""

    items: Int64Array
    actions: Int64Array
    features: Float32Array
    repaired: BoolArray


def await_rows(pending: PendingRows, ids: Sequence[str]) -> tuple[FeatureRows, Reason | None]:
    """The rows of ``ids``; or rows without columns, and why."""
    try:
        return pending.result(), None
    except UnknownFeatureView:
        return empty_rows(ids), Reason.UNKNOWN_VIEW
    except DeadlinePassed:
        return empty_rows(ids), Reason.TIMEOUT
    except (Unavailable, Overloaded):
        return empty_rows(ids), Reason.UNAVAILABLE
    except PodiumError:
        return empty_rows(ids), Reason.FAILED


def time_left_s(commands: Sequence[RankCommand], most_s: float, now_s: float) -> float:
    """How long the rows of a micro-batch may take: at most ``most_s``, and half of what is left to
    the one of its callers who waits longest, so that there is time to answer without them.
    ``now_s`` is on the monotonic clock."""
    deadlines = [c.deadline_s for c in commands if c.deadline_s is not None]
    if len(deadlines) < len(commands):
        return most_s
    return max(0.0, min(most_s, (max(deadlines) - now_s) / 2))


def user_inputs(model: Model, spec: BundleSpec, rows: FeatureRows) -> UserInputs:
    """Inputs of all rows. A feature that is missing or not finite takes its default."""
    count, length = len(rows.ids), spec.sequence_length
    histories = [ids[-length:] for ids in rows.lists_of(range(count), spec.sequence_items)]
    done = [types[-length:] for types in rows.lists_of(range(count), spec.sequence_actions)]
    items = _right_aligned(
        histories, length, lambda ids: model.lookup(spec.sequence_vocabulary, ids)
    )
    actions = _right_aligned(done, length, model.lookup_actions)
    features = np.empty((count, len(spec.user_features)), np.float32)
    for at, name in enumerate(spec.user_features):
        column = rows.column(name)
        features[:, at] = spec.user_defaults[at] if column is None else column
    finite: BoolArray = np.isfinite(features)
    if not finite.all():
        features = np.where(finite, features, spec.user_defaults)
    return UserInputs(items, actions, features, _any_in_row(~finite))


def _right_aligned(
    lists: Sequence[Sequence[str]], length: int, lookup: Callable[[Sequence[str]], Int64Array]
) -> Int64Array:
    """Codes of lists of at most ``length`` values, int64 [lists, length], zeros before them."""
    sizes = np.array([len(values) for values in lists])
    aligned = np.zeros((len(lists), length), np.int64)
    flat = lookup([value for values in lists for value in values])
    aligned[np.arange(length)[None, :] >= length - sizes[:, None]] = flat
    return aligned


def _any_in_row(mask: BoolArray) -> BoolArray:
    found: BoolArray = np.logical_or.reduce(mask, axis=1)
    return found


class Nobody:
    """Users nothing is known of, for warming."""

    def __init__(self, ids: Sequence[str] = ()) -> None:
        self._ids = ids

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> Nobody:
        del view, timeout_s, sticky_ids
        return Nobody(ids)

    def ready(self, longest_s: float) -> bool:
        del longest_s
        return True

    def result(self) -> FeatureRows:
        return empty_rows(self._ids)
