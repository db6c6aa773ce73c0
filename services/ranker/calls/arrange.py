"""Slates of the calls that select nothing, and what an answer takes over from the one before."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from services.common.assign.assign import Assignment, Definitions, Experiment, Reason
from services.ranker.arrays import Float32Array
from services.ranker.calls.candidates import likeness
from services.ranker.results import SIMILAR, slate_of
from services.ranker.selection.top_k import top_k
from services.ranker.state import ServingState
from services.ranker.tokens.format import MAX_VARIANTS, digest_of
from services.ranker.types import Call, RankCommand
from services.ranker.work import Work


def held(
    assignments: Sequence[Assignment], definitions: Definitions, variants: Collection[bytes]
) -> list[Assignment]:
    """Assignments under the variants whose digests a token has: pages must not mix two variants,
    whatever became of the definitions meanwhile.

    What ended since is kept, with the reason NOT_RUNNING; what the answer before was not in is not
    entered, with NOT_COVERED.
    """
    now = {assigned.experiment_key: assigned for assigned in assignments}
    # A token has room for so many: of what it left out nothing is known.
    is_whole = len(variants) < MAX_VARIANTS
    found: list[Assignment] = []
    for experiment in definitions.experiments.values():
        assigned, variant = now.get(experiment.key), _held(experiment, variants)
        if variant is not None:
            kept = assigned or Assignment(
                experiment.key, "", Reason.NOT_RUNNING, None, experiment.unit, experiment.revision
            )
            found.append(kept._replace(variant_key=variant))
        elif assigned is not None and assigned.variant_key and is_whole:
            found.append(assigned._replace(variant_key="", reason=Reason.NOT_COVERED))
        elif assigned is not None:
            found.append(assigned)
    return found


def _held(experiment: Experiment, variants: Collection[bytes]) -> str | None:
    """The variant of an experiment that is among the digests; None where none is."""
    keys = (variant.key for variant in experiment.variants)
    return next((key for key in keys if digest_of(experiment.key, key) in variants), None)


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
    work.slate = slate_of(state, work, best, near[best], predictions[:, :0], [SIMILAR] * len(best))
