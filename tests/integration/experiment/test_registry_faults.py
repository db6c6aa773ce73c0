"""The registry while its database fails in the middle of a change: all of it is kept or nothing,
callers are told UNAVAILABLE, and what comes back is used without a restart."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import pytest
from sqlalchemy import Engine, event

from podium.experiment.v1 import registry_pb2
from services.common.assign.definitions import errors_within
from services.common.clock import system_clock_ms
from services.common.errors import Unavailable
from services.experiment.registry.changes import entry, raised
from services.experiment.registry.record import Record
from services.experiment.registry.registry import Registry
from services.experiment.store import engine as engines
from services.experiment.store.sql import SqlStore
from tests.integration.experiment.conftest import Database
from tests.integration.experiment.replicas import DEFINITION, Replica
from tests.support.postgresql import PostgreSql

WRITERS, BREAKS = 3, 15


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_WAIT_S", 1)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    made = engines.open_engine(database.url)
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlStore:
    made = SqlStore(engine)
    made.migrate()
    return made


@pytest.fixture
def registry(store: SqlStore) -> Registry:
    registry = Registry(store, partial(errors_within, domain=None), system_clock_ms)
    registry.create("ann", "banner", json.dumps(DEFINITION))
    return registry


@pytest.fixture
def replica(database: Database, registry: Registry, tmp_path: Path) -> Iterator[Replica]:
    del registry  # made the tables
    made = Replica(database, tmp_path / "replica")
    yield made
    made.close()


def _change_half(store: SqlStore, before: Record, fault: Callable[[], None]) -> None:
    """Puts a record, and fails before the audit trail is told."""
    after = raised(before, before.updated_ms)
    with store.writing() as transaction:
        transaction.put(after)
        fault()
        transaction.append(entry("eve", "update", before, after))


def _is_untouched(registry: Registry, before: Record) -> bool:
    told = [numbered.entry.caller for numbered in registry.audit("", 0, 10)]
    return registry.get("banner") == before and told == ["ann"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_connection_that_breaks_in_mid_change_leaves_nothing_of_it(
    postgresql: PostgreSql, store: SqlStore, registry: Registry
) -> None:
    before = registry.get("banner")
    with pytest.raises(Unavailable) as gone:
        _change_half(store, before, postgresql.break_connections)
    assert gone.value.reason == "REGISTRY_UNAVAILABLE"
    assert _is_untouched(registry, before)
    assert registry.start("ann", "banner", 1).version == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_server_that_stops_answering_is_given_up(
    postgresql: PostgreSql, store: SqlStore, registry: Registry
) -> None:
    before, stopped = registry.get("banner"), postgresql.processes()

    def stop() -> None:
        for process in stopped:
            os.kill(process, signal.SIGSTOP)

    with ThreadPoolExecutor(1) as pool:
        try:
            change = pool.submit(_change_half, store, before, stop)
            assert isinstance(change.exception(60), Unavailable)
        finally:
            for process in stopped:
                os.kill(process, signal.SIGCONT)
    assert _is_untouched(registry, before)
    assert registry.start("ann", "banner", 1).version == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_server_that_crashes_in_mid_change_and_starts_again(
    postgresql: PostgreSql, store: SqlStore, registry: Registry, replica: Replica
) -> None:
    replica.stub.StartExperiment(
        registry_pb2.StartExperimentRequest(key="banner", expected_version=1)
    )
    variants, before = replica.variants(), registry.get("banner")
    told = registry.audit("", 0, 10)
    pause = registry_pb2.PauseExperimentRequest(key="banner", expected_version=2)
    try:
        with pytest.raises(Unavailable):
            _change_half(store, before, postgresql.crash)
        with pytest.raises(grpc.RpcError) as gone:
            replica.stub.PauseExperiment(pause)
        assert gone.value.code() is grpc.StatusCode.UNAVAILABLE
        assert replica.variants() == variants
    finally:
        postgresql.start()
    assert (registry.get("banner"), registry.audit("", 0, 10)) == (before, told)
    assert replica.stub.PauseExperiment(pause).experiment.version == 3


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_audit_trail_is_whole_whatever_breaks_between_callers(
    postgresql: PostgreSql, registry: Registry, replica: Replica
) -> None:
    asked = registry_pb2.GetExperimentRequest(key="banner")

    def change(number: int) -> grpc.StatusCode:
        try:
            version = replica.stub.GetExperiment(asked).experiment.version
            text = json.dumps(DEFINITION | {"description": f"try {number}"})
            replica.stub.UpdateExperiment(
                registry_pb2.UpdateExperimentRequest(
                    key="banner", expected_version=version, definition_json=text
                )
            )
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(WRITERS) as pool:
        codes = pool.map(change, range(WRITERS * BREAKS))
        for _ in range(BREAKS):
            postgresql.break_connections()
    told = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}
    assert set(codes) <= told
    assert change(-1) is grpc.StatusCode.OK
    entries, version = registry.audit("", 0, 1_000), registry.get("banner").version
    versions = [numbered.entry.version_after for numbered in reversed(entries)]
    assert versions == [*range(1, version + 1)]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_another_process_holds(
    database: Database, store: SqlStore, registry: Registry
) -> None:
    before = registry.get("banner")
    path = database.url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for call in (lambda: registry.start("ann", "banner", 1), lambda: registry.get("banner")):
        with pytest.raises(Unavailable):
            call()
    other.execute("ROLLBACK")
    other.close()
    assert _is_untouched(registry, before)
    assert registry.start("ann", "banner", 1).version == 2


@pytest.mark.parametrize("pragma", ["max_page_count = 1", "query_only = ON"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_disk_that_is_full_or_read_only(engine: Engine, registry: Registry, pragma: str) -> None:
    before = registry.get("banner")

    def limit(connection: sqlite3.Connection, _: object) -> None:
        # No file becomes smaller than it is: what needs another page fails.
        connection.execute(f"PRAGMA {pragma}")

    large = json.dumps(DEFINITION | {"description": "x" * 200_000})
    event.listen(engine, "connect", limit)
    with pytest.raises(Unavailable):
        registry.update("ann", "banner", 1, large)
    assert _is_untouched(registry, before), "what is there can be read"
    event.remove(engine, "connect", limit)
    assert registry.update("ann", "banner", 1, large).version == 2
