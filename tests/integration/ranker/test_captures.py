"""Requests captured by a real ranker, replayed by the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import replay
from cli.main import build
from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.errors import PermissionDenied
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.ranker.bootstrap import may_debug
from services.ranker.explain.codec import to_bytes
from services.ranker.explain.directory import path_of, read_capture
from tests.integration.ranker.conftest import CONFIG, make_settings, refusal, running_ranker
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService

NAMES = Pseudonymiser.from_text(DEVELOPMENT_KEYS)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), list(map(str, arguments)), env={"COLUMNS": "200"})


def test_what_a_ranker_captured_is_ranked_the_same_again(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    settings = make_settings(tmp_path, tiny_bundles, feature_server.target, capture_share=1.0)
    with running_ranker(settings, features) as ranker:
        pages = [ranker.rank("courses", k=5)]
        pages.append(ranker.rank("courses", k=5, page_token=pages[0].next_page_token))
        refreshed = ranker.stub.Refresh(
            ranker_pb2.RefreshRequest(
                actor=common_pb2.Actor(user_id="ann"),
                surface="courses",
                refresh_token=pages[1].refresh_token,
            ),
            timeout=10,
        )
        phone = common_pb2.Actor(device_id="phone-7")
        pages += [ranker.rank(surface, actor=phone) for surface in ("hosts", "rooms", "courses")]
        unwritten = ranker.rank("courses", dry_run=True)
        rank_ids = [page.rank_id for page in pages] + [refreshed.rank_id]
        directory = settings.capture_dir
        eventually(
            lambda: all(path_of(directory, rank_id).exists() for rank_id in rank_ids),
            "the captures",
        )
    assert not path_of(directory, unwritten.rank_id).exists()
    captures = {rank_id: read_capture(path_of(directory, rank_id)) for rank_id in rank_ids}
    for page in pages:
        assert list(captures[page.rank_id].slate.ids) == list(page.slate.ids)
    assert captures[pages[0].rank_id].command.user_id == NAMES.encrypt("ann")
    for path in directory.iterdir():
        data = path.read_bytes()
        assert b"phone-7" not in data
        assert NAMES.encrypt("ann").encode() in data or NAMES.encrypt("phone-7").encode() in data

    domain = CONFIG / "live_courses.yaml"
    done = run("replay", directory, "--bundles", tiny_bundles, "--domain", domain)
    assert done.exit_code == 0, done.output
    assert done.output.count("the same") == len(rank_ids)

    first = captures[rank_ids[0]]
    items = list(first.slate.ids)
    first.slate.ids[:] = [items[1], items[0], *items[2:]]  # type: ignore[index]
    path_of(directory, rank_ids[0]).write_bytes(to_bytes(first))
    differs = run("replay", path_of(directory, rank_ids[0]), "--bundles", tiny_bundles)
    assert differs.exit_code == replay.DIFFERS, differs.output
    assert "2 differences" in differs.output
    assert items[0] in differs.output


def test_nothing_to_replay_is_said(tmp_path: Path) -> None:
    done = run("replay", tmp_path)
    assert done.exception is not None
    assert "no captures" in str(done.exception)


def test_nothing_is_captured_where_nothing_is_wanted(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    settings = make_settings(tmp_path, tiny_bundles, feature_server.target, capture_share=0.0)
    with running_ranker(settings, features) as ranker:
        assert ranker.rank("courses").rank_id
    assert list(settings.capture_dir.iterdir()) == []


def test_a_debug_request_is_explained_and_captured(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    settings = make_settings(tmp_path, tiny_bundles, feature_server.target, capture_share=0.0)
    with running_ranker(settings, features) as ranker:
        response = ranker.rank("courses", k=5, debug=True)
        plain = ranker.rank("courses", k=5)
        assert not plain.HasField("debug")
        clash = refusal(lambda: ranker.rank("courses", debug=True, idempotency_key="once"))
        path = path_of(settings.capture_dir, response.rank_id)
        eventually(path.exists, "the capture")
    assert str(clash).startswith("debug:")
    assert response.traffic_class == common_pb2.TRAFFIC_CLASS_TEST
    told, slate = response.debug, response.slate
    # A spool is a log, too.
    log = ("--log", settings.spool_dir, "--bundles", tiny_bundles)
    shown = run("explain", response.rank_id, *log, "--captures", settings.capture_dir)
    assert shown.exit_code == 0, shown.output
    for text in (response.rank_id, NAMES.encrypt("ann"), "Why each item is where", "the same"):
        assert text in shown.output
    for item in told.items:
        assert shown.output.count(item.id) >= 2
        assert item.features[0].name in shown.output
    uncaptured = run("explain", plain.rank_id, *log, "--captures", settings.capture_dir)
    assert uncaptured.exit_code == 0, uncaptured.output
    assert "was not captured" in uncaptured.output
    assert str(run("explain", "01NOBODY", *log).exception).startswith("neither the log")
    gone = ("--log", settings.spool_dir, "--bundles", tmp_path, "--captures", settings.capture_dir)
    unexplained = run("explain", response.rank_id, *gone)
    assert unexplained.exit_code == 1
    assert "can't be ranked again" in unexplained.output
    assert [item.id for item in told.items] == list(slate.ids)
    assert list(told.objectives) == list(slate.objectives)
    assert told.captured
    width = len(slate.objectives)
    for at, item in enumerate(told.items):
        assert list(item.probabilities) == list(slate.predictions[at * width : (at + 1) * width])
        assert sum(item.terms) == pytest.approx(slate.values[at], rel=1e-4, abs=1e-4)
        assert item.found_by[0].source == slate.sources[at]
        assert 1 <= len(item.features) <= 5
        assert all(len(feature.probabilities) == width for feature in item.features)
    assert told.versions.feature_log_position == 7
    done = run("replay", path, "--bundles", tiny_bundles)
    assert done.exit_code == 0, done.output


def test_who_may_debug_is_set(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    changes = {"debug_callers": "operator, analyst"}
    settings = make_settings(tmp_path, tiny_bundles, feature_server.target, **changes)
    with running_ranker(settings, features) as ranker:
        request = ranker_pb2.RankRequest(
            actor=common_pb2.Actor(user_id="ann"), surface="courses", debug=True
        )
        refused = refusal(lambda: ranker.stub.Rank(request, timeout=10))
        assert isinstance(refused, PermissionDenied)
        assert refused.reason == "DEBUG_NOT_ALLOWED"
        caller = (("x-podium-caller", "analyst"),)
        assert ranker.stub.Rank(request, timeout=10, metadata=caller).HasField("debug")
    prod = settings.model_copy(update={"environment": "prod", "debug_callers": ""})
    assert not may_debug(prod)("")
    assert may_debug(settings.model_copy(update={"debug_callers": ""}))("")
