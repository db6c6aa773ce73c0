"""The embedded store when its file is full, short, or left by readers that died."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.common.errors import Unavailable
from services.common.event_log import LogWriter
from services.feature.applying.apply import Applier
from services.feature.applying.follow import follow
from services.feature.applying.process import log_salvage
from services.feature.store.embedded import TEND_S, EmbeddedStore
from tests.support.feature_streams import START_MS, domain_with, interaction, logged

ROOT = Path(__file__).parents[5]
DOMAIN = domain_with(
    {"clicks": {"kind": "count", "entities": ["user"], "events": ["click"], "window": "1d"}}
)


def put(store: EmbeddedStore, position: int, count: int, size: int = 1_000) -> None:
    with store.write() as transaction:
        for number in range(count):
            transaction.put_state("user", f"{position}-{number}", os.urandom(size))
        transaction.put_position(position, b"")


def fill(store: EmbeddedStore) -> int:
    """Writes until nothing more goes in; returns the position reached."""
    position = 0
    while True:
        try:
            put(store, position + 1, 100)
        except Unavailable:
            return position
        position += 1


def test_a_full_store_can_be_read_and_takes_more_once_it_may_grow(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path, max_bytes=2 << 20)) as store:
        reached = fill(store)
        assert reached > 0
        with pytest.raises(Unavailable, match=r"2097152 bytes.*PODIUM_STORE_MAX_BYTES") as caught:
            put(store, reached + 1, 100)
        assert caught.value.reason == "STORE_FULL"
        with store.read() as view:
            assert view.position() == reached
            assert view.state("user", f"{reached}-99") is not None

    with closing(EmbeddedStore(tmp_path, max_bytes=8 << 20)) as store:
        put(store, reached + 1, 100)
        with store.read() as view:
            assert view.position() == reached + 1


def test_a_write_cut_short_by_the_end_of_the_disk_is_a_full_store(tmp_path: Path) -> None:
    """LMDB says "Input/output error" then, not that there is no room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(EmbeddedStore(tmp_path)) as store:
        put(store, 1, 100)
        room = (tmp_path / "data.mdb").stat().st_size + 5_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(Unavailable, match="disk is full") as caught:
                put(store, 2, 1_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.reason == "STORE_FULL"

        put(store, 2, 1_000)
        with store.read() as view:
            assert view.position() == 2


def test_applying_pauses_while_the_store_is_full_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.feature.applying.follow.FULL_RETRY_S", 0.0)
    log_dir = tmp_path / "log"
    records = [
        logged(
            n, interaction(f"e{n}", "click", START_MS, f"ann{n}" + "x" * 60, "course:c"), START_MS
        )
        for n in range(6_000)
    ]
    with LogWriter(log_dir) as writer:
        writer.append([record.SerializeToString() for record in records])
    told: list[str] = []
    salvage = log_salvage(log_dir)

    def run(max_bytes: int, until: Iterator[bool]) -> int:
        with closing(EmbeddedStore(tmp_path / "store", max_bytes=max_bytes)) as store:
            follow(
                Applier(DOMAIN, store, lambda: START_MS),
                log_dir,
                synced=lambda: len(records),
                salvage=salvage,
                should_stop=lambda: next(until),
                prepared=lambda: None,
                paused=told.append,
                poll_seconds=0.0,
            )
            with store.read() as view:
                return view.position()

    def after(looks: int) -> Iterator[bool]:
        yield from [False] * looks
        while True:
            yield True

    assert run(1 << 20, after(12)) == 0
    assert told == ["STORE_FULL"]
    assert run(64 << 20, after(4)) == len(records)


def test_a_file_cut_in_the_middle_is_told_not_touched(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path)) as store:
        for position in range(1, 11):
            put(store, position, 1_000)
    path = tmp_path / "data.mdb"
    os.truncate(path, path.stat().st_size // 2)

    for read_only in (True, False):
        with pytest.raises(Unavailable, match=r"damaged.*remove it.*filled again") as caught:
            EmbeddedStore(tmp_path, read_only=read_only)
        assert caught.value.reason == "STORE_DAMAGED"


def test_a_file_that_lacks_its_last_pages_ends_no_process(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path)) as store:
        put(store, 1, 1_000)
    path = tmp_path / "data.mdb"
    size = path.stat().st_size
    os.truncate(path, size - 10_000)

    with pytest.raises(Unavailable, match=r"damaged.*filled again") as caught:
        EmbeddedStore(tmp_path)
    assert caught.value.reason == "STORE_DAMAGED"
    assert path.stat().st_size == size


def test_an_empty_and_a_foreign_file_are_no_stores(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no store" * 1_000)
    with pytest.raises(Unavailable, match="damaged"):
        EmbeddedStore(tmp_path)


def test_readers_that_died_are_freed_on_a_timer(tmp_path: Path) -> None:
    now_s = 0.0
    with closing(EmbeddedStore(tmp_path, monotonic_s=lambda: now_s)) as store:
        die_reading = (
            "import os, sys; from pathlib import Path\n"
            "from services.feature.store.embedded import EmbeddedStore\n"
            "store = EmbeddedStore(Path(sys.argv[1]), read_only=True)\n"
            "with store.read() as view:\n"
            "    view.position()\n"
            "    os._exit(7)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", die_reading, str(tmp_path)], cwd=ROOT, check=False
        )
        assert done.returncode == 7
        readers = store._environment.readers
        assert readers() != "(no active readers)\n"

        store.tend()
        assert readers() != "(no active readers)\n"
        now_s = TEND_S
        store.tend()
        assert readers() == "(no active readers)\n"
