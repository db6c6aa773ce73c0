"""What holds for every test."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from services.common.memory import collect_for_batches

# Machines are shared: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

MEMORY_FILES = Path("/dev/shm")
ROOM_BYTES = 4 << 30
LIBRARY_THREADS = re.compile(r"ThreadPoolExecutor|asyncio_|fsspec|tqdm|.*\(_poll_wrapper\)")
CLOSING_S = 10.0


@pytest.fixture(scope="module", autouse=True)
def closed_behind() -> Iterator[None]:
    """A file closes what its tests opened: a thread left running reaches into other tests."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        # A thread of a class of its own is a library's, e.g. the one that frees what Spark holds.
        if type(thread) is threading.Thread and not LIBRARY_THREADS.match(thread.name):
            thread.join(CLOSING_S)
            assert not thread.is_alive(), f"{thread.name} was left running"


def pytest_configure() -> None:
    """Temporary files lie in memory where there is room, unless TMPDIR says otherwise; garbage is
    looked for less often."""
    collect_for_batches()
    if "TMPDIR" in os.environ or not os.access(MEMORY_FILES, os.W_OK):
        return
    if shutil.disk_usage(MEMORY_FILES).free >= ROOM_BYTES:
        os.environ["TMPDIR"] = str(MEMORY_FILES)
        tempfile.tempdir = None


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests wait for processes that they start."""
    return (os.cpu_count() or 1) + 1
