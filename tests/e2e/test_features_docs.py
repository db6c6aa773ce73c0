"""Every command, every kind and every query of ``docs/features.md`` works."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from google.protobuf import json_format
from typer.testing import CliRunner

from cli.main import build
from offline.dataset.tables import load_dataset
from podium.feature.v1 import feature_pb2
from services.common.domain import load_domain
from services.common.domain_features import Feature
from services.feature.definitions import compile_views
from tests.support.eventually import eventually
from tests.support.feature_server import FeatureClient, running_service
from tests.support.feature_streams import interaction, room_event, upsert_event
from tests.support.more_features import LIVE_COURSES
from tests.support.readme import blocks, commands

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "features.md"


def with_block(number: int, path: Path) -> Path:
    """The live-courses domain with a YAML block of the documentation added."""
    domain = yaml.safe_load(LIVE_COURSES.read_text())
    added: dict[str, Any] = yaml.safe_load(blocks(DOCS, "yaml")[number])
    for name, entity in added.get("entities", {}).items():
        domain["entities"].setdefault(name, {}).update(entity)
    domain["features"].update(added["features"])
    domain["model"]["item_features"] += added.get("model", {}).get("item_features", [])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(domain, sort_keys=False))
    return path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(build(), arguments)
    assert done.exit_code == 0, f"{arguments}\n{done.output}\n{done.exception}"
    return done.output


def test_every_kind_has_an_example(tmp_path: Path) -> None:
    domain = load_domain(with_block(1, tmp_path / "kinds.yaml"))
    kinds = {
        kind
        for model in get_args(get_args(Feature)[0])
        for kind in get_args(model.model_fields["kind"].annotation)
    }
    added = yaml.safe_load(blocks(DOCS, "yaml")[1])["features"]
    assert {feature["kind"] for feature in added.values()} == kinds
    assert {"category", "user_host"} <= set(compile_views(domain))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    domain_file = with_block(0, tmp_path / "next.yaml")
    view = compile_views(load_domain(domain_file))["course"]
    run("simulate", "--log", f"{tmp_path}/log", *shlex.split("--users 40 --weeks 3 --courses 30"))
    (tmp_path / "bundles").mkdir()
    with running_service(LIVE_COURSES, tmp_path) as running:

        def at(part: str) -> str:
            part = part.replace("data/", f"{tmp_path}/", 1) if part.startswith("data/") else part
            return part.replace("localhost:50051", f"127.0.0.1:{running.port}")

        lines = commands(DOCS)
        assert all(line.startswith(".venv/bin/podium ") for line in lines)
        said = {line: run(*(at(part) for part in shlex.split(line)[1:])) for line in lines}
        (backfilled,) = (text for line, text in said.items() if "backfill" in line)
        assert f"hash {view.hash}" in backfilled
        assert "backfilled in" in backfilled
        (listed,) = (text for line, text in said.items() if "views" in line)
        assert listed.count("served") >= 6
        (rebuilt,) = (text for line, text in said.items() if "rebuild" in line)
        assert "rebuilt in" in rebuilt

        # In serving:
        client = FeatureClient(running.client.stub, {"course": view})
        rows = client.get("course", *(f"c{number:05d}" for number in range(30)))
        assert all("comments_30d" in row for row in rows)
        # In training:
        names = load_dataset(tmp_path / "dataset").examples.column_names
        assert any("comments_30d" in name for name in names), names

        now_ms = time.time_ns() // 1_000_000
        position = running.client.ingest(
            room_event("u1", "room_started", now_ms, "r", course="c"),
            upsert_event("u2", now_ms, "course:c", title="Hot"),
            *(interaction(f"k{n}", "click", now_ms, "ann", "course:c", "room:r") for n in range(3)),
        ).log_position
        running.client.get("room", "r", position=position)
        for text in blocks(DOCS, "json"):
            request = json_format.Parse(text, feature_pb2.TopEntitiesRequest())
            found = eventually(
                lambda asked=request: (
                    len((top := running.client.stub.TopEntities(asked, timeout=10)).ids) and top
                ),
                "leaders",
            )
            assert list(found.scores) == sorted(found.scores, reverse=True)
