"""``podium evaluate`` refuses what it can't evaluate."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import evaluate
from services.common.domain import load_domain
from services.common.errors import NotFound, PodiumError
from tests.support.tiny_bundle import make_tiny_bundle

DOMAIN = Path(__file__).parents[3] / "config" / "mooccubex.yaml"


def run(folder: Path, *further: str) -> None:
    """Runs the command on one folder; what it raises comes out as it is."""
    app = typer.Typer()
    app.callback()(lambda: None)
    evaluate.register(app)
    places = [f"--{name}={folder}" for name in ("log", "dataset", "bundles")]
    CliRunner().invoke(
        app, ["evaluate", f"--domain={DOMAIN}", *places, *further], catch_exceptions=False
    )


def test_without_a_promoted_bundle_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--version"):
        run(tmp_path)


def test_an_unknown_version_and_a_missing_dataset_are_named(tmp_path: Path) -> None:
    with pytest.raises(PodiumError, match="v404"):
        run(tmp_path, "--version=v404")
    version = make_tiny_bundle(tmp_path, load_domain(DOMAIN), {"course": {"a": {}, "b": {}}})
    with pytest.raises(NotFound, match="dataset"):
        run(tmp_path, f"--version={version}")
