"""Experiment definitions: the shipped file loads, and mistakes name file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.assign.assign import assign, bundle_wanted
from services.common.assign.definitions import load_experiments
from services.common.domain import Domain, load_domain
from services.common.errors import ConfigError

ROOT = Path(__file__).parents[5]
GOOD = """\
experiments:
  weights:
    unit: user
    salt: weights_1
    running: true
    revision: 2
    coverage: 0.5
    variants:
      control: {weight: 0.25}
      other: {weight: 0.75, objective_weights: {watch: 0.4}}
  layout:
    unit: device
    salt: layout_1
    running: false
    revision: 1
    variants: {only: {weight: 1}}
"""


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(ROOT / "config" / "live_courses.yaml")


def _load(tmp_path: Path, text: str, domain: Domain | None = None) -> object:
    path = tmp_path / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    return load_experiments(path, domain)


def test_the_shipped_file_loads(domain: Domain) -> None:
    definitions = load_experiments(ROOT / "config" / "experiments.yaml", domain)
    assert len(definitions.hash) == 64
    assert definitions.experiments
    for experiment in definitions.experiments.values():
        assert experiment.analysis is not None, "what is shipped as an example says what decides"
        assert experiment.analysis.guardrails
        assert experiment.analysis.method == "always_valid" or experiment.end_ms is not None


def test_experiments_come_in_key_order_and_variants_in_file_order(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(GOOD, encoding="utf-8")
    definitions = load_experiments(path, None)
    assert list(definitions.experiments) == ["layout", "weights"]
    weights = definitions.experiments["weights"]
    assert [(v.key, v.weight) for v in weights.variants] == [("control", 0.25), ("other", 0.75)]
    assert (weights.coverage, weights.revision, weights.unit) == (0.5, 2, "user")
    first, second = GOOD.splitlines()[8:10]
    swapped = GOOD.replace(f"{first}\n{second}", f"{second}\n{first}")
    assert swapped != GOOD
    path.write_text(swapped, encoding="utf-8")
    assert load_experiments(path, None).hash != definitions.hash
    path.write_text("# a comment\n" + GOOD, encoding="utf-8")
    assert load_experiments(path, None).hash == definitions.hash


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [
        (
            "unit: user",
            "unit: planet",
            3,
            "experiments.weights.unit",
            "'planet' is not one of device",
        ),
        ("revision: 2", "revison: 2", 6, "experiments.weights.revison", "not permitted"),
        ("coverage: 0.5", "coverage: 1.5", 7, "experiments.weights.coverage", "less than or equal"),
        ("weight: 0.25", "weight: 0.2", 8, "experiments.weights.variants", "sum to 0.95"),
        (
            "salt: layout_1",
            "salt: weights_1",
            13,
            "experiments.layout.salt",
            "also that of weights",
        ),
        (
            "{watch: 0.4}",
            "{wach: 0.4}",
            10,
            "experiments.weights.variants.other.objective_weights.wach",
            "'wach' is not one of click",
        ),
        ("weight: 1}", "weight: .nan}", 16, "experiments.layout.variants.only.weight", "finite"),
        ("  layout:", "  weights:", 0, "experiments.weights", "given twice"),
        ("revision: 2", "revision: 3000000000", 6, "experiments.weights.revision", "1000000000"),
        (
            "coverage: 0.5",
            "start: 9999-12-31T23:59:59-12:00",
            7,
            "experiments.weights.start",
            "in the years 1970 to 9998",
        ),
        (
            "coverage: 0.5",
            "slice: 9999999999d",
            7,
            "experiments.weights.slice",
            "up to 1000000d",
        ),
        (
            "only: {weight: 1}",
            "only: {weight: 1, value: [1" + "0" * 400 + "]}",
            16,
            "experiments.layout.variants.only.value",
            "beyond 64-bit floats",
        ),
        (
            "only: {weight: 1}",
            "only: {weight: 1, value: " + "[" * 17 + "]" * 17 + "}",
            16,
            "experiments.layout.variants.only.value",
            "at most 16 deep",
        ),
        ("{only: ", '{"on\\0ly": ', 16, "experiments.layout.variants.on\0ly.[key]", "no NUL"),
    ],
)
def test_mistakes_are_located(
    tmp_path: Path, domain: Domain, old: str, new: str, line: int, field: str, message: str
) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError) as wrong:
        _load(tmp_path, GOOD.replace(old, new), domain)
    assert message in str(wrong.value)
    assert wrong.value.file.endswith("experiments.yaml")
    assert wrong.value.field == field
    assert not line or wrong.value.line == line


INTERLEAVED = GOOD.replace(
    "control: {weight: 0.25}",
    "control: {weight: 0.15}\n      both: {weight: 0.1, interleave: [control, other]}",
)


def test_a_variant_can_interleave_two_others(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(INTERLEAVED, encoding="utf-8")
    experiment = load_experiments(path, None).experiments["weights"]
    found = [(variant.key, variant.interleave) for variant in experiment.variants]
    assert found == [("control", None), ("both", ("control", "other")), ("other", None)]


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        ("interleave: [control, both]", "weights.variants.both.interleave.1", "'both' is not an"),
        ("interleave: [control, nix]", "weights.variants.both.interleave.1", "'nix' is not"),
        ("interleave: [other, other]", "weights.variants.both.interleave", "two different"),
        ("interleave: [other]", "weights.variants.both.interleave.1", "required"),
        (
            "interleave: [control, other], objective_weights: {watch: 1}",
            "weights.variants.both.objective_weights",
            "of the variants that are interleaved",
        ),
    ],
)
def test_what_can_not_be_interleaved_is_named(
    tmp_path: Path, wrong: str, field: str, message: str
) -> None:
    text = INTERLEAVED.replace("interleave: [control, other]", wrong)
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, text)
    assert (refused.value.field, refused.value.line) == (f"experiments.{field}", 10)
    assert message in str(refused.value)


def test_two_running_experiments_can_not_both_interleave(tmp_path: Path) -> None:
    second = INTERLEAVED.split("\n  layout:")[0].replace("weights:", "again:", 1)
    second = second.replace("weights_1", "again_1").removeprefix("experiments:\n")
    with pytest.raises(ConfigError, match="weights interleaves, too") as refused:
        _load(tmp_path, INTERLEAVED + second + "\n")
    assert refused.value.field == "experiments.again.running"
    _load(tmp_path, INTERLEAVED + second.replace("running: true", "running: false") + "\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_experiments(tmp_path / "nowhere.yaml", None)


def test_a_variant_can_name_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    text = GOOD.replace("control: {weight: 0.25}", "control: {weight: 0.25, bundle: v-2.1}")
    path.write_text(text, encoding="utf-8")
    definitions = load_experiments(path, None)
    experiment = definitions.experiments["weights"]
    assert [variant.bundle for variant in experiment.variants] == ["v-2.1", ""]
    for variant in experiment.variants:
        assigned = assign(definitions, {}, {"weights": variant.key}, ["weights"])
        assert bundle_wanted(definitions, assigned) == variant.bundle


def test_an_interleaved_slate_is_of_one_bundle(tmp_path: Path) -> None:
    text = INTERLEAVED.replace("control: {weight: 0.15}", "control: {weight: 0.15, bundle: v2}")
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, text)
    assert refused.value.field.startswith("experiments.weights.variants.both")
    assert "one slate is of one bundle" in str(refused.value)


def test_one_running_experiment_names_bundles(tmp_path: Path) -> None:
    text = GOOD.replace("control: {weight: 0.25}", "control: {weight: 0.25, bundle: v2}")
    at = text.index("  layout:")
    text = text[:at] + text[at:].replace("running: false", "running: true", 1)
    text = text[:at] + text[at:].replace("{weight: ", "{bundle: v3, weight: ", 1)
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, text)
    assert "one request is of one bundle" in str(refused.value)
