"""A database file that is damaged, or from a newer release, fails as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from services.common.assign.canonical import Item
from services.common.errors import FailedPrecondition, Unavailable
from services.experiment.registry.record import Record, State
from services.experiment.store.engine import open_engine, transaction
from services.experiment.store.sql import SqlStore


def test_a_file_whose_damage_is_told_in_no_text(tmp_path: Path) -> None:
    store = SqlStore(open_engine(f"sqlite:///{tmp_path}/registry.db"))
    store.migrate()
    content = (tmp_path / "registry.db").read_bytes()
    # The schema's own text, which SQLite's message quotes.
    broken = content.replace(b"CREATE TABLE reports (", b"CREATE T\x94BLE reports (")
    assert broken != content
    (tmp_path / "registry.db").write_bytes(broken)
    with pytest.raises(Unavailable, match="the registry's database fails"):
        store.reports("banner")


def test_a_state_of_a_newer_release(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/registry.db")
    store = SqlStore(engine)
    store.migrate()
    item = Item("experiment", "banner", 1, 1, "{}")
    with store.writing() as changing:
        changing.put(Record(item, "{}", 1, State.DRAFT, 0, 0))
    with transaction(engine, writes=True) as connection:
        connection.execute(text("UPDATE definitions SET state = 'resting'"))
    with pytest.raises(FailedPrecondition, match="'resting'") as refused:
        store.record(("experiment", "banner"))
    assert refused.value.reason == "UNREADABLE_DEFINITION"
