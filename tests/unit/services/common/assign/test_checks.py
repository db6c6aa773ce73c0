"""Bad definitions are refused with their place; so are changes that would move units."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.assign.assign import Definitions, Experiment, Sticky, Variant, assign
from services.common.assign.canonical import DefinitionError, Item, definitions_of, hashed, items_of
from services.common.assign.change_checks import change_errors
from services.common.assign.checks import MAX_RUNNING, errors_of
from services.common.assign.definitions import load_experiments
from services.common.assign.javascript import number
from services.common.assign.model import Common, Flag, Holdout, Layer, Rule
from services.common.errors import ConfigError

GOOD = """\
layers:
  home: {unit: user, salt: layer_home}
holdout: {salt: holdout_1, share: 0.05}
from_features: [segment]
saved_groups: {staff: [u1, u2]}
aliases: {id: user}
experiments:
  one:
    unit: user
    salt: one_1
    running: true
    revision: 1
    layer: {name: home, ranges: [[0, 0.4]]}
    condition: {country: {$in: [US, CA]}, segment: vip}
    start: 2026-01-01T00:00:00Z
    end: 2026-02-01T00:00:00Z
    variants:
      control: {weight: 0.5}
      other: {weight: 0.5}
  two:
    unit: user
    salt: two_1
    running: true
    revision: 1
    coverage: 0.1
    ramp: [{at: 2026-01-02T00:00:00+08:00, coverage: 0.5}]
    layer: {name: home, ranges: [[0.4, 0.9]]}
    prerequisites: [{id: one, condition: {value: {$exists: true}}}]
    sticky: {fallback_unit: device, version: 1}
    variants:
      control: {weight: 0.5}
      other: {weight: 0.5, objective_weights: {watch: 0.5}}
  slices:
    unit: time_slice
    slice: 30m
    salt: slices_1
    running: true
    revision: 1
    variants: {x: {weight: 1}}
flags:
  banner:
    default: {text: 你好}
    rules:
      - {condition: {country: FR}, value: bonjour}
      - prerequisites: [{id: one, condition: {value: control}, gate: true}]
        filters: [{salt: s, ranges: [[0, 1]], unit: id}]
        rollout: {unit: id, salt: r, hash: fnv1, coverage: 0.5}
        value: half
      - experiment:
          key: inner
          unit: id
          salt: inner
          hash: fnv2
          running: true
          revision: 1
          namespace: [n, 0, 0.5]
          variants: {a: {weight: 0.5, value: 1}, b: {weight: 0.5, value: 2}}
