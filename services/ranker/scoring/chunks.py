"""Which requests one run of the ranker scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.ranker.arrays import Float32Array
from services.ranker.work import Work

SCORED_ROWS = 1024
"""Rows of one run of the ranker: about what stays in a core's cache."""


def chunks(works: Sequence[Work]) -> list[list[Work]]:
    """Requests that are scored in one run: about ``SCORED_ROWS`` rows, at least one request."""
    found: list[list[Work]] = []
    size = 0
    for work in works:
        rows = len(work.slots)
        if not rows:
            work.predictions = None
            continue
        if found and size + rows <= SCORED_ROWS:
            found[-1].append(work)
            size += rows
        else:
            found.append([work])
            size = rows
    return found


def gathered(parts: list[Float32Array]) -> Float32Array:
    """The rows of all parts, one part after another."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
