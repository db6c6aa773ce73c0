"""One stream read by the offline tables, their plain recomputation, the service and the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from offline.dataset.columns import compact
from offline.dataset.log_tables import OpenTables, open_tables
from offline.dataset.point_in_time import point_in_time
from offline.dataset.recompute import Recomputed
from offline.dataset.schema import ColumnSchema
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.feature.applying.apply import Applier
from services.feature.definitions import FeatureDType, compile_views
from services.feature.rows.rows import decoded, row_readers
from services.feature.store.embedded import EmbeddedStore
from tests.support.event_streams import write_log
from tests.support.feature_oracle import Oracle

Key = tuple[str, str]
Point = tuple[int, int]


def assert_offline_agrees(
    domain: Domain,
    log: Sequence[LoggedEvent],
    keys: Sequence[Key],
    points: Sequence[Point],
    directory: Path,
    open_log: OpenTables = open_tables,
) -> None:
    """At every (time ms, arrival) of ``points`` the tables and what recomputes them say of every
    key what the oracle says."""
    columns = compact(
        write_log(directory / "log", list(log)), directory / "columns", ColumnSchema.of(domain)
    )
    views = compile_views(domain)
    oracles = {point: Oracle(domain, log, *point) for point in points}
    with open_log(columns) as tables:
        for entity in dict.fromkeys(entity for entity, _ in keys if entity in views):
            identities = [identity for kind, identity in keys if kind == entity]
            probes = [(i, *point) for i in identities for point in points]
            names = ("id", "time_ms", "arrival")
            rows = pa.Table.from_pylist([dict(zip(names, p, strict=True)) for p in probes])
            found = point_in_time(domain, tables, entity, rows).to_pylist()
            again = Recomputed(domain, tables, {entity: identities})
            assert len(found) == len(probes)
            for (identity, *point), row in zip(probes, found, strict=True):
                t_ms, arrival = point
                told = oracles[t_ms, arrival].features(entity, identity)
                expected = {name: value.value for name, value in told.items()}
                assert list(row) == [*names, *expected]
                at = (entity, identity, t_ms, arrival)
                recomputed = again.features(entity, identity, (t_ms, arrival))
                _assert_same(domain, entity, row, expected, ("tables", *at))
                _assert_same(domain, entity, recomputed, expected, ("recomputed", *at))


def assert_service_agrees(
    domain: Domain, log: Sequence[LoggedEvent], keys: Sequence[Key], t_ms: int, directory: Path
) -> None:
    """Once the service has applied the log it says at ``t_ms`` what the oracle says."""
    store = EmbeddedStore(directory)
    try:
        applier = Applier(domain, store, lambda: t_ms)
        applier.prepare(directory)
        if log:
            applier.apply([(r.arrival, r.SerializeToString()) for r in log])
        oracle = Oracle(domain, log, t_ms, len(log))
        readers = row_readers(domain)
        with store.read() as view:
            for entity, identity in keys:
                if entity not in readers:
                    continue
                reader = readers[entity]
                row = reader.row(
                    decoded(view.state(entity, identity)),
                    t_ms,
                    identity=identity,
                    read=lambda other, key: decoded(view.state(other, key)),
                )
                served = dict(zip((c.name for c in reader.columns), row.values, strict=True))
                told = oracle.features(entity, identity)
                expected = {name: value.value for name, value in told.items()}
                _assert_same(domain, entity, served, expected, ("service", entity, identity))
    finally:
        store.close()


def _assert_same(
    domain: Domain,
    entity: str,
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    at: tuple[object, ...],
) -> None:
    dtypes = {column.name: column.dtype for column in compile_views(domain)[entity].features}
    for name, value in expected.items():
        same = _same(found[name], value, dtypes[name])
        assert same, (*at, name, domain.features[name], found[name], value)


def _same(found: Any, expected: Any, dtype: FeatureDType) -> bool:
    """Equal; floats to 1e-6, since their sums depend on the order."""
    if dtype in ("float32", "vector"):
        return bool(np.allclose(found, expected, 1e-6, 1e-6))
    if dtype == "list":
        return list(found) == list(expected)
    return type(found) is type(expected) and bool(found == expected)
