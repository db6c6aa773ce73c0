"""``podium events erase`` beside a service that serves, and after it has stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from podium.common.v1.common_pb2 import Actor
from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.feature.v1 import feature_pb2
from services.common.clock import system_clock_ms as now_ms
from services.common.event_log import read_log
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.spool import Spool
from services.ranker.explain.directory import capture_paths, read_capture
from tests.support.captured_requests import capture_requests
from tests.support.feature_server import FeatureClient, running_service
from tests.support.feature_streams import interaction, purchase_event, sticky_event
from tests.support.more_features import domain_file_with

ROOT = Path(__file__).parents[3]
DOMAIN_FILE = ROOT / "config" / "live_courses.yaml"
NAMES = Pseudonymiser.from_text(DEVELOPMENT_KEYS)


def _events(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "events", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _click(event_id: str, user: str, course: str, device: str = "") -> Event:
    event = interaction(event_id, "click", now_ms(), user, f"course:{course}")
    event.actor.device_id = device
    return event


def _clicks(client: FeatureClient, user: str, position: int) -> object:
    (row,) = client.get("user", user, position=position)
    return row["user_clicks_7d"]


def _rows(client: FeatureClient, position: int) -> list[object]:
    rows = [*client.get("user", "ann", "bob", position=position), *client.get("course", "c1")]
    return [{name: value for name, value in row.items() if "recency" not in name} for row in rows]


def test_who_is_erased_leaves_every_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "ranker", NAMES)
    spool.append([_click("s-1", "ann", "c1"), _click("s-2", "bob", "c1")])
    spool.acknowledge(2)
    with running_service(DOMAIN_FILE, tmp_path) as running:
        log, store = running.files.log_dir, running.files.store_dir
        command = ("erase", log, "--store", store, "--spool", spool.directory)
        command += ("--archive", tmp_path / "archive", "--search", tmp_path)
        captures = capture_requests(tmp_path / "captures", ("ann", ""), ("bob", ""), ("", "phone"))
        command += ("--captures", captures)
        client = running.client
        client.ingest(
            _click("d-1", "", "c1", "phone"),
            sticky_event("k-1", now_ms(), "", "phone"),
            _click("b-1", "bob", "c1"),
            purchase_event("a-1", now_ms(), 900, "ann", "course:c1"),
        )
        login = feature_pb2.AliasRequest(
            event_id="l-1", actor=Actor(user_id="ann", device_id="phone")
        )
        client.stub.Alias(login, timeout=30)
        assert _events("compact", log, "--to", tmp_path / "archive").returncode == 0
        client.ingest(_click("a-2", "ann", "c2"))
        request = feature_pb2.EraseUserRequest(event_id="x-1", actor=Actor(user_id="ann"))
        erased = client.stub.EraseUser(request, timeout=30)
        client.get("user", "ann", position=erased.log_position)

        mistyped = _events(*command[:-1], tmp_path / "capture")
        assert mistyped.returncode != 0
        assert "--captures: there is no folder" in mistyped.stdout + mistyped.stderr

        beside = _events(*command)
        # The service goes on; what its store freed may still lie in its file.
        assert beside.returncode in (0, 1), beside.stderr
        assert "5 records erased" in beside.stdout or "6 records erased" in beside.stdout
        assert client.kept("ann", "device:phone") == [{}, {}]
        assert "2 captured requests removed" in beside.stdout
        assert [read_capture(path).command.user_id for path in capture_paths(captures)] == [
            NAMES.encrypt("bob")
        ]
        later = client.ingest(_click("b-2", "bob", "c1"))
        assert _clicks(client, "bob", later.log_position) == (2, "PRESENT")
        before = _rows(client, later.log_position)
    spool.close()

    after = _events(*command)

    assert (after.returncode, "nothing" in after.stdout) == (0, True), after.stdout + after.stderr
    needles = [b"ann-", *(name.encode() for name in NAMES.under_every_key("ann"))]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if any(n in path.read_bytes() for n in needles)]
    logged = [LoggedEvent.FromString(payload) for _, payload in read_log(log)]
    assert [record.arrival for record in logged] == list(range(8))
    phone = NAMES.encrypt("phone")
    # What the phone did before it became the user's, and that it did, are gone, too.
    assert not [record for record in logged if record.event.actor.device_id == phone]
    again = _events(*command)
    assert "nobody is to be forgotten" in again.stdout
    for path in store.rglob("data.mdb"):
        path.unlink()
    # The same store comes of the erased log as was served before.
    with running_service(DOMAIN_FILE, tmp_path) as running:
        assert _rows(running.client, 8) == before
        assert running.client.kept("ann", "device:phone") == [{}, {}]


def test_a_history_that_began_anew_is_kept(tmp_path: Path) -> None:
    with running_service(DOMAIN_FILE, tmp_path) as running:
        log, store = running.files.log_dir, running.files.store_dir
        client = running.client
        client.ingest(_click("a-1", "ann", "c1"))
        request = feature_pb2.EraseUserRequest(event_id="x-1", actor=Actor(user_id="ann"))
        client.stub.EraseUser(request, timeout=30)
        client.stub.EraseUser(request, timeout=30)
        later = client.ingest(_click("a-2", "ann", "c2"))
        assert _clicks(client, "ann", later.log_position) == (1, "PRESENT")

        # Without a store the erasures stay: one may still have to read them.
        kept = _events("erase", log)
        assert kept.returncode == 0, kept.stdout + kept.stderr
        assert sum(b"erasure" in payload for _, payload in read_log(log)) == 2

        done = _events("erase", log, "--store", store)

        assert done.returncode == 0, done.stdout + done.stderr
        assert _clicks(client, "ann", later.log_position) == (1, "PRESENT")
    users = [LoggedEvent.FromString(payload).event.actor.user_id for _, payload in read_log(log)]
    assert users == ["", "", "", NAMES.encrypt("ann")]


def test_what_registered_views_count_stays_whichever_domain_file_is_named(tmp_path: Path) -> None:
    gifts = {"entities": ["course"], "events": ["gift"], "value": "amount_minor", "window": "7d"}
    more = domain_file_with(tmp_path / "next.yaml", {"gifts_7d": {"kind": "sum", **gifts}})
    gift = interaction("g-1", "gift", now_ms(), "ann", "course:c1")
    gift.attributes["amount_minor"].int_value = 500
    with running_service(more, tmp_path) as running:
        log, store = running.files.log_dir, running.files.store_dir
        running.client.ingest(gift)
        request = feature_pb2.EraseUserRequest(event_id="x-1", actor=Actor(user_id="ann"))
        erased = running.client.stub.EraseUser(request, timeout=30)
        (row,) = running.client.get("course", "c1", position=erased.log_position)
        assert row["gifts_7d"] == (500, "PRESENT")

    # The file that the service started with before the feature was added.
    done = _events("erase", log, "--store", store, "--domain", DOMAIN_FILE)

    assert done.returncode == 0, done.stdout + done.stderr
    for path in store.rglob("data.mdb"):
        path.unlink()
    with running_service(more, tmp_path) as running:
        (row,) = running.client.get("course", "c1", position=2)
        assert row["gifts_7d"] == (500, "PRESENT")
