"""``podium bundle`` on bundles with random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import bundle
from services.common.bundle.store import BundleStore
from services.common.domain import load_domain
from services.common.errors import BundleError, InvalidArgument, NotFound
from tests.support.tiny_bundle import make_tiny_bundle

RUNNER = CliRunner()


@pytest.fixture
def versions(tmp_path: Path) -> list[str]:
    domain = load_domain(Path("config/mooccubex.yaml"))
    return [
        make_tiny_bundle(
            tmp_path,
            domain,
            {"course": {"a": {}, "b": {}}},
            seed=seed,
            promote=False,
            created_at=datetime(2026, 1, 1 + seed, tzinfo=UTC),
        )
        for seed in range(2)
    ]


def run(*arguments: str, **environment: str) -> str:
    app = typer.Typer()
    bundle.register(app)
    result = RUNNER.invoke(app, ["bundle", *arguments], env={"COLUMNS": "200", **environment})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_promote_list_show_and_roll_back(tmp_path: Path, versions: list[str]) -> None:
    where = ("--bundles", str(tmp_path))
    for version in versions:
        run("promote", version, *where)
    lines = run("list", *where).splitlines()
    marked = [line for line in lines if "*" in line]
    assert len(marked) == 1
    assert versions[1] in marked[0]
    assert any(versions[0] in line for line in lines)
    assert json.loads(run("show", versions[0], *where))["version"] == versions[0]
    assert versions[0] in run("rollback", *where)
    assert BundleStore(tmp_path).current() == versions[0]


def test_a_corrupt_manifest_does_not_hide_the_others(tmp_path: Path, versions: list[str]) -> None:
    (tmp_path / versions[0] / "manifest.json").write_text("{}")
    (tmp_path / "current").write_text("gone")
    output = run("list", "--bundles", str(tmp_path))
    (corrupt,) = [line for line in output.splitlines() if "corrupt" in line and "│" in line]
    assert versions[0] in corrupt
    assert any(versions[1] in line and "mooccubex" in line for line in output.splitlines())
    assert "names a bundle that is not there" in output


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}], ids=["file", "terminal"])
def test_a_version_is_never_cut_off(
    tmp_path: Path, versions: list[str], environment: dict[str, str]
) -> None:
    output = run("list", "--bundles", str(tmp_path), COLUMNS="80", **environment)
    assert all(version in output for version in versions)


def test_a_version_wider_than_the_terminal_is_printed_whole(tmp_path: Path) -> None:
    version = "v" * 120
    (tmp_path / version).mkdir()
    output = run("list", "--bundles", str(tmp_path), COLUMNS="80", FORCE_COLOR="1")
    assert any(version in line for line in output.splitlines() if "│" in line)


def test_list_shows_a_bundle_with_a_flipped_byte_as_corrupt(
    tmp_path: Path, versions: list[str]
) -> None:
    path = tmp_path / versions[0] / "ranker.onnx"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    output = run("list", "--bundles", str(tmp_path))
    (corrupt,) = [line for line in output.splitlines() if "corrupt" in line and "│" in line]
    assert versions[0] in corrupt
    assert f"error: {path}: corrupt" in output


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        run("list", "--bundles", str(tmp_path / "absent"))


def test_show_verifies(tmp_path: Path, versions: list[str]) -> None:
    with (tmp_path / versions[0] / "vocabulary.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=r"vocabulary\.json"):
        run("show", versions[0], "--bundles", str(tmp_path))


def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no bundle 'v9'"):
        run("promote", "v9", "--bundles", str(tmp_path))


def test_loading_a_bundle_needs_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, services.common.bundle.loaded, services.common.bundle.store; "
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_canary_grows_and_is_promoted(tmp_path: Path, versions: list[str]) -> None:
    where = ("--bundles", str(tmp_path), "--by", "ann")
    first, second = versions
    run("promote", first, *where)
    assert "0.05 of the users" in run("canary", second, "--share", "5%", *where)
    run("canary", second, "--share", "0.25", *where)
    run("shadow", second, *where)
    run("experiment", second, *where)
    status = run("status", "--bundles", str(tmp_path))
    (row,) = [line for line in status.splitlines() if "canary" in line and "25 % of users" in line]
    assert second in row
    assert "ann" in row
    assert "sound" in row
    assert "5 % of requests" in status
    assert second in run("promote", *where)
    roles = BundleStore(tmp_path).pointer().roles()
    assert roles == {second: "live", first: "roll-back"}
    run("experiment", second, "--end", *where)
    assert first in run("roll-back", *where)


@pytest.mark.parametrize(
    "arguments",
    [
        ("canary", "v1", "--share", "0%"),
        ("canary", "v1", "--share", "101%"),
        ("shadow", "v1", "--share", "much"),
        ("shadow",),
        ("canary", "v1", "--end"),
    ],
)
def test_what_is_wrong_moves_nothing(
    tmp_path: Path, versions: list[str], arguments: tuple[str, ...]
) -> None:
    run("promote", versions[0], "--bundles", str(tmp_path))
    before = (tmp_path / "current").read_bytes()
    with pytest.raises(InvalidArgument):
        run(*arguments, "--bundles", str(tmp_path))
    with pytest.raises(NotFound, match="no bundle 'v9'"):
        run("canary", "v9", "--bundles", str(tmp_path))
    assert (tmp_path / "current").read_bytes() == before


def test_without_a_canary_a_version_must_be_named(tmp_path: Path, versions: list[str]) -> None:
    run("promote", versions[0], "--bundles", str(tmp_path))
    with pytest.raises(NotFound, match="no canary"):
        run("promote", "--bundles", str(tmp_path))
