"""Losses against sums written out, and the logQ correction against an analytic case."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.training.losses import (
    BLOCK_QUERIES,
    corrected_logits,
    full_softmax_loss,
    masked_binary_loss,
    sampled_softmax_loss,
    taken_before,
)


def test_full_softmax_leaves_excluded_items_out() -> None:
    queries, table = torch.randn(2, 4), torch.randn(5, 4)
    targets = torch.tensor([1, 3])
    excluded = torch.tensor([[0, 0], [2, 4]])
    logits = queries @ table.T
    first = logits[0, [0, 1, 3]]
    expected = (first.logsumexp(0) - logits[0, 1] + logits[1].logsumexp(0) - logits[1, 3]) / 2
    torch.testing.assert_close(full_softmax_loss(queries, table, targets, None, excluded), expected)


def test_full_softmax_in_blocks_is_that_of_all_at_once() -> None:
    """Value and gradients, over more than one block, against torch's own cross-entropy."""
    torch.manual_seed(0)
    count = 2 * BLOCK_QUERIES + 3
    queries = torch.randn(count, 4, dtype=torch.float64, requires_grad=True)
    table = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 7, (count,))
    out = torch.rand(count, 7) < 0.3
    out[torch.arange(count), targets] = False
    logits = (queries @ table.T).masked_fill(out, -1e9)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    wanted = torch.autograd.grad(expected * 3.0, (queries, table))
    loss = full_softmax_loss(queries, table, targets, None, out.nonzero().T)
    found = torch.autograd.grad(loss * 3.0, (queries, table))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, wanted)


def test_log_q_makes_the_sampled_partition_unbiased() -> None:
    """E[sum over K draws of exp(s_j - log(K q_j))] is the sum of exp(s_j) over the catalogue."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.tensor([0.0, 1.0, -1.0, 2.0])
    share = torch.tensor([0.1, 0.2, 0.3, 0.4])
    draws, rounds = 8, 40_000
    drawn = torch.multinomial(share, draws * rounds, replacement=True, generator=generator)
    log_expected = share.log() + math.log(draws)
    terms = corrected_logits(scores[drawn], log_expected[drawn]).exp().reshape(rounds, draws)
    estimate, exact = terms.sum(dim=1).mean(), scores.exp().sum()
    deviation = terms.sum(dim=1).std() / math.sqrt(rounds)
    assert abs(estimate - exact) < 4 * deviation
    uncorrected = scores[drawn].exp().reshape(rounds, draws).sum(dim=1).mean() / draws * 4
    assert abs(uncorrected - exact) > 20 * deviation


def test_sampled_softmax_with_every_item_once_is_the_full_softmax() -> None:
    queries, table = torch.randn(3, 4), torch.randn(6, 4)
    targets = torch.tensor([0, 2, 5])
    same = targets.unsqueeze(1) == torch.arange(6).unsqueeze(0)
    loss = sampled_softmax_loss(queries, table[targets], table, torch.zeros(6), same)
    torch.testing.assert_close(loss, full_softmax_loss(queries, table, targets))


def test_what_is_given_is_part_of_the_logits_of_either_softmax() -> None:
    queries, table, given_part = torch.randn(3, 4), torch.randn(6, 4), torch.randn(3, 6)
    targets = torch.tensor([0, 2, 5])
    logits = queries @ table.T + given_part
    expected = -logits.log_softmax(dim=1)[torch.arange(3), targets].mean()
    torch.testing.assert_close(full_softmax_loss(queries, table, targets, given_part), expected)
    same = targets.unsqueeze(1) == torch.arange(6).unsqueeze(0)
    both = torch.cat([given_part.gather(1, targets.unsqueeze(1)), given_part], dim=1)
    sampled = sampled_softmax_loss(queries, table[targets], table, torch.zeros(6), same, both)
    torch.testing.assert_close(sampled, expected)


@settings(deadline=None)
@given(st.data())
def test_taken_items_leave_the_softmax_from_then_on(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    grid = st.lists(
        st.lists(st.integers(0, 3), min_size=width, max_size=width), min_size=rows, max_size=rows
    )
    taken = torch.tensor(data.draw(grid))
    keep = torch.tensor(data.draw(grid)) > 0
    wanted = torch.tensor(data.draw(grid))[keep]
    expected = []
    query = 0
    for row in range(rows):
        for place in range(width):
            if not keep[row, place]:
                continue
            had = taken[row, : place + 1].tolist()
            expected += [(query, item) for item in had if item and item != wanted[query]]
            query += 1
    assert sorted(zip(*taken_before(taken, keep, wanted).tolist(), strict=True)) == sorted(expected)


def test_immature_labels_do_not_count() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    labels = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    mature = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = masked_binary_loss(logits, labels, mature)
    expected = (math.log(2.0) + math.log1p(math.exp(2.0))) / 2
    torch.testing.assert_close(loss, torch.tensor([expected, 0.0]))
