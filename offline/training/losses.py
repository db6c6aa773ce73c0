"""Losses: full and sampled softmax, masked binary cross-entropy, and the logQ correction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from offline.training.towers import MASKED

# Queries whose logits are held at once: with thousands of items they fit a core's cache.
BLOCK_QUERIES = 256


def full_softmax_loss(
    queries: Tensor,
    table: Tensor,
    targets: Tensor,
    given: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of ``targets [N]``, rows of ``table [V, dim]``, by ``queries [N, dim]``.

    ``given [N, V]`` is part of the logits. ``excluded [2, E]``: (query, row) pairs that cannot be
    the answer and leave the softmax; queries ascend.
    """
    if given is None:
        pairs = targets.new_zeros(2, 0) if excluded is None else excluded
        loss: Tensor = _BlockwiseSoftmax.apply(queries, table, targets, pairs)  # type: ignore[no-untyped-call]
        return loss
    logits = queries @ table.T + given
    if excluded is not None and excluded.shape[1]:
        logits = logits.index_put((excluded[0], excluded[1]), logits.new_tensor(MASKED))
    return functional.cross_entropy(logits, targets)


class _BlockwiseSoftmax(torch.autograd.Function):
    """The loss without ``given``, a block of queries at a time: the logits of all of them are tens
    of MiB, those of a block stay in the cache. Gradients are computed on the way."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, queries: Tensor, table: Tensor, targets: Tensor, excluded: Tensor
    ) -> Tensor:
        count = len(queries)
        to_queries = torch.empty_like(queries)
        to_table = torch.zeros_like(table)
        total = queries.new_zeros(())
        firsts = range(0, count, BLOCK_QUERIES)
        ends = torch.searchsorted(excluded[0], torch.tensor([*firsts, count])).tolist()
        for number, first in enumerate(firsts):
            block = queries[first : first + BLOCK_QUERIES]
            wanted = targets[first : first + BLOCK_QUERIES].unsqueeze(1)
            logits = block @ table.T
            pairs = excluded[:, ends[number] : ends[number + 1]]
            logits[pairs[0] - first, pairs[1]] = MASKED
            logits -= logits.amax(dim=1, keepdim=True)
            total -= logits.gather(1, wanted).sum()
            shares = logits.exp_()
            mass = shares.sum(dim=1, keepdim=True)
            total += mass.log().sum()
            shares /= mass * count
            shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1.0 / count))
            torch.mm(shares, table, out=to_queries[first : first + BLOCK_QUERIES])
            to_table.addmm_(shares.T, block)
        ctx.save_for_backward(to_queries, to_table)
        return total / count

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_queries, to_table = ctx.saved_tensors  # type: ignore[attr-defined]
        return to_queries * grads[0], to_table * grads[0], None, None


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