"""


def _load(tmp_path: Path, text: str) -> Definitions:
    path = tmp_path / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    return load_experiments(path, None)


def test_definitions_survive_their_canonical_form(tmp_path: Path) -> None:
    definitions = _load(tmp_path, GOOD)
    items = items_of(definitions)
    again = definitions_of(items.values())
    assert again == definitions
    assert len(definitions.hash) == 64
    for i in range(60):
        units = {"user": f"u{i}"}
        attributes = {"country": "US", "segment": "vip"}
        now_ms = 1_768_000_000_000
        found = assign(again, units, attributes=attributes, now_ms=now_ms)
        assert found == assign(definitions, units, attributes=attributes, now_ms=now_ms)
    changed = replace(definitions.experiments["one"], revision=2)
    other = hashed(replace(definitions, experiments={**definitions.experiments, "one": changed}))
    assert other.hash != definitions.hash
    assert [k for k in items if items_of(other)[k] != items[k]] == [("experiment", "one")]


def test_items_of_another_version_stay_and_decide_nothing(tmp_path: Path) -> None:
    items = items_of(_load(tmp_path, GOOD))
    newer = {**items, ("experiment", "one"): Item("experiment", "one", 9, 2, '{"new": true}')}
    definitions = definitions_of(newer.values())
    by_key = {a.experiment_key: a for a in assign(definitions, {"user": "u"}, now_ms=1)}
    assert (by_key["one"].reason.value, by_key["one"].revision) == ("unsupported", 9)
    assert by_key["slices"].reason.value == "split"
    layer = {**items, ("layer", "home"): Item("layer", "home", 1, 2, "{}")}
    assert definitions_of(layer.values()).unsupported
    assert definitions_of([*items.values(), Item("novelty", "n", 1, 1, "{}")]).unsupported


@pytest.mark.parametrize("text", ["", "[]", '{"key": "e"}', '{"key":"e","unit":"u","nix":1}'])
def test_an_item_that_can_not_be_read_is_named(text: str) -> None:
    with pytest.raises(DefinitionError, match="experiment 'e' can't be read"):
        definitions_of([Item("experiment", "e", 1, 1, text)])


@pytest.mark.parametrize(
    ("old", "new", "field", "message"),
    [
        ("ranges: [[0, 0.4]]", "ranges: [[0, 0.5]]", "two.layer.ranges", "0.4 to 0.5 is one's"),
        ("ranges: [[0, 0.4]]", "ranges: [[0, 0.7]]", "one.layer.ranges", "given away to 120%"),
        ("ranges: [[0, 0.4]]", "ranges: [[0.4, 0]]", "one.layer.ranges.0", "begin before"),
        ("name: home, ranges: [[0, 0.4", "name: nix, ranges: [[0, 0.4", "one.layer.name", "nix"),
        ("unit: user, salt: layer", "unit: device, salt: layer", "one.layer.name", "of devices"),
        ("$in:", "$inn:", "one.condition.country.$inn", "'$inn' is no operator"),
        ("country: {$in: [US, CA]}", "$or: 1", "one.condition.$or", "must be a list"),
        ("{$in: [US, CA]}", "{$regex: '('}", "one.condition.country.$regex", "not a pattern"),
        ("id: one, condition: {value: {$e", "id: nix, condition: {value: {$e", "two.p", "no 'nix'"),
        ("    start:", "    prerequisites: [{id: two}]\n    start:", "one", "one needs two needs"),
        ("2026-02-01T00:00:00Z", "2025-02-01T00:00:00Z", "one.end", "after the start"),
        ("2026-02-01T00:00:00Z", "2026-02-01T00:00:00", "one.end", "timezone"),
        ("    slice: 30m\n", "", "slices.slice", "needed there"),
        ("slice: 30m", "slice: soon", "slices.slice", "not a duration"),
        ("salt: two_1", "salt: layer_home", "two.salt", "also that of home"),
        ("salt: two_1", "salt: ''", "two.salt", "at least 1"),
        ("salt: two_1", "salt: two_1\n    hash: md5", "two.hash", "'md5' is not one of"),
        ("salt: two_1", "salt: two_1\n    other_unit: user", "two.other_unit", "host or room"),
        ("version: 1}", "version: 1, min_version: 2}", "two.sticky.min_version", "at most 1"),
        (
            "coverage: 0.5}]\n",
            "coverage: 0.5}, {at: 2026-01-01T00:00:00Z, coverage: 1}]\n",
            "two.ramp",
            "in order of time",
        ),
        (
            "    salt: slices_1",
            "    salt: slices_1\n    ranges: [[0, 1], [0, 1]]",
            "slices.r",
            "1,",
        ),
    ],
)
def test_bad_definitions_are_refused(
    tmp_path: Path, old: str, new: str, field: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match="experiments") as refused:
        _load(tmp_path, GOOD.replace(old, new, 1))
    assert message in str(refused.value)
    assert refused.value.field.startswith(f"experiments.{field}")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("country: FR", "country: {$nix: 1}", "flags.banner.rules.0.condition.country.$nix"),
        ("key: inner", "key: one", "flags.banner.rules.2.experiment.key"),
        ("b: {weight: 0.5, value: 2}", "b: {weight: 0.6}", "flags.banner.rules.2.experiment.var"),
        ("{id: one, condition: {value: co", "{id: banner, condition: {value: co", "flags.banner"),
    ],
)
def test_bad_flags_are_refused(tmp_path: Path, old: str, new: str, field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, GOOD.replace(old, new, 1))
    assert refused.value.field.startswith(field)


def test_ranges_of_variants_do_not_overlap(tmp_path: Path) -> None:
    text = GOOD.replace("salt: one_1", "salt: one_1\n    ranges: [[0, 0.5], [0.4, 1]]")
    with pytest.raises(ConfigError, match=r"overlap from 0\.4 to 0\.5"):
        _load(tmp_path, text)
    _load(tmp_path, text.replace("[0.4, 1]", "[0.5, 1]"))


def test_one_layer_serves_experiments_one_after_the_other(tmp_path: Path) -> None:
    later = GOOD.replace("ranges: [[0.4, 0.9]]", "ranges: [[0, 1]]").replace(
        "    coverage: 0.1", "    start: 2026-02-01T00:00:00Z\n    coverage: 0.1"
    )
    _load(tmp_path, later)
    with pytest.raises(ConfigError, match="given away to 140%"):
        _load(tmp_path, later.replace("start: 2026-02-01", "start: 2026-01-31"))


def test_slices_of_a_layer_are_all_of_one_length(tmp_path: Path) -> None:
    layered = "layer: {{name: hours, ranges: [[{}]]}}\n    salt: slices_{}"
    first = GOOD.replace("  home:", "  hours: {unit: time_slice, salt: layer_hours}\n  home:")
    first = first.replace("salt: slices_1", layered.format("0, 0.5", 1))
    more = first.replace(
        "flags:",
        f"""\
  longer:
    unit: time_slice
    slice: 1h
    {layered.format("0.5, 1", 2)}
    running: true
    revision: 1
    variants: {{x: {{weight: 1}}}}
