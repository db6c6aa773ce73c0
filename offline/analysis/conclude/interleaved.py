"""Which of two rankings in one slate brings more."""

from __future__ import annotations

import numpy as np

from offline.analysis.model import Preference
from offline.analysis.plan import AnalysisPlan
from offline.analysis.statistics.interleaving import team_draft
from offline.analysis.units.table import UnitTable


def preferences_of(plan: AnalysisPlan, table: UnitTable) -> tuple[Preference, ...]:
    """The preference by each metric that was credited, of variants that two persons saw or more."""
    found = []
    for shown in table.credits:
        for metric in plan.metrics:
            earned = shown.earned.get(metric)
            if earned is None or len(np.unique(shown.unit)) < 2:
                continue
            control, treatment = shown.teams
            told = team_draft(shown.unit, earned[:, 0], earned[:, 1], alpha=plan.alpha)
            found.append(
                Preference(
                    variant=shown.variant,
                    metric=metric,
                    control=control,
                    treatment=treatment,
                    preference=told.preference,
                    lower=told.lower,
                    upper=told.upper,
                    p_value=told.p_value,
                    wins=told.wins,
                    losses=told.losses,
                    ties=told.ties,
                )
            )
    return tuple(found)
