"""How much two scores should be believed, fitted on choices that neither learned from."""

from __future__ import annotations

import torch
from torch import Tensor

# Strength of the prior, which holds both weights to 1, in terms of an observed choice each.
PRIOR_CHOICES = 10.0
STEPS = 50


def fit_strengths(own: Tensor, given: Tensor, chosen: Tensor) -> tuple[float, float]:
    """Weights (a, b), not below 0, with which a x ``own`` + b x ``given`` explains choices best.

    ``own``, ``given [N, V]`` are scores of what each of N choices was made among (very low where it
    was not on offer), ``chosen [N]`` the column chosen. Maximum a posteriori of the conditional
    logit model (McFadden 1974), with a normal prior around (1, 1).
    """
    weights = torch.ones(2, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = weights[0] * own + weights[1] * given
        wrong = torch.nn.functional.cross_entropy(logits, chosen, reduction="sum")
        total: Tensor = wrong + PRIOR_CHOICES / 2 * ((weights - 1.0) ** 2).sum()
        torch.autograd.backward(total)
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    a, b = weights.detach().clamp(min=0.0).tolist()
    return a, b
