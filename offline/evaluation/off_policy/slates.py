"""Logged slates and predicted rewards as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.errors import InvalidArgument

Values = NDArray[np.float64]
Groups = NDArray[np.int64]

# What rounding may leave above log 1.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class LoggedSlates:
    """``n`` slates of ``k`` positions that a logging policy drew, best position first.

    - ``rewards`` [n, k]: what each position earned.
    - ``log_propensities`` [n, k]: log-probability with which the logging policy took the item.
    - ``new_log_propensities`` [n, k]: the same of the new policy; -inf where it never takes it.
    - ``unsupported`` [n], if known: the new policy's mass on what the logging policy could not
      take at that moment.
    - ``groups`` [n], if given: slates of one group (a user) depend on one another; ids from 0.

    For the reward models cascade and whole slate the log-propensities are conditional on the items
    before. For the model per position they are marginal: of this item at this position, whatever
    stands before (the two agree where positions are drawn independently of one another). Positions
    that a policy does not draw (pins, the end of a short slate) have 0 in both. Raises
    ``InvalidArgument`` for other shapes, values that are not finite and propensities above 1.
    """

    rewards: Values
    log_propensities: Values
    new_log_propensities: Values
    unsupported: Values | None = None
    groups: Groups | None = None

    def __post_init__(self) -> None:
        shape = self.rewards.shape
        if len(shape) != 2 or 0 in shape:
            raise InvalidArgument.field("rewards", f"must be [n, k], both at least 1: {shape}")
        for name in ("log_propensities", "new_log_propensities"):
            _require_shape(name, getattr(self, name), shape)
        for name in ("unsupported", "groups"):
            if getattr(self, name) is not None:
                _require_shape(name, getattr(self, name), shape[:1])
        _require("rewards", np.isfinite(self.rewards), "must be finite")
        logged = self.log_propensities
        possible = np.isfinite(logged) & (logged <= _ROUNDING)
        _require("log_propensities", possible, "must be of what was possible: finite, at most 0")
        new = self.new_log_propensities
        _require("new_log_propensities", new <= _ROUNDING, "must be at most 0 and not NaN")
        if self.unsupported is not None:
            share = (self.unsupported >= 0.0) & (self.unsupported <= 1.0 + _ROUNDING)
            _require("unsupported", share, "must be in [0, 1]")
        if self.groups is not None:
            _require("groups", self.groups >= 0, "must be at least 0")

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Predictions:
    """What a model expects the slates to earn; [n, k] each, in the unit of the rewards.

    ``logged`` is about what was shown, ``new`` about what the new policy would show. Each reward
    model reads them its own way:

    - per position: ``logged`` the reward of the item at the position; ``new`` its mean over the
      new policy's items there;
    - cascade: ``logged`` the rewards from this position to the end, given the items up to and with
      it and the new policy after it; ``new`` its mean over the new policy's items there, given the
      items before;
    - whole slate: the same, of all the slate's rewards, since each may depend on what comes after.

    Where the log's own rewards taught the model, each slate's prediction must come from a model
    that did not see it (cross-fitting), or the estimate is biased.
    """

    logged: Values
    new: Values

    def __post_init__(self) -> None:
        _require_shape("new", self.new, self.logged.shape)
        _require("logged", np.isfinite(self.logged), "must be finite")
        _require("new", np.isfinite(self.new), "must be finite")


def _require_shape(
    field: str, values: NDArray[np.float64] | NDArray[np.int64], shape: tuple[int, ...]
) -> None:
    if values.shape != shape:
        raise InvalidArgument.field(field, f"must be {list(shape)}: {list(values.shape)}")


def _require(field: str, holds: NDArray[np.bool_], limit: str) -> None:
    wrong = int(np.size(holds) - np.count_nonzero(holds))
    if wrong:
        raise InvalidArgument.field(field, f"{limit}; {wrong} of {holds.size} are not")
