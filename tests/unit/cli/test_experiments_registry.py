"""podium experiments over a running registry: the life of an experiment, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.demo.processes import free_port
from cli.experiments.client import registry_at
from cli.main import build
from services.common.errors import InvalidArgument, PodiumError, Unavailable, VersionConflict
from services.common.settings import ExperimentSettings
from services.experiment.bootstrap import definitions_of
from tests.support.experiment_server import ExperimentServer

DEFINITION = """\
description: Which banner sells?
unit: user
salt: banner_1
start: 2026-03-01T00:00:00Z
layer: {name: home, ranges: [[0, 0.5]]}
variants:
  b: {weight: 0.5}
  a: {weight: 0.5, objective_weights: {watch: 0.4}}
"""
FILE = """\
layers:
  home: {unit: user, salt: layer_home}
saved_groups: {staff: [u1]}
flags:
  price: {default: 9}
experiments:
  running: {unit: user, salt: r_1, running: true, revision: 4, variants: {x: {weight: 1}}}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("registry")
    settings = ExperimentSettings(
        experiment_database_url=f"sqlite:///{directory / 'registry.db'}",  # type: ignore[arg-type]
        experiment_dir=directory,
    )
    definitions = definitions_of(settings)
    server = ExperimentServer(definitions=definitions)
    yield server.target
    server.close()
    definitions.close()


def _run(target: str, *arguments: object) -> str:
    result = CliRunner().invoke(
        build(), ["experiments", *map(str, arguments), "--target", target, "--as", "ann"]
    )
    if isinstance(result.exception, PodiumError):
        raise result.exception
    return " ".join(result.output.split())


def test_the_life_of_an_experiment(target: str, tmp_path: Path) -> None:
    definition, file = tmp_path / "banner.yaml", tmp_path / "experiments.yaml"
    definition.write_text(DEFINITION)
    file.write_text(FILE)
    assert "changed │ layer │ home" in _run(target, "apply", file)
    assert "nothing has changed" in _run(target, "apply", file)
    assert "│ state │ draft" in _run(target, "create", "banner", definition)
    shown = CliRunner().invoke(build(), ["experiments", "show", "banner", "--target", target])
    written = yaml.safe_load(shown.output[shown.output.index("description: Which") :])
    assert json.dumps(written["variants"]).startswith('{"b"'), "in the author's order"
    definition.write_text(yaml.safe_dump(written, sort_keys=False))
    assert "│ version │ 1" in _run(target, "update", "banner", definition), "shown is what goes in"
    assert "│ state │ running" in _run(target, "start", "banner")
    with pytest.raises(VersionConflict, match="at version 2"):
        _run(target, "conclude", "banner", "--version", "1")
    step = "2100-01-01T00:00Z=0.9"
    assert "│ version │ 3" in _run(target, "ramp", "banner", "0.2", "--step", step)
    assert "coverage: 0.9" in _run(target, "show", "banner")
    assert "paused" in _run(target, "pause", "banner")
    assert "│ state │ running" in _run(target, "resume", "banner")
    concluded = _run(target, "conclude", "banner", "--winner", "a", "--roll-out")
    assert "a, rolled out to all" in concluded
    listed = _run(target, "list", "--state", "concluded", "--state", "running")
    assert "banner │ concluded" in listed
    assert "running │ running" in listed
    assert "archived" in _run(target, "archive", "banner")
    assert "banner" not in _run(target, "list")
    trail = _run(target, "audit", "banner")
    assert "ann │ archive │ experiment banner │ 6 > 7 │ concluded > archived" in trail
    assert "2100-01-01T00:00:00Z" in trail
    with pytest.raises(InvalidArgument, match="'price' is to be put, too"):
        _run(target, "apply", file, "--remove", "flag:price")
    file.write_text("saved_groups: {staff: [u1, u2]}\n")
    applied = _run(target, "apply", file, "--remove", "flag:price")
    assert "changed │ saved_group │ staff" in applied
    assert "removed │ flag │ price" in applied


def test_the_kill_switch(target: str) -> None:
    assert "all experiments are off" in _run(target, "kill-switch", "on")
    assert "on again" in _run(target, "kill-switch", "off")
    trail = _run(target, "audit", "--limit", "2")
    assert trail.index("all experiments on again") < trail.index("all experiments off")


def test_where_nothing_listens_that_is_said() -> None:
    target = f"localhost:{free_port()}"
    with (
        pytest.raises(Unavailable, match=f"no experiment service answers at {target}"),
        registry_at(target, "ann", "", connect_s=0.2),
    ):
        pass


def test_what_is_wrong_is_said(target: str, tmp_path: Path) -> None:
    definition = tmp_path / "wrong.yaml"
    definition.write_text("unit: user\nsalt: s\nrunning: true\nvariants: {x: {weight: 0.5}}\n")
    with pytest.raises(InvalidArgument, match=r"experiments\.wrong\.running: is the registry's"):
        _run(target, "create", "wrong", definition)
    assert "is not one of draft" in _run(target, "list", "--state", "gone")
    assert "is not KIND:KEY" in _run(target, "apply", definition, "--remove", "flag")
    assert "is not TIME=SHARE" in _run(target, "ramp", "x", "0.5", "--step", "tomorrow")
    assert "is no share" in _run(target, "ramp", "x", "0.5", "--step", "2100-01-01=half")
