"""What held-out events say of the towers, and of the trend beside them."""

from __future__ import annotations

import numpy as np
import torch

from offline.training.batches import HeldOut
from offline.training.data import FloatArray
from offline.training.encode import encode_items, encode_users
from offline.training.measures import rank_metrics, ranks_of
from offline.training.retrieval_losses import TowerLosses
from offline.training.strength import fit_strengths
from offline.training.towers import MASKED

# Held-out events that the strengths are fitted on: two numbers need no more.
STRENGTH_EVENTS = 1_000


def tower_metrics(towers: TowerLosses, held_out: HeldOut) -> dict[str, float]:
    """Full ranking of the held-out events over the available catalogue."""
    if not len(held_out.targets):
        return {}
    scores, given = held_out_scores(towers, held_out)
    # Candidates are retrieved without the trend; what is ranked first has it.
    retrieved = rank_metrics(ranks_of(scores, held_out.targets))
    found = rank_metrics(ranks_of(scores + given, held_out.targets))
    return found | {"recall_at_500": retrieved["recall_at_500"]}


@torch.no_grad()
def held_out_scores(towers: TowerLosses, held_out: HeldOut) -> tuple[FloatArray, FloatArray]:
    """Scores of the held-out events by the towers ``[N, V]``, and by the trend ``[1, V]``."""
    towers.item.eval()
    towers.user.eval()
    neutral = towers.user.features.neutral().expand(len(held_out.targets), -1)
    users = encode_users(
        towers.serving_tower(towers.item, towers.user, 1.0),
        held_out.items,
        held_out.actions,
        neutral.numpy(),
        held_out.surfaces,
    )
    scores = users @ encode_items(towers.item, towers.data.catalogue.items).T
    scores[:, ~towers.data.available] = MASKED
    if len(towers.final_actions):
        scores[held_out.taken[0], held_out.taken[1]] = MASKED
    given = towers.given(np.array([held_out.asked_ms]), torch.arange(scores.shape[1]))
    towers.item.train()
    towers.user.train()
    if given is None:
        return scores, np.zeros((1, scores.shape[1]), np.float32)
    return scores, given.numpy()


def validated_strengths(towers: TowerLosses, held_out: HeldOut) -> tuple[float, float]:
    """What the held-out events say of the towers' and the trend's weight against each other."""
    if towers.data.trend is None or not len(held_out.targets):
        return 1.0, 1.0
    scores, given = held_out_scores(towers, held_out)
    some = slice(0, STRENGTH_EVENTS)
    open_to = scores[some] > MASKED
    rows = np.flatnonzero(open_to[np.arange(len(open_to)), held_out.targets[some]])
    both = np.where(open_to, given, MASKED)[rows]
    return fit_strengths(
        torch.from_numpy(np.where(open_to, scores[some], 0.0)[rows]),
        torch.from_numpy(both),
        torch.from_numpy(held_out.targets[some][rows]),
    )
