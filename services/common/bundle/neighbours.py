"""Which items users meet together: an optional file of a bundle, beside the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.errors import BundleError

NeighbourArray = NDArray[np.void]
NEIGHBOUR = np.dtype([("row", "<i4"), ("similarity", "<f4")])
"""One neighbour of an item: its row in the index of the entity type, -1 after the last, and how
similar it is, above 0, the most similar first."""


def neighbours_file(entity: str) -> str:
    """Neighbours of the items of an entity type in index order: ``NEIGHBOUR [rows, K]`` in NumPy's
    format. A bundle without the file serves without them."""
    return f"neighbours_{entity}.npy"


def read_neighbours(path: Path, rows: int) -> NeighbourArray:
    """Neighbours of ``rows`` items, ``[rows, K]``. Raises ``BundleError`` naming the file."""
    try:
        with path.open("rb") as file:
            found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # what NumPy's parser of headers raises has no bounds
        raise BundleError(f"{path}: not an array in NumPy's format: {error}") from error
    if found.dtype != NEIGHBOUR or found.ndim != 2 or len(found) != rows:
        raise BundleError(f"{path}: is {found.dtype} {list(found.shape)}, must be of {rows} rows")
    named, similarity = found["row"], found["similarity"]
    if ((named < -1) | (named >= rows)).any():
        raise BundleError(f"{path}: names a row that the index does not have")
    if not (np.isfinite(similarity).all() and (similarity >= 0).all()):
        raise BundleError(f"{path}: holds a similarity that is no number from 0 up")
    return found
