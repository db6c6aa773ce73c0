"""Whose a history is in the offline tables: devices that become users', actors who are erased."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from offline.dataset.columns import compact
from offline.dataset.log_tables import LogTables, open_tables
from offline.dataset.point_in_time import point_in_time
from offline.dataset.schema import ColumnSchema
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.feature.convert.erasure import Erasures, RecordEraser, find_aliases, find_erased
from services.feature.definitions import pair_id
from tests.support.alias_streams import (
    USER_KEYS,
    dense_stream,
    erasure_event,
    long_id,
    pairs_domain,
    pseudonymised,
)
from tests.support.event_streams import write_log
from tests.support.feature_streams import START_MS, interaction, logged
from tests.support.known_features import assert_offline_agrees

DOMAIN = pairs_domain()
KEYS = (
    *(("user", user) for user in USER_KEYS),
    *(("course", course) for course in ("c1", "c2")),
    *(("likes", pair_id(user, "c1")) for user in USER_KEYS),
)


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [3])
def test_tables_and_oracle_agree_on_who_has_what(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    log = dense_stream(random, 60)
    points = []
    for arrival in [*random.sample(range(5, len(log)), 7), len(log)]:
        clock_ms = log[arrival - 1].arrival_time.ToMilliseconds()
        shift_ms = random.choice((-61_000, 0, 1, 2_000, 400_000, 5_000_000))
        points.append((clock_ms + shift_ms, arrival))
    assert_offline_agrees(DOMAIN, log, KEYS, points, tmp_path)


def test_an_erased_log_gives_the_tables_that_saw_the_events(tmp_path: Path) -> None:
    log = pseudonymised(dense_stream(Random(17), 50))
    payloads = [(r.arrival, r.SerializeToString()) for r in log]
    erased = find_erased(payloads)
    assert erased
    eraser = RecordEraser(DOMAIN, Erasures(erased, find_aliases(payloads, erased)), tombstones=True)
    after = [LoggedEvent.FromString(eraser.erase(*record)) for record in payloads]
    assert sum(bool(record.erased) for record in after) > len(erased)
    clock_ms = log[-1].arrival_time.ToMilliseconds()
    rows = []
    for number, form in enumerate((log, after)):
        columns = compact(
            write_log(tmp_path / f"log{number}", form),
            tmp_path / f"columns{number}",
            ColumnSchema.of(DOMAIN),
        )
        with open_tables(columns) as tables:
            assert (tables.endings is None) == (not _endings(form))
            rows.append(_features(tables, clock_ms, len(log)))
    assert rows[0] == rows[1]


def _endings(log: list[LoggedEvent]) -> list[LoggedEvent]:
    return [r for r in log if r.event.HasField("alias") or r.event.HasField("erasure")]


def _features(tables: LogTables, t_ms: int, arrival: int) -> list[dict[str, object]]:
    keys = [long_id(user) for user in USER_KEYS]
    probes = pa.Table.from_pylist([{"id": k, "time_ms": t_ms, "arrival": arrival} for k in keys])
    names = ["bought", "spent", "last", "since", "liked"]
    found = point_in_time(DOMAIN, tables, "user", probes, features=names)
    return [dict(row) for row in found.to_pylist()]


def test_an_erased_visitor_leaves_a_full_list_full(tmp_path: Path) -> None:
    """Two places for three visitors: nobody knows any more whom the erased one sent away."""
    plain = DOMAIN.model_dump(mode="json", exclude_defaults=True)
    plain["features"]["visitors"]["cap"] = 2
    domain = Domain.model_validate(plain)
    events = [
        interaction(f"e{n}", "click", START_MS + n, user, "course:c1")
        for n, user in enumerate(("ann", "bob", "cid"))
    ]
    events += [erasure_event("x", "bob"), erasure_event("y", "cid"), erasure_event("z", "ann")]
    log = [logged(n, event, START_MS + 10) for n, event in enumerate(events)]
    points = [(START_MS + 10, arrival) for arrival in range(len(log) + 1)]
    assert_offline_agrees(domain, log, [("course", "c1")], points, tmp_path / "log")
    columns = compact(tmp_path / "log" / "log", tmp_path / "columns", ColumnSchema.of(domain))
    with open_tables(columns) as tables:
        probes = pa.Table.from_pylist([{"id": "c1", "time_ms": t, "arrival": a} for t, a in points])
        found = point_in_time(domain, tables, "course", probes, features=["visitors"])
    assert found["visitors"].to_pylist() == [0, 1, 2, 2, 2, 2, 2]
