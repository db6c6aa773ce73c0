"""What the simulator alone knows changes nothing that is trained: with it deleted, equal hashes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import build
from services.common.bundle.store import BundleStore
from tests.support.more_features import quick_domain_file

WORLD = ["--weeks", "4", "--users", "40", "--courses", "20", "--hosts", "5", "--end", "2026-05-01"]


def _run(*arguments: str | Path) -> None:
    result = CliRunner().invoke(build(), [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def _trained(domain: Path, log: Path, out: Path) -> dict[str, str]:
    """SHA-256 by file of the bundle trained from ``log``."""
    dataset = out / "dataset"
    _run("dataset", "--domain", domain, "--log", log, "--out", dataset)
    _run("train", "--domain", domain, "--dataset", dataset, "--bundles", out / "bundles")
    store = BundleStore(out / "bundles")
    (version,) = store.versions()
    return {name: entry.sha256 for name, entry in store.manifest(version).files.items()}


@pytest.mark.slow
def test_training_with_the_truth_deleted_gives_identical_hashes(tmp_path: Path) -> None:
    log, truth = tmp_path / "world" / "log", tmp_path / "world" / "truth"
    _run("simulate", "--log", log, "--truth", truth, *WORLD)
    assert any(truth.iterdir())
    domain = quick_domain_file(tmp_path / "quick.yaml")
    with_truth = _trained(domain, log, tmp_path / "a")
    shutil.rmtree(truth)
    without = _trained(domain, log, tmp_path / "b")
    assert with_truth == without
    assert {"user_tower.onnx", "item_tower.onnx", "ranker.onnx"} <= with_truth.keys()
