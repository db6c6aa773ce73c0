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
from tests.support.event_streams import SPAN_MS, START_MS, random_log, small_domain, write_log
from tests.support.feature_oracle import Oracle

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
