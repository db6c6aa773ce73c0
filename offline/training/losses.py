"""Losses: full and sampled softmax, masked binary cross-entropy, and the logQ correction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from offline.training.towers import MASKED


def full_softmax_loss(
    queries: Tensor,
    table: Tensor,
    targets: Tensor,
    given: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of ``targets [N]``, rows of ``table [V, dim]``, by ``queries [N, dim]``.

    ``given [N, V]`` is part of the logits. ``excluded [2, E]``: (query, row) pairs that cannot be
    the answer and leave the softmax.
    """
    logits = queries @ table.T
    if given is not None:
        logits = logits + given
    if excluded is not None and excluded.shape[1]:
        logits = logits.index_put((excluded[0], excluded[1]), logits.new_tensor(MASKED))
    return functional.cross_entropy(logits, targets)


def taken_before(taken: Tensor, keep: Tensor, wanted: Tensor) -> Tensor:
    """Items that a user had by each position and that leave its softmax: pairs ``[2, E]``.

    ``taken [B, T]``: row of the item taken at a position, or 0. ``keep [B, T]``: positions that
    ask, numbered as queries from 0 in row-major order. ``wanted [N]``: what each query asks for,
    which stays: what is bought can still be watched. Returns (query, row).
    """
    query = torch.full(keep.shape, -1)
    query[keep] = torch.arange(int(keep.sum()))
    earlier = torch.ones(taken.shape[1], taken.shape[1], dtype=torch.bool).tril()
    pairs = (earlier & keep.unsqueeze(2) & (taken > 0).unsqueeze(1)).nonzero()
    asking, had = query[pairs[:, 0], pairs[:, 1]], taken[pairs[:, 0], pairs[:, 2]]
    others = had != wanted[asking]
    return torch.stack([asking[others], had[others]])


def sampled_softmax_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    same: Tensor,
    given: Tensor | None = None,
) -> Tensor:
    """Softmax over each query's positive and shared negatives drawn from q with replacement.

    ``queries``, ``positives [N, dim]``, ``negatives [K, dim]``, ``log_expected [K]`` = log(K q_j),
    the expected number of times each negative is drawn; ``same [N, K]`` marks negatives that are
    the query's own positive; ``given [N, 1 + K]`` is part of the logits. Subtracting
    ``log_expected`` makes the sum of exp(logit) over the negatives an unbiased estimate of the sum
    over the catalogue (Bengio & Senecal 2008; Yi et al. 2019, "Sampling-bias-corrected neural
    modeling").
    """
    positive = (queries * positives).sum(dim=-1, keepdim=True)
    negative = corrected_logits(queries @ negatives.T, log_expected)
    if given is not None:
        positive, negative = positive + given[:, :1], negative + given[:, 1:]
    negative = negative.masked_fill(same, MASKED)
    logits = torch.cat([positive, negative], dim=1)
    return functional.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.long))


def corrected_logits(logits: Tensor, log_expected: Tensor) -> Tensor:
    """``logits - log_expected``: the logQ correction for sampling probability."""
    return logits - log_expected


def masked_binary_loss(logits: Tensor, labels: Tensor, mature: Tensor) -> Tensor:
    """Binary cross-entropy per objective over its mature rows: ``[N, O]`` each, to ``[O]``.

    An objective without a mature row costs 0.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (loss * mature).sum(dim=0) / mature.sum(dim=0).clamp(min=1.0)
