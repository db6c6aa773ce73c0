"""The first pass: nearly what the ranker says of an item, for a small part of what that costs.

    logit[objective] = slope[objective] x <user, item> + item logit[objective]

Slopes belong to a surface; an item's logits follow from its features alone, and are computed when
these change. A request costs one inner product and one sigmoid a candidate and objective.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def first_pass_probabilities(nearness: Floats, item_logits: Floats, slopes: Floats) -> Floats:
    """Probabilities float32 [N, O] of inner products [N], item logits [N, O] and slopes [O].

    Not finite where an item logit or an inner product is not a number.
    """
    # An objective a row: loops over so few columns would cost several times as much.
    found: Floats = -slopes[:, None] * nearness
    found -= item_logits.T
    # Beyond what float32 holds the exponential is infinite, and the probability 0.
    with np.errstate(over="ignore"):
        np.exp(found, out=found)
    found += np.float32(1)
    return np.reciprocal(found, out=found).T
