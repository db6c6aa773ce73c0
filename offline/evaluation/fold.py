"""What every system is asked, whatever the log: histories up to a cut, and what came after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.ragged import Ragged, Rows


@dataclass(frozen=True)
class Fold:
    """One split of one log. Items and users are rows; all arrays of items hold item rows.

    ``items``: ids [I]; their order breaks ties. ``users``: ids [U], every user with an event before
    the cut or a question after it. ``history`` [U]: items of the sequence, oldest first, before the
    cut. ``is_target`` bool [total history]: the event is of the kind that is predicted, such as a
    purchase. ``age_ms`` int64 [total history]: time from the event to the cut; zeros where the log
    has no clock. ``asked`` int64 [n]: users that are evaluated. ``truth`` [n]: what they chose
    after the cut, each at least one. ``barred`` [n]: what may not be ranked for them (already
    owned). ``available`` bool [I]: what may be ranked for anybody.
    """

    items: tuple[str, ...]
    users: tuple[str, ...]
    history: Ragged
    is_target: NDArray[np.bool_]
    age_ms: Rows
    asked: Rows
    truth: Ragged
    barred: Ragged
    available: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if len(self.history) != len(self.users) or len(self.available) != len(self.items):
            raise ValueError("a fold's history and availability must cover its users and items")
        if not len(self.asked) == len(self.truth) == len(self.barred):
            raise ValueError("a fold's questions, truths and bars must be of equal number")
        if len(self.truth) and self.truth.lengths.min() < 1:
            raise ValueError("every question of a fold needs a true item")


def leave_last(
    items: tuple[str, ...],
    users: tuple[str, ...],
    sequences: Ragged,
    *,
    held_out: int = 1,
    sample: int | None = None,
    seed: int = 0,
) -> Fold:
    """Each user's ``held_out``-th item from the end is the truth, what precedes it the history.

    ``held_out`` 1 is the test, 2 the validation. Users without a single item before the truth are
    not asked, nor those whose truth stands in their history (it is barred, nothing could rank it).
    ``sample`` asks that many random users.
    """
    kept = np.maximum(sequences.lengths - held_out, 0)
    within = np.arange(len(sequences.values)) - sequences.offsets[:-1][sequences.owners]
    before = within < kept[sequences.owners]
    history = Ragged.grouped(sequences.owners[before], sequences.values[before], len(users))
    asked = np.flatnonzero(kept > 0).astype(np.int64)
    truth = sequences.values[sequences.offsets[:-1][asked] + kept[asked]]
    pairs = sequences.owners[before] * len(items) + sequences.values[before]
    new = ~np.isin(asked * len(items) + truth, pairs)
    asked, truth = asked[new], truth[new]
    if sample is not None and sample < len(asked):
        chosen = np.sort(np.random.default_rng(seed).choice(len(asked), sample, replace=False))
        asked, truth = asked[chosen], truth[chosen]
    return Fold(
        items=items,
        users=users,
        history=history,
        is_target=np.ones(len(history.values), dtype=np.bool_),
        age_ms=np.zeros(len(history.values), dtype=np.int64),
        asked=asked,
        truth=Ragged(truth, np.arange(len(truth) + 1, dtype=np.int64)),
        barred=history.take(asked),
        available=np.ones(len(items), dtype=np.bool_),
    )
