"""The plain files of a bundle: vocabularies, ids and vectors, each checked as it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from services.common.bundle.index import FloatArray
from services.common.errors import BundleError, Unreadable


def read_vocabularies(path: Path) -> dict[str, dict[str, int]]:
    """Row of every value, from 1, by vocabulary. Raises ``BundleError``."""
    vocabularies = _read_json(path)
    if not isinstance(vocabularies, dict) or not all(map(_are_strings, vocabularies.values())):
        raise BundleError(f"{path}: must be an object of lists of strings")
    return {
        name: {value: place + 1 for place, value in enumerate(values)}
        for name, values in vocabularies.items()
    }


def read_ids(path: Path) -> list[str]:
    """Ids in index order. Raises ``BundleError``."""
    ids = _read_json(path)
    if not _are_strings(ids):
        raise BundleError(f"{path}: must be a list of strings")
    return ids


def read_vectors(path: Path, shape: tuple[int, int]) -> FloatArray:
    """Finite vectors, float32 of ``shape`` = ``[rows, dim]``. Raises ``BundleError``."""
    try:
        with path.open("rb") as file:
            vectors: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # what NumPy's parser of headers raises has no bounds
        raise BundleError(f"{path}: not an array in NumPy's format: {error}") from error
    if vectors.dtype != np.float32 or vectors.shape != shape:
        raise BundleError(
            f"{path}: is {vectors.dtype} {list(vectors.shape)}, must be float32 {list(shape)}"
        )
    if not np.isfinite(vectors).all():
        raise BundleError(f"{path}: holds a number that is not finite")
    return vectors


def _are_strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable.of(error, path) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON: {error}") from error
