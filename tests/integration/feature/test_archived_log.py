"""A service goes on while its log is archived and its segments removed, and is rebuilt."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.common.event_log import LogWriter, list_segments
from tests.support.feature_server import running_service
from tests.support.feature_streams import interaction, logged, upsert_event

ROOT = Path(__file__).parents[3]
DOMAIN_FILE = ROOT / "config" / "live_courses.yaml"
CLICKS = 3_000


def _events(*arguments: str | Path) -> str:
    """In a process of its own: a process opens a store once."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "events", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_archived_segments_are_removed_under_a_running_service(tmp_path: Path) -> None:
    start_ms = time.time_ns() // 1_000_000 - 3_600_000
    events = [upsert_event("course", start_ms, "course:c", title="Kept")]
    events += [
        interaction(f"bulk-{n}", "click", start_ms + n, "p1.someone", "course:c")
        for n in range(CLICKS)
    ]
    log, archive = tmp_path / "log", tmp_path / "archive"
    with LogWriter(log, segment_bytes=50_000) as writer:
        writer.append(
            [
                logged(n, event, event.event_time.ToMilliseconds()).SerializeToString()
                for n, event in enumerate(events)
            ]
        )
    segments = list_segments(log)
    assert len(segments) > 3

    def clicked(number: int) -> int:
        event = interaction(f"new-{number}", "click", start_ms + CLICKS, "someone", "course:c")
        return running.client.ingest(event).log_position

    with running_service(DOMAIN_FILE, tmp_path) as running:
        clicked(1)
        compacting = ("compact", log, "--to", archive)
        output = _events(*compacting, "--remove-archived", "--store", tmp_path / "store")
        assert f"{len(segments) - 1} segments removed" in output
        assert list_segments(log) == segments[-1:]
        (row,) = running.client.get("course", "c", position=clicked(2))
        assert row["clicks_1d"][0] == CLICKS + 2
    with running_service(DOMAIN_FILE, tmp_path) as running:
        (row,) = running.client.get("course", "c", position=clicked(3))
        assert (row["clicks_1d"][0], row["title"][0]) == (CLICKS + 3, "Kept")
        _events(*compacting)

    # The store is lost: it is made anew from the log, once that is whole again.
    shutil.rmtree(tmp_path / "store")
    _events("restore", archive, "--log", log)
    with running_service(DOMAIN_FILE, tmp_path) as running:
        (row,) = running.client.get("course", "c", position=clicked(4))
        assert (row["clicks_1d"][0], row["title"][0]) == (CLICKS + 4, "Kept")
    assert not list(log.glob("*.damage"))
