"""How far what was served differs from the offline tables: training-serving skew, by feature."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from offline.dataset.columns import compact
from offline.dataset.log_tables import open_tables
from offline.dataset.point_in_time import point_in_time
from offline.dataset.schema import ColumnSchema
from offline.dataset.served import ServedRow
from services.common.domain import Domain
from services.feature.definitions import USER_ENTITY

TOLERANCE = 1e-6
"""Relative, and absolute below 1: floats are summed in different orders. All else is exact."""


@dataclass
class FeatureSkew:
    """Of one feature: values compared and differing, the largest difference of numbers, and the
    rank_id of the first slate that differs."""

    view_hash: str
    feature: str
    compared: int = 0
    differing: int = 0
    largest_difference: float = 0.0
    first_rank_id: str = ""
    served: Any = None
    offline: Any = None

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return asdict(self)


def skew_of_users(
    log_dir: Path, domains: Mapping[str, Domain], rows: Sequence[ServedRow]
) -> list[FeatureSkew]:
    """Skew of every feature of the views that were served, by view and name.

    ``domains`` define the views of ``rows``, by hash; rows of other views are left out.
    """
    found: list[FeatureSkew] = []
    for view_hash, domain in sorted(domains.items()):
        served = [row for row in rows if row.view_hash == view_hash]
        if served:
            found += _skew(log_dir, view_hash, domain, served)
    return found


def _skew(
    log_dir: Path, view_hash: str, domain: Domain, rows: Sequence[ServedRow]
) -> list[FeatureSkew]:
    names = sorted({name for row in rows for name in row.values})
    probes = pa.table(
        {
            "id": pa.array([row.key for row in rows], pa.string()),
            "time_ms": pa.array([row.time_ms for row in rows], pa.int64()),
            "arrival": pa.array([row.position for row in rows], pa.int64()),
        }
    )
    with tempfile.TemporaryDirectory(prefix="podium-diff-") as directory:
        columns = compact(log_dir, Path(directory), ColumnSchema.of(domain))
        with open_tables(columns) as tables:
            table = point_in_time(domain, tables, USER_ENTITY, probes, features=names)
    skews = {name: FeatureSkew(view_hash, name) for name in names}
    for row, offline in zip(rows, table.to_pylist(), strict=True):
        for name, value in row.values.items():
            _compare(skews[name], row.rank_id, value, offline[name])
    return list(skews.values())


def _compare(skew: FeatureSkew, rank_id: str, served: Any, offline: Any) -> None:
    skew.compared += 1
    if isinstance(served, float):
        if math.isclose(served, offline, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return
    elif served == offline:
        return
    if not isinstance(served, str | list):
        skew.largest_difference = max(skew.largest_difference, abs(served - offline))
    if not skew.differing:
        skew.first_rank_id, skew.served, skew.offline = rank_id, served, offline
    skew.differing += 1
