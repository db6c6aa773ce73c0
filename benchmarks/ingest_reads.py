"""What reading a user costs in stores of 10⁴ to 10⁶ users.

The users are copies of 500 that have 8 base aggregates x 6 windows. Rows are read 100 at a time, of
users drawn at random over all of them; none is read twice from memory that kept its row.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from benchmarks.ingest_workload import SEED
from services.common.domain import Domain
from services.feature.definitions import USER_ENTITY
from services.feature.rows.lookup import FeatureLookup
from services.feature.rows.rows import row_readers
from services.feature.states.schema import schema_of
from services.feature.store.embedded import EmbeddedStore

USERS = (10_000, 100_000, 1_000_000)
ROWS = 100
LOOKUPS = 50
_WRITTEN_AT_ONCE = 20_000


def measure_reads(
    workspace: Path, domain: Domain, states: list[bytes], users: tuple[int, ...] = USERS
) -> dict[str, float]:
    """Microseconds of processor time a row, by the number of users in the store."""
    found: dict[str, float] = {}
    for count in users:
        directory = workspace / f"users-{count}"
        store = EmbeddedStore(directory)
        try:
            _fill(store, domain, states, count)
            found[str(count)] = round(_read_us(store, domain, count), 1)
        finally:
            store.close()
            shutil.rmtree(directory, ignore_errors=True)
    return found


def _fill(store: EmbeddedStore, domain: Domain, states: list[bytes], count: int) -> None:
    with store.write() as transaction:
        transaction.clear(schema_of(domain))
    for start in range(0, count, _WRITTEN_AT_ONCE):
        with store.write() as transaction:
            for number in range(start, min(count, start + _WRITTEN_AT_ONCE)):
                transaction.put_state(USER_ENTITY, _name(number), states[number % len(states)])


def _read_us(store: EmbeddedStore, domain: Domain, count: int) -> float:
    reader = row_readers(domain)[USER_ENTITY]
    draw = np.random.default_rng(SEED)
    spent_s: list[float] = []
    for lookup_number in range(LOOKUPS + 5):
        # A lookup of its own remembers no rows.
        lookup = FeatureLookup(store, lambda: time.time_ns() // 1_000_000)
        lookup.serve([reader])
        served = lookup.view(USER_ENTITY, reader.view.name, reader.view.hash)
        keys = [_name(int(number)) for number in draw.integers(0, count, ROWS)]
        started_s = time.process_time()
        lookup.read(served, keys)
        if lookup_number >= 5:
            spent_s.append(time.process_time() - started_s)
    return 1e6 * float(np.median(spent_s)) / ROWS


def _name(number: int) -> str:
    return f"user-{number:07d}"
