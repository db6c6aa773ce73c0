"""What flags and experiments have for somebody, as OpenFeature words it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.common.assign.assign import (
    Common,
    Context,
    Definitions,
    Experiment,
    Flag,
    Prerequisite,
    Rule,
    Variant,
)
from services.common.errors import InvalidArgument, NotFound
from services.experiment.flagd.resolving import (
    BOOLEAN,
    NUMBER,
    OBJECT,
    STRING,
    WHOLE,
    Kind,
    Reason,
    Resolution,
    require_kind,
    resolve,
    resolve_all,
)

HALVES = (Variant("a", 0.5), Variant("b", 0.5))
ANN = Context({"user": "ann", "host": "h1"}, now_ms=5_000)


def _resolved(
    definition: Experiment | Flag, context: Context = ANN, **changes: object
) -> Resolution:
    experiments = {"e": definition} if isinstance(definition, Experiment) else {}
    flags = {"e": definition} if isinstance(definition, Flag) else {}
    definitions = replace(Definitions(experiments, "hash", flags), **changes)  # type: ignore[arg-type]
    return resolve(definitions, "e", context)


EXPERIMENT = Experiment("e", "user", "salt", HALVES)


@pytest.mark.parametrize(
    ("changes", "reason", "why"),
    [
        ({"running": False}, Reason.DISABLED, "NOT_RUNNING"),
        ({"killed": True}, Reason.DISABLED, "KILLED"),
        ({"start_ms": 6_000}, Reason.DISABLED, "NOT_SCHEDULED"),
        ({"evaluator_version": 9}, Reason.DISABLED, "UNSUPPORTED"),
        ({"coverage": 0.0}, Reason.DEFAULT, "NOT_COVERED"),
        ({"condition": {"plan": "pro"}}, Reason.DEFAULT, "NOT_TARGETED"),
        ({"unit": "device"}, Reason.DEFAULT, "MISSING_UNIT"),
    ],
)
def test_who_is_in_no_arm_has_no_value(
    changes: dict[str, object], reason: Reason, why: str
) -> None:
    found = _resolved(replace(EXPERIMENT, **changes))  # type: ignore[arg-type]
    assert (found.value, found.variant, found.reason) == (None, "", reason)
    assert found.metadata["assignment_reason"] == why


def test_both_sides_are_told() -> None:
    found = _resolved(replace(EXPERIMENT, other_unit="host"))
    assert found.reason is Reason.SPLIT
    assert found.value == found.variant == found.metadata["variant_key"]
    assert found.metadata["other_variant_key"] in ("a", "b")


def test_what_shuts_a_flag_leaves_the_default_to_the_caller() -> None:
    gate = Rule(prerequisites=(Prerequisite("nowhere", {"value": True}, gate=True),), value=1)
    assert _resolved(Flag("e", 2, (gate,)))[:3] == (None, "", Reason.DISABLED)
    assert _resolved(Flag("e", 2, evaluator_version=9))[:3] == (None, "", Reason.DISABLED)
    assert _resolved(Flag("e", 2))[:3] == (2, "default", Reason.DEFAULT)
    assert _resolved(Flag("e", None))[:3] == (None, "", Reason.DEFAULT)
    forced = Flag("e", 2, (Rule("r", value=3),))
    assert _resolved(forced)[:3] == (3, "r", Reason.TARGETING_MATCH)


def test_a_flag_counts_before_an_experiment_of_its_key() -> None:
    definitions = Definitions({"e": EXPERIMENT}, "hash", {"e": Flag("e", "flag")})
    assert resolve(definitions, "e", ANN).value == "flag"
    assert set(resolve_all(definitions, ANN)) == {"e"}
    killed = replace(definitions, flags={}, common=Common(killed=True))
    assert resolve_all(killed, ANN) == {}
    with pytest.raises(NotFound) as unknown:
        resolve(definitions, "nowhere", ANN)
    assert unknown.value.reason == "FLAG_NOT_FOUND"


@pytest.mark.parametrize(
    ("kind", "held", "not_held"),
    [
        (BOOLEAN, [True, False], [0, 1, "true", {}]),
        (STRING, ["", "a"], [1, True, ["a"]]),
        (NUMBER, [0, -1.5, 10**18], [True, "1", []]),
        (WHOLE, [0, 3.0, (1 << 63) - 1], [0.5, True, 1 << 63, 1e300, float("inf"), "1"]),
        (OBJECT, [{}, {"a": [1]}], [[], "{}", 1]),
    ],
)
def test_types(kind: Kind, held: list[object], not_held: list[object]) -> None:
    for value in held:
        require_kind("e", value, kind)
    for value in not_held:
        with pytest.raises(InvalidArgument) as mismatch:
            require_kind("e", value, kind)
        assert mismatch.value.reason == "TYPE_MISMATCH"
