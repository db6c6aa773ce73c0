"""Team-draft interleaving: two rankings in one slate, credits for what each one's items bring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr

from offline.analysis.statistics.arrays import checked, same_length
from offline.analysis.statistics.comparison import critical_value, two_sided_p_value
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class Interleaving:
    """Which ranking users prefer, treatment against control.

    ``preference``: (wins + ties / 2) / users - 1/2, in [-1/2, 1/2], 0 for none, with its interval
    and p-value by t; ``sign_p_value`` is exact and leaves ties out. ``credit_difference`` and its
    p-value: treatment's less control's credits of a user, on average. Wins, losses and ties are
    users.
    """

    preference: float
    lower: float
    upper: float
    p_value: float
    sign_p_value: float
    credit_difference: float
    credit_p_value: float
    wins: int
    losses: int
    ties: int


def team_draft(
    users: ArrayLike,
    control_credits: ArrayLike,
    treatment_credits: ArrayLike,
    *,
    alpha: float = 0.05,
) -> Interleaving:
    """From credits of each team [slates] and whose slate it was [slates].

    Team draft: Radlinski, Kurup & Joachims 2008. The preference is Delta_AB of Chapelle, Joachims,
    Radlinski & Yue 2012, "Large-Scale Validation and Analysis of Interleaved Search Evaluation",
    by user: a user's slates are no independent observations, so credits of each are added up first.
    Raises InvalidArgument for fewer than two users.
    """
    control = checked("control_credits", control_credits)
    treatment = checked("treatment_credits", treatment_credits)
    same_length("treatment_credits", treatment, control)
    index = np.unique(np.asarray(users), return_inverse=True)[1]
    if len(index) != len(control):
        raise InvalidArgument.field("users", f"has {len(index)} for {len(control)} slates")
    differences = np.bincount(index, weights=treatment - control)
    count = len(differences)
    if count < 2:
        raise InvalidArgument.field("users", f"needs at least 2, has {count}")
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    votes = np.sign(differences) / 2.0
    freedom = float(count - 1)
    preference, error = float(votes.mean()), float(votes.std(ddof=1) / np.sqrt(count))
    reach = critical_value(alpha, freedom) * error
    credit, credit_error = float(differences.mean()), float(differences.std(ddof=1))
    decided = wins + losses
    return Interleaving(
        preference=preference,
        lower=max(preference - reach, -0.5),
        upper=min(preference + reach, 0.5),
        p_value=two_sided_p_value(preference, error, freedom),
        sign_p_value=min(1.0, 2.0 * float(bdtr(min(wins, losses), decided, 0.5)))
        if decided
        else 1.0,
        credit_difference=credit,
        credit_p_value=two_sided_p_value(credit, credit_error / np.sqrt(count), freedom),
        wins=wins,
        losses=losses,
        ties=count - decided,
    )
