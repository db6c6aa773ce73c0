"""What GrowthBook has not: layers, holdout, kill switches, schedules, ramps, other units."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.assign.assign import (
    Assignment,
    Common,
    Context,
    Definitions,
    Experiment,
    Filter,
    Flag,
    Holdout,
    Layer,
    Prerequisite,
    Reason,
    Rule,
    Step,
    Sticky,
    Variant,
    assign,
    bucket_of,
    evaluate,
    evaluate_flag,
)
from services.common.assign.checks import MAX_CHAIN, errors_of

NOTHING = Common()
HALVES = (Variant("a", 0.5), Variant("b", 0.5))
UNITS = [f"user-{number}" for number in range(6_000)]
DAY_MS = 86_400_000


def _definitions(*experiments: Experiment, common: Common = NOTHING) -> Definitions:
    layers = {"home": Layer("home", "user", "layer_home")}
    flags = {"vip": Flag("vip", False, (Rule(condition={"tier": "gold"}, value=True),))}
    by_key = {e.key: e for e in sorted(experiments, key=lambda e: e.key)}
    return Definitions(by_key, "hash", flags, layers, {"g": ["x"]}, common)


def _one(experiment: Experiment, context: Context, common: Common = NOTHING) -> Assignment:
    (found,) = evaluate(_definitions(experiment, common=common), context, [experiment.key])[0]
    return found


def _reason(experiment: Experiment, common: Common = NOTHING, **context: object) -> Reason:
    asked: dict[str, object] = {"units": {"user": "u"}} | context
    return _one(experiment, Context(**asked), common).reason  # type: ignore[arg-type]


def _experiment(**changes: object) -> Experiment:
    fields: dict[str, object] = {"key": "e", "unit": "user", "salt": "e", "variants": HALVES}
    return Experiment(**(fields | changes))  # type: ignore[arg-type]


def _chi_square(counts: list[int], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in counts)


def test_a_unit_is_in_one_experiment_of_a_layer_at_most() -> None:
    definitions = _definitions(
        _experiment(key="e", salt="e", layer="home", layer_ranges=((0.0, 0.3), (0.9, 1.0))),
        _experiment(key="f", salt="f", layer="home", layer_ranges=((0.3, 0.9),)),
    )
    taking = Counter[str]()
    arms = Counter[tuple[str, str]]()
    for unit in UNITS:
        found = assign(definitions, {"user": unit})
        assert [a.reason for a in found if not a.variant_key] == [Reason.NOT_IN_LAYER]
        (one,) = [a for a in found if a.variant_key]
        taking[one.experiment_key] += 1
        arms[one.experiment_key, one.variant_key] += 1
    # 1 degree of freedom: 15.1 is the 99.99th percentile.
    assert (taking["e"] - 0.4 * len(UNITS)) ** 2 / (0.24 * len(UNITS)) < 15.1
    # Within the layer's share the variants are even: the layer's hash is independent of theirs.
    for key in ("e", "f"):
        assert _chi_square([arms[key, "a"], arms[key, "b"]], taking[key] / 2) < 15.1


@pytest.mark.parametrize("length", [1, 2, 7, 16, 33, 128, 1_000])
def test_buckets_are_uniform_for_ids_of_any_length(length: int) -> None:
    # 20 cells, 19 degrees of freedom: 50.8 lies at the 99.99th percentile.
    counts = [0] * 20
    for number in range(4_000):
        unit = chr(0x4E00 + number) if length == 1 else f"{number:x}".rjust(length, "é")
        counts[int(bucket_of("salt", unit) * 20)] += 1
    assert _chi_square(counts, 200) < 50.8


def test_layer_holdout_and_experiment_are_independent_of_each_other() -> None:
    salts = ("layer_home", "holdout", "e", "e:host")
    for at, one in enumerate(salts):
        for other in salts[at + 1 :]:
            counts = [0] * 25
            for unit in UNITS:
                counts[int(bucket_of(one, unit) * 5) * 5 + int(bucket_of(other, unit) * 5)] += 1
            # 24 degrees of freedom: 58.6 lies at the 99.99th percentile.
            assert _chi_square(counts, len(UNITS) / 25) < 58.6


def test_who_is_held_out_is_in_nothing_and_stays_so_as_the_share_grows() -> None:
    held: list[set[str]] = []
    for share in (0.05, 0.2):
        common = Common(holdout=Holdout("holdout", share))
        definitions = _definitions(_experiment(), _experiment(key="f", salt="f"), common=common)
        found = {unit: assign(definitions, {"user": unit}) for unit in UNITS}
        out = {u for u, all_ in found.items() if all_[0].reason is Reason.HOLDOUT}
        assert all((all_[1].reason is Reason.HOLDOUT) == (u in out) for u, all_ in found.items())
        assert abs(len(out) / len(UNITS) - share) < 0.02
        held.append(out)
    assert held[0] < held[1]
    common = Common(holdout=Holdout("holdout", 1.0))
    assert _reason(_experiment(holdout=False), common) is Reason.SPLIT


def test_switches() -> None:
    assert _reason(_experiment(killed=True)) is Reason.KILLED
    assert _reason(_experiment(), Common(killed=True)) is Reason.KILLED
    assert _reason(_experiment(running=False, killed=True)) is Reason.NOT_RUNNING
    forced = Context({"user": "u"}, forced={"e": "b"})
    assert _one(_experiment(killed=True), forced).reason is Reason.FORCED


def test_schedules() -> None:
    scheduled = _experiment(start_ms=1_000, end_ms=2_000)
    moments = {999: False, 1_000: True, 1_999: True, 2_000: False}
    for now_ms, inside in moments.items():
        expected = Reason.SPLIT if inside else Reason.NOT_SCHEDULED
        assert _reason(scheduled, now_ms=now_ms) is expected
    assert _reason(_experiment(start_ms=1_000), now_ms=10**15) is Reason.SPLIT


@given(st.lists(st.floats(0, 1), min_size=2, max_size=4))
@settings(max_examples=20)
def test_a_ramp_adds_units_and_moves_none(coverages: list[float]) -> None:
    steps = tuple(Step((i + 1) * DAY_MS, c) for i, c in enumerate(sorted(coverages)))
    ramped = _definitions(_experiment(coverage=0.0, ramp=steps))
    for unit in UNITS[:40]:
        before = ""
        for day in range(len(steps) + 1):
            (now,) = assign(ramped, {"user": unit}, now_ms=day * DAY_MS + 5)
            assert before in ("", now.variant_key)
            before = now.variant_key
        fixed = _one(_experiment(coverage=steps[-1].coverage), Context({"user": unit}))
        assert fixed.variant_key == before


def test_a_time_slice_has_one_variant_for_everybody() -> None:
    switchback = _experiment(unit="time_slice", slice_ms=1_800_000)
    start_ms = 1_800_000 * 10**6
    found = [
        _one(switchback, Context({"user": f"u{i}"}, now_ms=start_ms + 600_000 * i))
        for i in range(90)
    ]
    variants = [a.variant_key for a in found]
    assert all(len(set(variants[i : i + 3])) == 1 for i in range(0, 90, 3))
    assert {"a", "b"} == set(variants)
    assert found[0].unit_type == "time_slice"
    assert _reason(switchback, now_ms=0) is Reason.MISSING_UNIT


def test_units_of_entities() -> None:
    on_hosts = _experiment(unit="host")
    assert _reason(on_hosts) is Reason.MISSING_UNIT
    found = _one(on_hosts, Context({"user": "u", "host": "h1"}))
    assert (found.unit_type, found.bucket) == ("host", bucket_of("e", "h1"))
    # Attributes are no units: a request can't choose where it lands.
    assert _reason(on_hosts, attributes={"host": "h1"}) is Reason.MISSING_UNIT


def test_two_sides_are_drawn_apart() -> None:
    two_sided = _experiment(other_unit="host")
    cells = Counter[tuple[str, str]]()
    for number, unit in enumerate(UNITS):
        found = _one(two_sided, Context({"user": unit, "host": f"h{number % 997}"}))
        cells[found.variant_key, found.other_variant_key] += 1
        alone = _one(two_sided, Context({"user": unit}))
        assert (alone.variant_key, alone.other_variant_key) == (found.variant_key, "")
    # Hosts are few: their own split is uneven by chance, viewers' within a host's arm is not.
    for host_arm in "ab":
        both = [cells["a", host_arm], cells["b", host_arm]]
        assert _chi_square(both, sum(both) / 2) < 15.1
    same_id = sum(
        _one(two_sided, Context({"user": u, "host": u}))[1::5] in (("a", "a"), ("b", "b"))
        for u in UNITS
    )
    assert abs(same_id / len(UNITS) - 0.5) < 0.03


def test_conditions_see_the_requests_attributes_alone() -> None:
    targeted = _experiment(condition={"country": "US", "id": {"$exists": False}})
    assert _reason(targeted) is Reason.NOT_TARGETED
    assert _reason(targeted, attributes={"country": "US"}) is Reason.SPLIT


def test_an_attribute_of_the_feature_service_is_needed() -> None:
    common = Common(from_features=("segment", "other"))
    targeted = _experiment(condition={"$not": {"$or": [{"segment.name": "vip"}]}})
    assert _reason(targeted, common) is Reason.MISSING_ATTRIBUTE
    assert _reason(targeted, common, attributes={"segment": None}) is Reason.SPLIT
    vip = {"segment": {"name": "vip"}}
    assert _reason(targeted, common, attributes=vip) is Reason.NOT_TARGETED


def test_prerequisites_are_flags_or_experiments() -> None:
    on_flag = _experiment(prerequisites=(Prerequisite("vip", {"value": True}),))
    assert _reason(on_flag) is Reason.PREREQUISITE
    assert _reason(on_flag, attributes={"tier": "gold"}) is Reason.SPLIT
    first = _experiment(key="first", salt="first")
    after = _experiment(prerequisites=(Prerequisite("first", {"value": "a"}),))
    definitions = _definitions(first, after)
    for unit in UNITS[:50]:
        later, before = assign(definitions, {"user": unit})
        assert (later.reason is Reason.SPLIT) == (before.variant_key == "a")


def test_who_is_needed_twice_decides_once() -> None:
    # Deciding anew for each would take 2**MAX_CHAIN decisions.
    needs = [
        tuple(Prerequisite(f"e{n - 1}", {"value": "a"}) for _ in range(2)) if n else ()
        for n in range(MAX_CHAIN)
    ]
    all_a = (Variant("a", 1.0),)
    chain = [
        _experiment(key=f"e{n}", salt=f"s{n}", prerequisites=needed, variants=all_a)
        for n, needed in enumerate(needs)
    ]
    definitions = _definitions(*chain)
    assert not list(errors_of(definitions))
    assert {a.reason for a in assign(definitions, {"user": "u"})} == {Reason.SPLIT}
    longer = _experiment(key="last", salt="l", prerequisites=(Prerequisite(chain[-1].key),))
    ((at, problem),) = errors_of(_definitions(*chain, longer))
    assert at == ("experiments", "last")
    assert "needs more than 63 others" in problem


def test_filters_and_namespaces() -> None:
    nobody = _experiment(filters=(Filter("s", ((0.0, 0.0),), "user"),))
    assert _reason(nobody) is Reason.FILTERED
    assert _reason(_experiment(namespace=("n", 0.0, 0.0))) is Reason.FILTERED
    assert _reason(_experiment(namespace=("n", 0.0, 1.0))) is Reason.SPLIT


@pytest.mark.parametrize(
    "changes", [{"evaluator_version": 2}, {"hash": "xxh4"}, {"layer": "nowhere"}]
)
def test_what_is_not_known_here_is_never_guessed(changes: dict[str, object]) -> None:
    unknown = _experiment(**changes)
    assert _one(unknown, Context({"user": "u"})) == Assignment(
        "e", "", Reason.UNSUPPORTED, None, "user", 1
    )
    flag = Flag("f", 1, evaluator_version=2)
    definitions = replace(_definitions(_experiment()), flags={"f": flag})
    assert evaluate_flag(definitions, "f", Context()).source == "unsupported"
    everything = replace(_definitions(_experiment()), unsupported=True)
    (found,) = assign(everything, {"user": "u"})
    assert found.reason is Reason.UNSUPPORTED
    assert evaluate_flag(everything, "vip", Context()) == (None, "unsupported", "", None)


def test_sticky_units_keep_their_variant() -> None:
    sticky = _experiment(sticky=Sticky("device", version=1))
    first = evaluate(_definitions(sticky), Context({"device": "d"}, sticky={}))
    (given,) = first.assignments
    assert (given.reason, given.unit_type) == (Reason.SPLIT, "device")
    (document,) = first.sticky_changes.values()
    assert (document.key, document.assignments) == ("device||d", {"e__1": given.variant_key})
    # The other arm gets everybody now; who has a variant keeps it, signed in or not.
    other = "b" if given.variant_key == "a" else "a"
    moved = replace(sticky, variants=tuple(replace(v, weight=v.key == other) for v in HALVES))
    context = Context({"device": "d", "user": "u"}, sticky=first.sticky_changes)
    later = evaluate(_definitions(moved), context)
    assert later.assignments[0][:3] == ("e", given.variant_key, Reason.STICKY)
    assert list(later.sticky_changes) == ["user||u"]
    again = replace(context, sticky={**first.sticky_changes, **later.sticky_changes})
    assert evaluate(_definitions(moved), again).sticky_changes == {}
    renewed = replace(moved, sticky=Sticky("device", version=2))
    assert evaluate(_definitions(renewed), context).assignments[0].variant_key == other
    blocked = replace(moved, sticky=Sticky("device", version=2, min_version=2))
    outcome = evaluate(_definitions(blocked), context)
    assert outcome.assignments[0][1:3] == ("", Reason.STICKY_BLOCKED)
    assert outcome.sticky_changes == {}
    # Without documents nothing is kept, and the fallback counts for nothing.
    assert _reason(sticky, units={"device": "d"}) is Reason.MISSING_UNIT


@pytest.mark.parametrize("unit", ["用户", "é", "😀", " ", "a" * 128])
def test_ids_in_any_characters(unit: str) -> None:
    for name in ("xxh3", "fnv1", "fnv2"):
        found = _one(_experiment(hash=name), Context({"user": unit}))
        assert found.reason is Reason.SPLIT
        assert found.bucket is not None
        assert 0 <= found.bucket < 1


def test_an_empty_id_is_none() -> None:
    assert _reason(_experiment(), units={"user": ""}) is Reason.MISSING_UNIT
    assert _reason(_experiment(), units={}) is Reason.MISSING_UNIT
