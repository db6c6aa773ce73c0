"""How much items go with those of a history, item by item: the table of a bundle, and its sums.

Training solves the table (``offline/training/affinities.py``); training, evaluation and serving
read it here. Items are rows of the sequence's vocabulary, 0 being unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.crosses import AffinityCross
from services.common.errors import BundleError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

AFFINITIES_FILE = "affinities.npy"
"""``AFFINITY [V + 1, K]`` in NumPy's format, by row of the sequence's vocabulary."""

AFFINITY = np.dtype([("row", "<i4"), ("weight", "<f4")])
"""An item that goes with another, and how much; negative where it does so less than other items of
the history make expect. Row 0 and weight 0 stand for no item."""


@dataclass(frozen=True)
class Affinities:
    """``rows`` int64 and ``weights`` float64 [V + 1, K]: what goes with each item."""

    rows: IntArray
    weights: NDArray[np.float64]

    @classmethod
    def nothing(cls) -> Affinities:
        """No item goes with any."""
        return cls(np.zeros((1, 0), np.int64), np.zeros((1, 0)))

    @classmethod
    def read(cls, path: Path, rows: int) -> Affinities:
        """The table of a vocabulary of ``rows`` with the unknown. Raises ``BundleError``."""
        try:
            with path.open("rb") as file:
                found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # what NumPy's parser of headers raises has no bounds
            raise BundleError(f"{path}: not an array in NumPy's format: {error}") from error
        if found.dtype != AFFINITY or found.ndim != 2 or len(found) != rows:
            raise BundleError(
                f"{path}: is {found.dtype} {list(found.shape)}, must be of {rows} rows"
            )
        if ((found["row"] < 0) | (found["row"] >= rows)).any():
            raise BundleError(f"{path}: names a row that the vocabulary does not have")
        if not np.isfinite(found["weight"]).all():
            raise BundleError(f"{path}: holds a weight that is no finite number")
        return cls(found["row"].astype(np.int64), found["weight"].astype(np.float64))

    def table(self) -> NDArray[np.void]:
        """As ``AFFINITIES_FILE`` holds it."""
        found = np.zeros(self.rows.shape, AFFINITY)
        found["row"], found["weight"] = self.rows, self.weights
        return found

    def of_histories(
        self, cross: AffinityCross, histories: IntArray, owner: IntArray, wanted: IntArray
    ) -> FloatArray:
        """How much the items ``wanted`` [N] go with the histories of their users, float32 [N].

        ``histories`` int64 [B, L], right-aligned, 0 pads and stands for unknown items; ``owner``
        [N] ascends. An item of the history counts by ``cross.decay`` to the power of its age; the
        logarithm of the sum, at least ``cross.least``, of what it counts times the pair's weight.
        """
        found = np.full(len(wanted), np.log(cross.least), np.float32)
        by_age = cross.decay ** np.arange(histories.shape[1])[::-1]
        ends = np.searchsorted(owner, np.arange(len(histories) + 1))
        for user, (start, end) in enumerate(pairwise(ends)):
            met = np.flatnonzero(histories[user])
            if start == end or not len(met):
                continue
            items = histories[user, met]
            parts = self.weights[items] * by_age[met, None]
            sums = np.bincount(self.rows[items].ravel(), parts.ravel(), len(self.rows))
            sums[0] = 0.0
            found[start:end] = np.log(np.maximum(sums[wanted[start:end]], cross.least))
        return found
