"""Small folds for tests."""

from collections.abc import Sequence

import numpy as np

from offline.evaluation.fold import Fold
from offline.evaluation.ragged import Ragged

DAY_MS = 86_400_000


def small_fold(
    items: int,
    histories: Sequence[Sequence[int]],
    *,
    targets: Sequence[bool] | None = None,
    ages_days: Sequence[float] | None = None,
) -> Fold:
    """Everybody is asked; the truth is item 0, nothing is barred."""
    history = Ragged.of(histories)
    users, events = len(history), len(history.values)
    return Fold(
        items=tuple(f"item{index}" for index in range(items)),
        users=tuple(f"user{index}" for index in range(users)),
        history=history,
        is_target=np.array(targets if targets is not None else [True] * events, dtype=np.bool_),
        age_ms=np.array([int(a * DAY_MS) for a in ages_days or [0.0] * events], dtype=np.int64),
        asked=np.arange(users, dtype=np.int64),
        truth=Ragged.of([[0]] * users),
        barred=Ragged.of([[]] * users),
        available=np.ones(items, dtype=np.bool_),
    )
