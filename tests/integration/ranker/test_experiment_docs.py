"""The walk-through of ``docs/experiments.md``: define, power, start, Rank, analyse, conclude."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from cli.main import build
from podium.common.v1 import common_pb2
from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.experiment.v1 import experiment_pb2_grpc, registry_pb2
from services.common.event_log import LogWriter, read_log
from services.common.settings import ExperimentSettings
from services.experiment.bootstrap import definitions_of
from tests.integration.ranker.conftest import Ranker, make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.experiment_server import ExperimentServer
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService
from tests.support.readme import blocks, commands

ROOT = Path(__file__).parents[3]
USERS = 60
DAY_MS = 86_400_000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ExperimentServer]:
    """An experiment service with an empty registry."""
    settings = ExperimentSettings(
        experiment_database_url=f"sqlite:///{tmp_path / 'registry.db'}",  # type: ignore[arg-type]
        experiment_dir=tmp_path / "experiment",
    )
    definitions = definitions_of(settings)
    server = ExperimentServer(definitions=definitions)
    yield server
    server.close()
    definitions.close()


def _walk_through(directory: Path) -> Path:
    """The section of the documentation, as a file."""
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    section = text.split("\n## A walk-through\n")[1].split("\n## ")[0]
    path = directory / "walk_through.md"
    path.write_text(section, encoding="utf-8")
    return path


def _variant(ranker: Ranker, user: str) -> str:
    response = ranker.rank(actor=common_pb2.Actor(user_id=user))
    return "".join(a.variant_key for a in response.assignments)


def _with_outcomes(spool: Path, log: Path) -> list[Event]:
    """What the ranker told, and what its users then did: more buy in "engagement"."""
    records = [LoggedEvent.FromString(payload) for _, payload in read_log(spool)]
    exposures = [record.event for record in records if record.event.type == "exposure"]
    for number, exposure in enumerate(exposures):
        shown = exposure.exposure.assignment.variant_key == "engagement"
        bought = number % 10 > 0 if shown else number % 4 == 0
        for kind in ("watch", *(["purchase"] if bought else [])):
            event = Event(event_id=f"{kind}{number}", type=kind, actor=exposure.actor)
            event.event_time.FromMilliseconds(exposure.event_time.ToMilliseconds() + 1_000)
            if kind == "watch":
                event.attributes["duration_ms"].int_value = 60_000 + number % 5 * 500
            records.append(LoggedEvent(event=event))
    with LogWriter(log) as writer:
        for arrival, record in enumerate(records):
            record.arrival = arrival
            writer.append([record.SerializeToString()])
    return exposures


def test_from_a_question_to_an_answer(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
    registry: ExperimentServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = _walk_through(tmp_path)
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    (definition,) = blocks(page, "yaml")
    monkeypatch.chdir(tmp_path)
    Path("engagement.yaml").write_text(definition.replace("2027-01-31T00:00:00Z", end.isoformat()))
    assert end.isoformat() in Path("engagement.yaml").read_text()
    power, create, start, analyse, conclude = commands(page)

    def run(line: str, *more: str) -> str:
        words = [word.replace("localhost:50053", registry.target) for word in shlex.split(line)]
        assert words.pop(0) == "podium"
        if words[0] == "experiments":
            more = (*more, "--target", registry.target)
        done = CliRunner().invoke(build(), [*words, *more], env={"COLUMNS": "200"})
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
        return done.output

    assert "20" in run(power)
    assert "draft" in run(create)
    assert "running" in run(start)
    settings = make_settings(
        tmp_path, tiny_bundles, feature_server.target, experiment_target=registry.target
    )
    with running_ranker(settings, features) as ranker:
        eventually(lambda: _variant(ranker, "u0"), "the experiment")
        arms = {f"u{number}": _variant(ranker, f"u{number}") for number in range(USERS)}
        exposures = _with_outcomes(settings.spool_dir, tmp_path / "data" / "log")
        assert len(exposures) == USERS, "one a user, however often they came"
        # No time has passed: the log is read as if eight days had, after the end.
        later = (end + timedelta(days=8)).isoformat()
        domain = str(ROOT / "config" / "live_courses.yaml")
        said = run(analyse, "--as-of", later, "--domain", domain)
        report = json.loads(Path("data/analysis/reports/engagement.json").read_text())
        shares = list(arms.values())
        assert {arm["variant"]: arm["units"] for arm in report["arms"]} == {
            name: shares.count(name) for name in ("control", "engagement")
        }
        assert report["decision"]["outcome"] == "ship", said
        assert "stored as report 1 of engagement" in said
        with grpc.insecure_channel(registry.target) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            request = registry_pb2.GetReportRequest(experiment_key="engagement")
            assert json.loads(stub.GetReport(request, timeout=10).json) == report
        assert "rolled out to all" in run(conclude)
        run(analyse, "--as-of", later, "--domain", domain)
        again = json.loads(Path("data/analysis/reports/engagement.json").read_text())
        # Everybody has the winner since: what came later says nothing of the arms.
        assert again["period"]["as_of_ms"] < report["period"]["as_of_ms"]
        assert again["decision"]["reasons"][0]["code"] == "no_mature_units"
        left_out = next(user for user, arm in arms.items() if arm == "control")
        eventually(lambda: _variant(ranker, left_out) == "engagement", "the roll-out")
