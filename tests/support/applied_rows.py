"""Rows of a log that was applied to a store, to be compared with another log's or the oracle's."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.feature.applying.apply import Applier
from services.feature.definitions import pair_id
from services.feature.rows.rows import NOT_FOUND, NULL, PRESENT, STALE, Row, decoded, row_readers
from services.feature.states.key_state import KeyState
from services.feature.states.schema import schema_of
from services.feature.store.embedded import EmbeddedStore
from tests.support.alias_streams import USER_KEYS
from tests.support.feature_oracle import OracleValue
from tests.support.feature_streams import START_MS

STATUS = {PRESENT: "PRESENT", NULL: "NULL", NOT_FOUND: "NOT_FOUND", STALE: "STALE"}


def named(domain: Domain, entity: str, found: Row) -> dict[str, OracleValue]:
    """A row of an entity type's view by feature, in the oracle's form."""
    reader = row_readers(domain)[entity]
    return {
        column.name: OracleValue(list(value) if isinstance(value, tuple) else value, STATUS[status])
        for column, value, status in zip(reader.columns, found.values, found.statuses, strict=True)
    }


def rows_of(
    domain: Domain, records: list[LoggedEvent], t_ms: int, users: Sequence[str] = USER_KEYS
) -> dict[tuple[str, str], Row]:
    """Rows of users, their pairs and courses as of ``t_ms``, by key, from a store of its own."""
    readers = row_readers(domain)
    pairs = [pair_id(user, course) for user in users for course in ("c1", "c2", "c3")]
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory))
        try:
            apply_in_batches(domain, store, records)
            with store.read() as view:

                def read(entity: str, identity: str) -> KeyState | None:
                    return decoded(view.state(entity, identity))

                return {
                    (entity, identity): readers[entity].row(
                        read(entity, identity), t_ms, identity=identity, read=read, times=True
                    )
                    for entity, keys in (
                        ("user", users),
                        ("likes", pairs),
                        ("course", ("c1", "c2", "c3")),
                    )
                    if entity in readers
                    for identity in keys
                }
        finally:
            store.close()


def apply_in_batches(domain: Domain, store: EmbeddedStore, records: list[LoggedEvent]) -> None:
    """Applies a log, which may begin after gaps, to an empty store in batches of several sizes."""
    applier = Applier(domain, store, lambda: START_MS)
    with store.write() as transaction:
        transaction.clear(schema_of(domain))
    position = 0
    for size in (1, 3, 7, len(records)):
        batch = records[position : position + size]
        if batch:
            first = 0 if position == 0 else records[position - 1].arrival + 1
            applier.apply([(r.arrival, r.SerializeToString()) for r in batch], first)
        position += size
