"""The online store against the brute-force oracle, over every kind of feature."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.feature.applying.apply import Applier
from services.feature.rows.lookup import FeatureLookup
from services.feature.rows.rows import NOT_FOUND, NULL, PRESENT, STALE, row_readers
from services.feature.store.embedded import EmbeddedStore
from tests.support.feature_oracle import Oracle, OracleValue
from tests.support.feature_streams import START_MS
from tests.support.feature_worlds import KEYS, worlds
from tests.support.served_rows import served_rows
from tests.support.world_streams import world_streams

STATUS = {PRESENT: "PRESENT", NULL: "NULL", NOT_FOUND: "NOT_FOUND", STALE: "STALE"}
LATER_MS = (0, 1, 999, 300_000, 3_600_000, 90_000_000, 700_000_000, 3_000_000_000)


class Served:
    """A lookup over a store, at any time."""

    def __init__(self, domain: Domain, store: EmbeddedStore) -> None:
        self.domain = domain
        self.readers = row_readers(domain)
        self.t_ms = START_MS
        self._lookup = FeatureLookup(store, lambda: self.t_ms)
        self._lookup.serve(list(self.readers.values()))

    def features(self, entity: str, identity: str) -> dict[str, OracleValue]:
        """One entity's features by name, as the service would answer now."""
        reader = self.readers[entity]
        view = self._lookup.view(entity, reader.view.name, reader.view.hash)
        (row,) = served_rows(reader.view, self._lookup.read(view, [identity]))
        return {
            name: OracleValue(found.value, STATUS[found.status], found.time_ms)
            for name, found in row.items()
        }


def assert_agrees(served: Served, log: list[LoggedEvent], t_ms: int, arrival: int) -> None:
    oracle = Oracle(served.domain, log, t_ms, arrival)
    served.t_ms = t_ms
    for entity, identity in KEYS:
        if entity not in served.readers:
            continue
        expected = oracle.features(entity, identity)
        found = served.features(entity, identity)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            at = (entity, identity, served.domain.features[name], t_ms)
            assert (found[name].status, found[name].event_ms) == (value.status, value.event_ms), at
            assert agree(found[name].value, value.value), (at, found[name], value)


def agree(found: object, expected: object) -> bool:
    """Whether they are equal; floats to 1e-6."""
    if isinstance(expected, float):
        return isinstance(found, int | float) and bool(np.isclose(found, expected, 1e-6, 1e-6))
    if isinstance(expected, list) and expected and isinstance(expected[0], float):
        return isinstance(found, list) and bool(np.allclose(found, expected, 1e-6, 1e-6))
    return type(found) is type(expected) and found == expected


def check(domain: Domain, log: list[LoggedEvent], data: st.DataObject, directory: Path) -> None:
    store = EmbeddedStore(directory)
    try:
        applier = Applier(domain, store, lambda: START_MS)
        applier.prepare(directory)
        served = Served(domain, store)
        position = 0
        while position < len(log):
            left = len(log) - position
            size = data.draw(st.sampled_from(sorted({left, (left + 1) // 2, 1, min(left, 5)})))
            batch = log[position : position + size]
            applier.apply([(r.arrival, r.SerializeToString()) for r in batch])
            position += size
            if data.draw(st.booleans()):
                applier = Applier(domain, store, lambda: START_MS)
            if position < len(log) and size == 1:
                continue
            clock_ms = max(r.arrival_time.ToMilliseconds() for r in log[:position])
            for later_ms in sorted(data.draw(st.tuples(st.sampled_from(LATER_MS), st.just(0)))):
                assert_agrees(served, log, clock_ms + later_ms, position)
    finally:
        store.close()


# Each example writes to disk: shrinking a failure would take minutes.
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(domain=worlds(), log=world_streams(), data=st.data())
def test_every_kind_agrees_with_the_oracle(
    domain: Domain, log: list[LoggedEvent], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check(domain, log, data, Path(directory))
