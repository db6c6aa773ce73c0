"""Assignment: frozen buckets, uniform and independent splits, coverage, forcing."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.assign.assign import (
    EVALUATOR_VERSION,
    Assignment,
    Definitions,
    Experiment,
    Reason,
    Variant,
    assign,
    bucket_of,
    bucket_ranges,
    objective_weights,
    units_of,
)
from services.common.errors import InvalidArgument, NotFound

GOLDEN = Path(__file__).parents[4] / "golden" / "assign_v1.json"
UNITS = [f"user-{number}" for number in range(20_000)]


def _experiment(key: str = "e", **changes: object) -> Experiment:
    halves = (Variant("a", 0.5), Variant("b", 0.5, {"watch": 0.4}))
    fields: dict[str, object] = {"key": key, "unit": "user", "salt": key, "variants": halves}
    return Experiment(**(fields | changes))  # type: ignore[arg-type]


def _definitions(*experiments: Experiment) -> Definitions:
    return Definitions({e.key: e for e in sorted(experiments, key=lambda e: e.key)}, "hash")


def _one(experiment: Experiment, unit: str) -> Assignment:
    (assignment,) = assign(_definitions(experiment), {"user": unit})
    return assignment


def test_buckets_are_frozen() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["evaluator_version"] == EVALUATOR_VERSION
    for row in golden["buckets"]:
        assert bucket_of(row["salt"], row["unit_id"]) == row["bucket"]


def test_salt_and_unit_do_not_run_into_each_other() -> None:
    assert bucket_of("ab", "c") != bucket_of("a", "bc")


def _chi_square(counts: list[int], expected: list[float]) -> float:
    return sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))


def test_buckets_are_uniform() -> None:
    # Chi-square over 100 cells, 99 degrees of freedom: 160 lies beyond the 99.99th percentile.
    for salt in ("one", "two", "ranking_weights_1"):
        counts = [0] * 100
        for unit in UNITS:
            counts[int(bucket_of(salt, unit) * 100)] += 1
        assert _chi_square(counts, [len(UNITS) / 100] * 100) < 160


def test_two_salts_are_independent() -> None:
    # 10 x 10 cells, 99 degrees of freedom, as above.
    counts = [0] * 100
    for unit in UNITS:
        counts[int(bucket_of("one", unit) * 10) * 10 + int(bucket_of("two", unit) * 10)] += 1
    assert _chi_square(counts, [len(UNITS) / 100] * 100) < 160


def test_shares_follow_the_weights() -> None:
    variants = (Variant("a", 0.1), Variant("b", 0.2), Variant("c", 0.7))
    experiment = _experiment(variants=variants)
    chosen = [_one(experiment, unit).variant_key for unit in UNITS]
    expected = [0.1 * len(UNITS), 0.2 * len(UNITS), 0.7 * len(UNITS)]
    # 2 degrees of freedom: 18.4 is the 99.99th percentile.
    assert _chi_square([chosen.count(k) for k in "abc"], expected) < 18.4


@given(
    shares=st.lists(st.integers(1, 100), min_size=1, max_size=8),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
)
def test_raising_the_coverage_moves_nobody(shares: list[int], low: float, high: float) -> None:
    low, high = sorted((low, high))
    variants = tuple(Variant(str(i), s / sum(shares)) for i, s in enumerate(shares))
    for unit in UNITS[:60]:
        before = _one(_experiment(variants=variants, coverage=low), unit)
        after = _one(_experiment(variants=variants, coverage=high), unit)
        assert before.bucket == after.bucket
        if before.reason is Reason.SPLIT:
            assert after.variant_key == before.variant_key


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=12).filter(any))
def test_at_full_coverage_the_ranges_leave_no_hole(shares: list[int]) -> None:
    weights = [share / sum(shares) for share in shares]
    taken = [r for r, w in zip(bucket_ranges(weights, 1.0), weights, strict=True) if w > 0]
    assert taken[0][0] == 0.0
    assert taken[-1][1] == 1.0
    assert all(end == start for (_, end), (start, _) in pairwise(taken))


def test_outside_the_coverage() -> None:
    experiment = _experiment(coverage=0.3)
    outcomes = [_one(experiment, unit) for unit in UNITS]
    out = [a for a in outcomes if a.reason is Reason.NOT_COVERED]
    assert 0.68 < len(out) / len(UNITS) < 0.72
    assert all(a.variant_key == "" and a.bucket is not None for a in out)
    for assignment in outcomes:
        if assignment.variant_key == "a":
            assert assignment.bucket is not None
            assert assignment.bucket < 0.15
        elif assignment.variant_key == "b":
            assert assignment.bucket is not None
            assert 0.5 <= assignment.bucket < 0.65


def test_the_unit_that_is_randomised_counts() -> None:
    device = _experiment(unit="device")
    (found,) = assign(_definitions(device), units_of("u", "d"))
    assert (found.reason, found.bucket) == (Reason.SPLIT, bucket_of("e", "d"))
    assert found.unit_type == "device"
    (missing,) = assign(_definitions(device), units_of("u", ""))
    assert missing == Assignment("e", "", Reason.MISSING_UNIT, None, "device", 1)


def test_only_running_experiments_unless_named() -> None:
    stopped = _experiment("stopped", running=False)
    definitions = _definitions(_experiment("b"), stopped, _experiment("a"))
    everything = assign(definitions, {"user": "u"})
    assert [a.experiment_key for a in everything] == ["a", "b"]
    (named,) = assign(definitions, {"user": "u"}, keys=["stopped"])
    assert named == Assignment("stopped", "", Reason.NOT_RUNNING, None, "user", 1)
    with pytest.raises(NotFound) as unknown:
        assign(definitions, {"user": "u"}, keys=["nothing"])
    assert unknown.value.reason == "UNKNOWN_EXPERIMENT"


def test_forcing() -> None:
    definitions = _definitions(_experiment(), _experiment("stopped", running=False))
    other = "b" if _one(_experiment(), "u").variant_key == "a" else "a"
    (forced,) = assign(definitions, {"user": "u"}, {"e": other})
    assert forced == Assignment("e", other, Reason.FORCED, None, "user", 1)
    both = assign(definitions, {}, {"stopped": "a"})
    assert [(a.experiment_key, a.reason) for a in both] == [
        ("e", Reason.MISSING_UNIT),
        ("stopped", Reason.FORCED),
    ]
    with pytest.raises(InvalidArgument, match=r"forced_variants\.e: 'z' is not one of a, b"):
        assign(definitions, {"user": "u"}, {"e": "z"})
    with pytest.raises(NotFound):
        assign(definitions, {"user": "u"}, {"nothing": "a"})


def test_objective_weights_of_the_variants() -> None:
    later = _experiment("f", variants=(Variant("a", 1.0, {"watch": 0.9, "click": 0.1}),))
    definitions = _definitions(_experiment(), later)
    first = assign(definitions, {}, {"e": "b"}, keys=["e"])
    assert objective_weights(definitions, first) == {"watch": 0.4}
    both = assign(definitions, {"user": "u"}, {"e": "b"})
    assert objective_weights(definitions, both) == {"watch": 0.9, "click": 0.1}
    assert objective_weights(definitions, assign(definitions, {}, {"e": "a"}, keys=["e"])) == {}
