"""``podium keys rotate`` beside a service that serves: nobody's history splits, nothing is left."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from redis import Redis
from typer.testing import CliRunner

from cli.main import build
from podium.common.v1.common_pb2 import Actor
from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.feature.v1 import feature_pb2
from services.common.errors import FailedPrecondition
from services.common.event_log import read_log
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.pseudonym_scan import PseudonymScan
from services.common.spool import Spool
from services.feature.store.opening import StoreOptions
from services.feature.views.registry import current_store
from tests.support.captured_requests import capture_requests
from tests.support.eventually import eventually
from tests.support.feature_server import FeatureClient, running_service
from tests.support.feature_streams import interaction, purchase_event, sticky_event
from tests.support.redis_servers import redis_server

ROOT = Path(__file__).parents[3]
DOMAIN_FILE = ROOT / "config" / "live_courses.yaml"
NEW_KEY = "2:" + base64.b64encode(bytes(range(64))).decode()
BOTH_KEYS = f"{DEVELOPMENT_KEYS},{NEW_KEY}"
USERS = ("ann", "bob", "device:tablet")


def _click(event_id: str, user: str, course: str = "c1", device: str = "") -> Event:
    now_ms = time.time_ns() // 1_000_000
    event = interaction(event_id, "click", now_ms, user, f"course:{course}", "host:h1")
    event.actor.device_id = device
    return event


def _run(*arguments: object, keys: str = BOTH_KEYS) -> Result:
    named = [str(argument) for argument in arguments]
    return CliRunner(env={"PODIUM_PSEUDONYM_KEYS": keys}).invoke(build(), named)


def _rotate(directory: Path, *options: object, keys: str = BOTH_KEYS) -> Result:
    store = directory / "store"
    return _run("keys", "rotate", directory / "log", "--store", store, *options, keys=keys)


def _compact(directory: Path) -> None:
    done = _run("events", "compact", directory / "log", "--to", directory / "archive")
    assert done.exit_code == 0, done.output


def _rows(client: FeatureClient, position: int) -> list[object]:
    """What features say of users, their pairs and a course; ages leave with the clock."""
    rows = client.get("user", *USERS, position=position) + client.get("course", "c1")
    told = [{name: v for name, v in row.items() if "recency" not in name} for row in rows]
    return [*told, *client.kept("ann", "device:tablet")]


def _versions(directory: Path, keys: str) -> set[int]:
    scan = PseudonymScan(Pseudonymiser.from_text(keys))
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {version for path in files for version in scan.versions_in(path)}


@contextmanager
def _reading_all_the_time(client: FeatureClient) -> Iterator[list[object]]:
    """Reads users until the end of the block; yields what any call failed with, or gave less."""
    stop = threading.Event()
    problems: list[object] = []

    def read() -> None:
        while not stop.is_set():
            try:
                rows = client.get("user", *USERS)
            except grpc.RpcError as error:
                problems.append(error)
                return
            missing = [row for row in rows if row["user_clicks_7d"][1] != "PRESENT"]
            problems.extend(missing)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield problems
    finally:
        stop.set()
        reader.join(60)


# A service that can't start says so in its own thread, too.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_history_goes_on_under_the_next_key(tmp_path: Path) -> None:
    archive, spool_dir = tmp_path / "archive", tmp_path / "spool"
    old = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
    spool = Spool(spool_dir, "ranker", old)
    spool.append([_click("s-1", "ann"), _click("s-2", "bob")])
    spool.acknowledge(1)
    spool.close()
    captures = capture_requests(tmp_path / "captures", ("ann", ""), names=old)
    again = _click("a-1", "ann")
    # A store that does not say its key is not trusted with anybody's history.
    keyless = tmp_path / "store" / "0123456789abcdef-0"
    keyless.mkdir(parents=True)
    (keyless / "definitions.json").write_text("{}")
    (keyless.parent / "current").write_text(keyless.name)
    with running_service(DOMAIN_FILE, tmp_path) as running:
        client = running.client
        client.ingest(again, _click("b-1", "bob"), _click("p-1", "", device="phone"))
        now_ms = time.time_ns() // 1_000_000
        client.ingest(_click("t-1", "", device="tablet"), sticky_event("k-1", now_ms, "", "phone"))
        client.ingest(purchase_event("a-2", time.time_ns() // 1_000_000, 900, "ann", "course:c1"))
        login = Actor(user_id="ann", device_id="phone")
        client.stub.Alias(feature_pb2.AliasRequest(event_id="l-1", actor=login), timeout=30)
        _compact(tmp_path)
        before = _rows(client, 7)
        # The phone's, which is ann's by now.
        assert before[-2:] == [{"experiment__0": "b"}, {}]
        options = ("--target", f"127.0.0.1:{running.port}")
        assert not keyless.exists()
        assert "start them anew" in str(_rotate(tmp_path, *options).exception)
    with (
        pytest.raises(FailedPrecondition, match="filled under key 1"),
        running_service(DOMAIN_FILE, tmp_path, keys=NEW_KEY),
    ):
        pass
    with running_service(DOMAIN_FILE, tmp_path, keys=BOTH_KEYS) as running:
        client = running.client
        options = ("--target", f"127.0.0.1:{running.port}", "--archive", archive)
        options += ("--captures", captures)
        # What was there before goes on, and a retry is known under either key.
        assert _rows(client, 7) == before
        assert client.ingest(again).duplicates == 1
        conflict = client.ingest(_click("b-1", "ann"))
        assert [r.reason for r in conflict.rejections] == ["EVENT_ID_CONFLICT"]
        added = client.ingest(_click("a-3", "ann"), _click("t-2", "", device="tablet"))
        grown = _rows(client, added.log_position)
        assert grown != before
        assert _versions(tmp_path / "log", BOTH_KEYS) == {1, 2}
        assert _versions(tmp_path / "store", BOTH_KEYS) == {1}
        with _reading_all_the_time(client) as problems:
            first = _rotate(tmp_path, *options, "--spool", spool_dir)
        assert problems == []
        # All is done but what a spool still has to ship.
        assert first.exit_code == 1, first.output
        assert "1 of them wait to be shipped" in first.output
        assert _rows(client, added.log_position) == grown
        assert _versions(tmp_path / "log", BOTH_KEYS) == {2}
        assert _versions(tmp_path / "store", BOTH_KEYS) == {2}
        assert _versions(captures, BOTH_KEYS) == {2}
        Spool(spool_dir, "ranker", old).acknowledge(2)
        second = _rotate(tmp_path, *options, "--spool", spool_dir)
        assert second.exit_code == 0, second.output
        assert "Nothing is under key 1 any more" in second.output
        later = client.ingest(_click("b-2", "bob"))
        assert client.ingest(again).duplicates == 1
        grown = _rows(client, later.log_position)
    assert _versions(tmp_path, BOTH_KEYS) == {2}
    logged = [LoggedEvent.FromString(payload) for _, payload in read_log(tmp_path / "log")]
    assert [record.arrival for record in logged] == list(range(len(logged)))
    known = current_store(tmp_path / "store")
    with running_service(DOMAIN_FILE, tmp_path, keys=NEW_KEY) as running:
        assert _rows(running.client, later.log_position) == grown
        done = _rotate(tmp_path, "--target", f"127.0.0.1:{running.port}", keys=NEW_KEY)
        assert (done.exit_code, "one key only" in done.output) == (0, True), done.output
    # The archive knows its log, the log its store: nothing was filled again.
    _compact(tmp_path)
    assert current_store(tmp_path / "store") == known


@pytest.mark.slow
def test_a_store_in_redis_takes_the_next_key(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        options = StoreOptions("redis", redis_url=server.url, redis_timeout_s=5)
        with running_service(DOMAIN_FILE, tmp_path, store=options) as running:
            running.client.ingest(_click("a-1", "ann"), _click("t-1", "", device="tablet"))
            running.client.ingest(_click("b-1", "bob"))
            before = _rows(running.client, 3)
        assert any(b"p1." in key for key in server.client().scan_iter())
        # Asked for while no service runs: the one that starts goes on with it.
        waiting = _rotate(tmp_path, "--target", "127.0.0.1:1")
        assert (waiting.exit_code, "start it" in waiting.output) == (1, True), waiting.output
        assert _versions(tmp_path / "log", BOTH_KEYS) == {2}
        with running_service(DOMAIN_FILE, tmp_path, store=options, keys=BOTH_KEYS) as running:
            assert _rows(running.client, 3) == before
            done = _rotate(tmp_path, "--target", f"127.0.0.1:{running.port}")
            assert done.exit_code == 0, done.output
            assert _rows(running.client, 3) == before
            keys = eventually(lambda: _without_old_keys(server.client()), "the old store's end")
            assert any(b"p2." in key for key in keys)


def _without_old_keys(client: Redis) -> list[bytes]:
    """All keys there are; none while one has a pseudonym under the first key."""
    keys = list(client.scan_iter())
    return [] if any(b"p1." in key for key in keys) else keys
