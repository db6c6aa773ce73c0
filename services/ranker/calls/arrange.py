"""Slates of the calls that select nothing, and what an answer takes over from the one before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from services.common.assign.assign import Assignment, Definitions
from services.ranker.arrays import Float32Array
from services.ranker.calls.candidates import likeness
from services.ranker.results import SIMILAR, slate_of
from services.ranker.selection.top_k import top_k
from services.ranker.state import ServingState
from services.ranker.tokens.format import digest_of
from services.ranker.types import Call, RankCommand
from services.ranker.work import Work


def held(
    assignments: Sequence[Assignment], definitions: Definitions, variants: Collection[bytes]
) -> list[Assignment]:
    """Assignments under the variants whose digests a token has: pages must not mix two variants,
    whatever became of the definitions meanwhile."""
    return [_held(assigned, definitions, variants) for assigned in assignments]


def _held(
    assigned: Assignment, definitions: Definitions, variants: Collection[bytes]
) -> Assignment:
    for variant in definitions.experiments[assigned.experiment_key].variants:
        if digest_of(assigned.experiment_key, variant.key) in variants:
            return replace(assigned, variant_key=variant.key)
    return assigned


def of_another_bundle(command: RankCommand, version: str) -> bool:
    """Whether the answer that a command follows was scored by another bundle than ``version``."""
    following = command.following
    return following is not None and following.bundle != digest_of(version)


def arrange(
    state: ServingState, work: Work, values: Float32Array, predictions: Float32Array
) -> None:
    """Makes the slate of a call that selects nothing: given items in their order with values [N]
    and predictions [N, O], or the most similar ones with their likeness in place of these."""
    command, plan = work.command, work.plan
    if command.call is Call.SCORE:
        work.slate = slate_of(state, work, np.arange(len(values)), values, predictions, ())
        return
    near = likeness(plan, command.item_ids[0], work.slots)
    best = top_k(near, plan.table.tie[work.slots], command.k or plan.spec.default_k)
    work.slate = slate_of(state, work, best, near, predictions[:, :0], [SIMILAR] * len(best))
