"""``podium features`` where a folder is not the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cli import features
from services.common.domain import load_domain
from services.feature.views.documents import documents_of
from services.feature.views.registry import registry_of

DOMAIN = "config/live_courses.yaml"


def run(*arguments: object) -> Result:
    app = typer.Typer()
    features.register(app)
    # One command alone would lose its name.
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["features", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    "command",
    [
        ["backfill", "clicks_7d", "--domain", DOMAIN, "--target", "localhost:1"],
        ["rebuild", "--target", "localhost:1"],
        ["retire", "--unused", "--domain", DOMAIN, "--bundles", "{there}"],
    ],
    ids=lambda command: command[0],
)
def test_a_log_that_is_not_there_is_named_and_nothing_is_left_in_its_place(
    command: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "absent"
    found = run(*(word.format(there=tmp_path) for word in command), "--log", log)
    assert f"there is no event log at {log}" in str(found.exception)
    assert not log.exists()


def test_views_are_not_retired_for_bundles_that_are_not_where_they_are_looked_for(
    tmp_path: Path,
) -> None:
    registry = registry_of(tmp_path / "log")
    registry.register(documents_of(load_domain(Path("config/mooccubex.yaml"))))
    before = registry.documents()
    wrong = tmp_path / "absent"
    found = run("retire", "--unused", "--log", tmp_path / "log", "--bundles", wrong)
    assert f"there is no folder {wrong}" in str(found.exception)
    assert registry.documents() == before
