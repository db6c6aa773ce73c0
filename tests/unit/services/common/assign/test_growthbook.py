"""What GrowthBook's own SDK decides, decided the same: hashes, conditions, a whole payload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.common.assign.asking import Asking
from services.common.assign.assign import (
    Context,
    Definitions,
    Reason,
    StickyDocument,
    evaluate,
    evaluate_flag,
)
from services.common.assign.conditions import compile_condition
from services.common.assign.definitions import load_experiments
from services.common.assign.growthbook import imported
from services.common.assign.hashing import Hashes
from services.common.assign.javascript import number_text, text, truthy
from services.common.errors import InvalidArgument
from services.common.yaml_config import yaml_text

GOLDEN = Path(__file__).parents[4] / "golden" / "growthbook_v1.json"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def test_numbers_are_written_as_javascript_does(golden: dict[str, Any]) -> None:
    for number, written in golden["numbers"]:
        assert number_text(number) == written
        assert number_text(float(number)) == written


@pytest.mark.parametrize("version", [1, 2])
def test_hashes(golden: dict[str, Any], version: int) -> None:
    hashes, shared = golden["hashes"], Hashes()
    for seed, buckets in zip(hashes["seeds"], hashes[f"buckets_v{version}"], strict=True):
        bucket_of = shared.bucketing(f"fnv{version}", seed)
        assert bucket_of is not None
        for value, bucket in zip(hashes["ids"], buckets, strict=True):
            found = bucket_of(text(value)) if truthy(value) else None
            assert found == bucket, (seed, value)


def test_conditions(golden: dict[str, Any]) -> None:
    conditions = golden["conditions"]
    wrong = []
    for condition, expected in conditions["cases"]:
        test = compile_condition(condition, conditions["saved_groups"])
        found = "".join("1" if test(a) else "0" for a in conditions["attributes"])
        if found != expected:
            wrong.append((condition, expected, found))
    assert wrong == []


@pytest.fixture(scope="module")
def definitions(golden: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    path = tmp_path_factory.mktemp("growthbook") / "experiments.yaml"
    file = imported(golden["payload"], {}).file
    path.write_text(yaml_text(file), encoding="utf-8")
    return load_experiments(path, None)


def _context(user: dict[str, Any], definitions: Definitions) -> Context:
    documents = None
    if user["documents"] is not None:
        documents = {
            key: StickyDocument(d["attributeName"], d["attributeValue"], d["assignments"])
            for key, d in user["documents"].items()
        }
    forced = {
        key: definitions.compiled.variants(key)[index] for key, index in user["forced"].items()
    }
    return Context(attributes=user["attributes"], forced=forced, sticky=documents)


def test_every_user_keeps_every_value_bucket_and_document(
    golden: dict[str, Any], definitions: Definitions
) -> None:
    reasons = set()
    for user in golden["users"]:
        context = _context(user, definitions)
        for key, (value, source, rule, result, saved) in user["features"].items():
            asking = Asking(context, {})
            found = definitions.compiled.flag(key, asking)
            where = (key, user["attributes"])
            assert (found.value, found.source, found.rule_id) == (value, source, rule), where
            assert found == evaluate_flag(definitions, key, context)
            changes = {k: dict(d.assignments) for k, d in asking.changes.items()}
            assert changes == saved, where
            assert (found.assignment is None) == (result is None), where
            if found.assignment is not None:
                variant, bucket, sticky = result
                reasons.add(found.assignment.reason)
                assert found.assignment.variant_key == variant, where
                assert found.assignment.bucket == bucket, where
                assert (found.assignment.reason is Reason.STICKY) == sticky, where
    assert {Reason.SPLIT, Reason.STICKY, Reason.FORCED} <= reasons


def test_experiments_of_flags_are_assigned_beside_the_others(
    golden: dict[str, Any], definitions: Definitions
) -> None:
    context = _context(golden["users"][0], definitions)
    found = evaluate(definitions, context)
    keys = [a.experiment_key for a in found.assignments]
    assert keys == sorted(definitions.compiled.in_flags)
    by_key = {a.experiment_key: a for a in found.assignments}
    assert by_key["parent-exp"].reason is Reason.OTHER_RULE
    assert by_key["holdout-exp"].variant_key in ("h", "f")
    (one,) = evaluate(definitions, context, ["keyed-exp"]).assignments
    assert one == by_key["keyed-exp"]
    forced = Context(attributes=context.attributes, forced={"parent-exp": "1"})
    (one,) = evaluate(definitions, forced, ["parent-exp"]).assignments
    assert (one.variant_key, one.reason) == ("1", Reason.FORCED)


def test_what_has_no_form_here_is_told(golden: dict[str, Any]) -> None:
    payload = {**golden["payload"], "experiments": [{"key": "banner"}]}
    found = imported(payload, {})
    told = " ".join(found.left_out)
    assert "features.empty-exp.rules.0: has neither a value nor two variations" in told
    assert "features.hv9.rules.0: its hash version 9 is not one of [1, 2]" in told
    assert "experiment banner" in told
    assert found.file["flags"]["plain"] == {"default": "d"}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "features: must be a mapping"),
        ({"encryptedFeatures": "x", "features": None}, "is encrypted"),
        ({"features": {"f": 1}}, "features.f: must be a mapping"),
        ({"features": {"f": {"rules": [{"variations": [1, 2], "meta": 3}]}}}, "f.rules.0"),
        ({"features": {"f": {"rules": [{"filters": [{}], "force": 1}]}}}, "f.rules.0"),
    ],
)
def test_what_is_no_payload_is_refused(payload: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        imported(payload, {})


def _flags(tmp_path: Path, rule: dict[str, Any]) -> Definitions:
    path = tmp_path / "experiments.yaml"
    file = imported({"features": {"f": {"defaultValue": "d", "rules": [rule]}}}, {}).file
    path.write_text(yaml_text(file), encoding="utf-8")
    return load_experiments(path, None)


EXPERIMENT = {
    "key": "e",
    "variations": ["a", "b"],
    "hashVersion": 2,
    "meta": [{"key": "a"}, {"key": "b"}],
}


@pytest.mark.parametrize(
    ("attributes", "value", "bucket"),
    [
        ({"company": {"id": "7"}}, "d", None),
        ({"company.id": "7"}, "a", 0.2551),
        ({"company.id": "", "company": {"id": "7"}}, "d", None),
    ],
)
def test_a_hash_attribute_is_a_name_and_no_path(
    tmp_path: Path, attributes: dict[str, object], value: str, bucket: float | None
) -> None:
    # What the SDK that made the golden file, 1.8.0, gives.
    definitions = _flags(tmp_path, EXPERIMENT | {"hashAttribute": "company.id"})
    found = evaluate_flag(definitions, "f", Context(attributes=attributes))
    assert (found.value, found.assignment and found.assignment.bucket) == (value, bucket)


@pytest.mark.parametrize(
    ("kept", "values"),
    [
        ({}, ["b", "d"]),
        ({"e__0": "a"}, ["d", "d"]),
        ({"e__2": "b"}, ["d", "d"]),
        ({"e__3": "b"}, ["b", "d"]),
    ],
)
def test_whoever_is_kept_below_the_least_version_is_out(
    tmp_path: Path, kept: dict[str, str], values: list[str]
) -> None:
    # The SDK 1.8.0, asked twice: its own version is below the least one, too.
    definitions = _flags(tmp_path, EXPERIMENT | {"bucketVersion": 1, "minBucketVersion": 3})
    documents = {"id||u1": StickyDocument("id", "u1", kept)}
    found = []
    for _ in values:
        context = Context(attributes={"id": "u1"}, sticky=documents)
        found.append(evaluate_flag(definitions, "f", context).value)
        documents |= evaluate(definitions, context).sticky_changes
    assert found == values
    assert documents["id||u1"].assignments == kept | ({"e__1": "b"} if "b" in values else {})


def test_an_alias_names_the_unit(golden: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    file = imported(golden["payload"], {"id": "user"}).file
    path.write_text(yaml_text(file), encoding="utf-8")
    aliased = load_experiments(path, None)
    by_attribute = evaluate_flag(aliased, "simple", Context(attributes={"id": "id1"}))
    assert evaluate_flag(aliased, "simple", Context(units={"user": "id1"})) == by_attribute
