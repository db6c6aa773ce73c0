"""podium experiments import growthbook: a payload becomes a file that loads, or nothing does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import build
from services.common.assign.assign import Context, evaluate_flag
from services.common.assign.definitions import load_experiments
from services.common.errors import ConfigError, InvalidArgument

PAYLOAD = {
    "features": {
        "price": {"defaultValue": 9, "rules": [{"key": "prices", "variations": [9, 8]}]},
        "dead": {"defaultValue": 1, "rules": [{"variations": [1]}]},
    }
}


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(
        build(), ["experiments", "import", "growthbook", *map(str, arguments)]
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code == 0) == (result.exception is None)
    return result.output


def test_a_payload_becomes_an_experiments_file(tmp_path: Path) -> None:
    payload, out = tmp_path / "payload.json", tmp_path / "config" / "experiments.yaml"
    payload.write_text(json.dumps(PAYLOAD), encoding="utf-8")
    output = _run(payload, out, "--unit", "id=user")
    assert "prices" in output
    assert "left out: features.dead.rules.0" in output
    definitions = load_experiments(out, None)
    found = evaluate_flag(definitions, "price", Context({"user": "u1"}))
    assert found.assignment is not None
    assert found.value == (9, 8)[int(found.assignment.variant_key)]


def test_what_can_not_be_brought_in_leaves_the_file_alone(tmp_path: Path) -> None:
    payload, out = tmp_path / "payload.json", tmp_path / "experiments.yaml"
    out.write_text("experiments: {}\n", encoding="utf-8")
    payload.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no JSON"):
        _run(payload, out, "--replace")
    payload.write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidArgument):
        _run(payload, out, "--replace")
    rule = {"condition": {"a": {"$nix": 1}}, "force": 1}
    payload.write_text(json.dumps({"features": {"f": {"rules": [rule]}}}), encoding="utf-8")
    fault = r"payload\.json: flags\.f\.rules\.0\.condition\.a\.\$nix"
    with pytest.raises(ConfigError, match=fault):
        _run(payload, out, "--replace")
    assert [path.name for path in tmp_path.iterdir() if "exp" in path.name] == [out.name]
    assert out.read_text(encoding="utf-8") == "experiments: {}\n"
    assert "is not ATTRIBUTE=TYPE" in _run(payload, out, "--replace", "--unit", "id")


def test_a_file_that_is_there_is_replaced_only_where_that_is_asked_for(tmp_path: Path) -> None:
    payload, out = tmp_path / "payload.json", tmp_path / "experiments.yaml"
    payload.write_text(json.dumps(PAYLOAD), encoding="utf-8")
    out.write_text("experiments: {}\n", encoding="utf-8")
    assert "--replace" in _run(payload, out)
    assert out.read_text(encoding="utf-8") == "experiments: {}\n"
    _run(payload, out, "--replace")
    assert "price" in load_experiments(out, None).flags
