"""Point-in-time features against the brute-force oracle, on random definitions and logs."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.dataset.columns import compact
from offline.dataset.log_tables import open_tables
from offline.dataset.point_in_time import point_in_time
from offline.dataset.schema import ColumnSchema
from podium.event.v1.event_pb2 import LoggedEvent
from services.feature.applying.apply import Applier
from services.feature.definitions import MAX_TOTAL
from services.feature.rows.rows import decoded, row_readers
from services.feature.store.embedded import EmbeddedStore
from tests.support.event_streams import SPAN_MS, START_MS, random_log, small_domain, write_log
from tests.support.feature_oracle import Oracle
from tests.support.feature_streams import domain_with, logged, purchase_event, refund_event

PROBES = {
    "user": ["ann", "bob", "device:phone", "nobody"],
    "course": ["c0", "c1", "c2", "c9"],
    "room": ["r0", "r1"],
}


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_equals_the_oracle_at_every_probe(seed: int) -> None:
    random = Random(seed)
    domain = small_domain(random)
    log = random_log(random, random.choice([5, 60, 150]))
    with TemporaryDirectory() as directory:
        log_dir = write_log(Path(directory) / "log", log)
        columns = compact(log_dir, Path(directory) / "columns", ColumnSchema.of(domain))
        with open_tables(columns) as tables:
            for entity, identities in PROBES.items():
                rows = [_probe(random, identities, len(log)) for _ in range(25)]
                rows.append(rows[0])
                probes = pa.Table.from_pylist(rows)
                found = point_in_time(domain, tables, entity, probes).to_pylist()
                assert len(found) == len(rows)
                for probe, row in zip(rows, found, strict=True):
                    expected = Oracle(domain, log, probe["time_ms"], probe["arrival"]).features(
                        entity, probe["id"]
                    )
                    assert list(row) == ["id", "time_ms", "arrival", *expected]
                    for name, value in expected.items():
                        wanted = value.value
                        if isinstance(wanted, float):
                            wanted = float(np.float32(wanted))
                        assert row[name] == wanted, (entity, name, probe)


def _probe(random: Random, identities: list[str], arrivals: int) -> dict[str, str | int]:
    return {
        "id": random.choice(identities),
        "time_ms": START_MS + random.randrange(-1_000, SPAN_MS + 5_000, 500),
        "arrival": random.randrange(arrivals + 2),
    }


PURCHASES = {"entities": ["user"], "events": ["purchase"]}
SPEND = domain_with(
    {
        "bought": {"kind": "count", "window": "1d", **PURCHASES},
        "spent": {"kind": "sum", "value": "amount_minor", "window": "1d", **PURCHASES},
        "spent_lately": {"kind": "sum", "value": "amount_minor", "window": "1m", **PURCHASES},
    }
)


def test_totals_beyond_64_bits_are_those_served_online(tmp_path: Path) -> None:
    log = largest_purchases_and_their_refunds()
    probe_ms = START_MS + 150_000
    online = [served_after(tmp_path / f"{n}", log[:n], probe_ms) for n in range(1, len(log) + 1)]
    columns = compact(
        write_log(tmp_path / "log", log), tmp_path / "columns", ColumnSchema.of(SPEND)
    )
    probes = pa.Table.from_pylist(
        [{"id": "ann", "time_ms": probe_ms, "arrival": n} for n in range(1, len(log) + 1)]
    )
    with open_tables(columns) as tables:
        offline = point_in_time(SPEND, tables, "user", probes, features=list(online[0]))
    assert offline.select(list(online[0])).to_pylist() == online
    assert [row["spent"] for row in online] == [MAX_TOTAL] * 7 + [20]
    assert [row["spent_lately"] for row in online] == [0, *[MAX_TOTAL] * 5, 10, 10]


def largest_purchases_and_their_refunds() -> list[LoggedEvent]:
    """Purchases of the largest amount, the last of them late, then refunds of all but 5 each."""
    seconds = (25, 125, 145, 75)
    bought = [
        purchase_event(f"p{s}", START_MS + s * 1_000, MAX_TOTAL, "ann", "course:c1")
        for s in seconds
    ]
    refunds = [
        refund_event(f"r{n}", START_MS + 147_000, MAX_TOTAL - 5, purchase)
        for n, purchase in enumerate(bought)
    ]
    return [logged(n, event, START_MS + 147_000) for n, event in enumerate([*bought, *refunds])]


def served_after(
    directory: Path, log: list[LoggedEvent], t_ms: int
) -> dict[str, int | float | str | tuple[str, ...]]:
    """Ann's totals as the feature service serves them at ``t_ms``, once it has applied ``log``."""
    store = EmbeddedStore(directory)
    applier = Applier(SPEND, store, lambda: START_MS)
    applier.prepare(directory)
    applier.apply([(r.arrival, r.SerializeToString()) for r in log])
    reader = row_readers(SPEND)["user"]
    with store.read() as view:
        row = reader.row(decoded(view.state("user", "ann")), t_ms)
    store.close()
    named = {c.name: value for c, value in zip(reader.columns, row.values, strict=True)}
    return {name: named[name] for name in ("bought", "spent", "spent_lately")}
