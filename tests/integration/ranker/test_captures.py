"""Requests captured by a real ranker, replayed by the command."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from cli import replay
from cli.main import build
from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.ranker.explain.codec import to_bytes
from services.ranker.explain.directory import path_of, read_capture
from tests.integration.ranker.conftest import CONFIG, make_settings, running_ranker
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