flags:""",
    )
    with pytest.raises(ConfigError, match="is of another length than slices's"):
        _load(tmp_path, more)
    _load(tmp_path, more.replace("slice: 1h", "slice: 30m"))


BASE = Experiment(
    "e", "user", "e_1", (Variant("a", 0.5), Variant("b", 0.5)), coverage=0.2, sticky=Sticky()
)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"salt": "e_2"}, "salt"),
        ({"unit": "device"}, "unit"),
        ({"hash": "fnv2"}, "hash"),
        ({"variants": (Variant("b", 0.5), Variant("a", 0.5))}, "variants"),
        ({"variants": (Variant("a", 0.4), Variant("b", 0.6))}, "variants"),
        ({"revision": 1, "coverage": 0.3}, "revision"),
    ],
)
def test_a_running_experiment_keeps_what_decides_who_is_where(
    tmp_path: Path, changes: dict[str, object], field: str
) -> None:
    empty = _load(tmp_path, "experiments: {}")
    before = replace(empty, experiments={"e": BASE})
    changed = replace(BASE, **({"revision": 2} | changes))  # type: ignore[arg-type]
    after = replace(empty, experiments={"e": changed})
    assert [where for where, _ in change_errors(before, after)] == [("experiments", "e", field)]
    if field != "revision":
        stopped = replace(empty, experiments={"e": replace(BASE, running=False)})
        assert list(change_errors(stopped, after)) == []


def test_a_layer_keeps_its_salt_while_an_experiment_runs_in_it(tmp_path: Path) -> None:
    before = _load(tmp_path, GOOD)
    again = GOOD.replace("salt: layer_home", "salt: layer_away")
    assert list(change_errors(before, _load(tmp_path, again))) == [
        (("layers", "home", "salt"), "can't change while one, two runs")
    ]
    paused = again.replace("running: true", "running: false")
    paused = paused.replace("revision: 1", "revision: 2")
    assert list(change_errors(before, _load(tmp_path, paused))) == []


def test_raising_the_coverage_is_no_such_change(tmp_path: Path) -> None:
    empty = _load(tmp_path, "experiments: {}")
    before = replace(empty, experiments={"e": BASE})
    raised = replace(BASE, revision=2, coverage=0.9, killed=True, description="more")
    assert list(change_errors(before, replace(empty, experiments={"e": raised}))) == []
    assert list(change_errors(before, before)) == []


@pytest.mark.parametrize(
    "condition",
    [
        "{a: 2026-01-01}",
        "{a: {1: 2}}",
        "{a: {b: {2: 3}}}",
        "{a: !!set {b}}",
        "{a: {$in: [!!binary aGk=]}}",
        "{a: &x [*x]}",
        r'{a: {$regex: "\\k<a"}}',
    ],
)
def test_conditions_are_what_json_knows(tmp_path: Path, condition: str) -> None:
    text = GOOD.replace("{country: {$in: [US, CA]}, segment: vip}", condition)
    path = tmp_path / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"experiments\.one\.condition\.a"):
        load_experiments(path, None)


@pytest.mark.parametrize("value", ["2026-01-01", "{1: 2}", "!!set {b}", "&x {a: *x}"])
def test_values_of_flags_are_what_json_knows(tmp_path: Path, value: str) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(f"flags:\n  f: {{default: {value}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"flags\.f\.default"):
        load_experiments(path, None)


def test_a_number_may_be_beyond_any_float() -> None:
    assert number("0x" + "f" * 300) == math.inf


def _in_layer(count: int) -> Definitions:
    """As many experiments side by side in one layer."""
    halves = (Variant("a", 0.5), Variant("b", 0.5))
    experiments = {
        f"e{n}": Experiment(
            f"e{n}",
            "user",
            f"salt_{n}",
            halves,
            layer="all",
            layer_ranges=((n / count, (n + 1) / count),),
        )
        for n in range(count)
    }
    return Definitions(experiments, "", layers={"all": Layer("all", "user", "salt_of_all")})


def test_a_layer_of_a_thousand_is_checked_and_no_more_may_run() -> None:
    thousand = _in_layer(MAX_RUNNING)
    assert not list(errors_of(thousand))
    (too_many,) = errors_of(_in_layer(MAX_RUNNING + 1))
    assert too_many[0][::2] == ("experiments", "running")
    assert "1000 run already" in too_many[1]
    wide = replace(thousand.experiments["e7"], layer_ranges=((0.0065, 0.0085),))
    found = dict(errors_of(replace(thousand, experiments={**thousand.experiments, "e7": wide})))
    assert {at[1]: why for at, why in found.items() if "too" in why} == {
        "e7": "0.0065 to 0.007 is e6's, too",
        "e8": "0.008 to 0.0085 is e7's, too",
    }


HOLDOUT = Holdout("holdout_1", 0.1)


def _held_out(holdout: Holdout | None, *experiments: Experiment) -> Definitions:
    return Definitions({e.key: e for e in experiments}, "", common=Common(holdout=holdout))


@pytest.mark.parametrize(
    ("holdout", "field", "why"),
    [
        (Holdout("holdout_2", 0.1), ("holdout", "salt"), "can't change while e runs"),
        (Holdout("holdout_2", 0.2), ("holdout", "salt"), "can't change while e runs"),
        (Holdout("holdout_1", 0.05), ("holdout", "share"), "must be at least 0.1 while e runs"),
        (None, ("holdout",), "can't go while e runs"),
    ],
)
def test_units_of_the_holdout_stay_in_it_while_an_experiment_runs(
    holdout: Holdout | None, field: tuple[str, ...], why: str
) -> None:
    ((where, told),) = change_errors(_held_out(HOLDOUT, BASE), _held_out(holdout, BASE))
    assert where == field
    assert told.startswith(why)
    of_a_flag = Flag("f", rules=(Rule(experiment=BASE),))
    before, after = _held_out(HOLDOUT), _held_out(holdout)
    before, after = (replace(one, flags={"f": of_a_flag}) for one in (before, after))
    assert [where for where, _ in change_errors(before, after)] == [field]


@pytest.mark.parametrize(
    "running",
    [
        replace(BASE, running=False),
        replace(BASE, holdout=False),
        replace(BASE, variants=(Variant("a", 0.0), Variant("b", 1.0))),
    ],
)
def test_the_holdout_may_change_where_no_experiment_splits_the_others(running: Experiment) -> None:
    for holdout in (None, Holdout("holdout_2", 0.2), Holdout("holdout_1", 0.0)):
        changes = _held_out(HOLDOUT, running), _held_out(holdout, running)
        assert list(change_errors(*changes)) == []


def test_the_holdout_may_grow_and_begin_at_any_time() -> None:
    for before in (None, HOLDOUT):
        after = _held_out(Holdout("holdout_1", 0.2), BASE)
        assert list(change_errors(_held_out(before, BASE), after)) == []


def test_many_experiments_are_not_all_named() -> None:
    many = [replace(BASE, key=f"e{n}") for n in range(5)]
    ((_, why),) = change_errors(_held_out(HOLDOUT, *many), _held_out(None, *many))
    assert why.startswith("can't go while e0, e1, e2 and 2 more runs")
