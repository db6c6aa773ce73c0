"""What may become of an experiment, and who is in it then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.common.assign.assign import Context, Reason, Step, evaluate
from services.common.assign.canonical import Item, definitions_of, items_of
from services.common.assign.hashing import bucket_of
from services.common.assign.model import EVALUATOR_VERSION
from services.common.errors import FailedPrecondition, InvalidArgument
from services.experiment.registry import authored, lifecycle
from services.experiment.registry.bulk import part_of
from services.experiment.registry.changes import entry, raised
from services.experiment.registry.record import Record, State, in_force, read_in_force

NOW_MS = 1_800_000_000_000
DEFINITION = {
    "description": "Which banner sells?",
    "unit": "user",
    "salt": "banner_1",
    "coverage": 0.2,
    "layer": {"name": "home", "ranges": [[0, 0.5]]},
    "condition": {"region": "US"},
    "sticky": {"version": 1},
    "variants": {"a": {"weight": 0.5}, "b": {"weight": 0.5}},
}
HOLDOUT = Item("common", "", 1, EVALUATOR_VERSION, '{"holdout":{"salt":"holdout_1","share":0.1}}')
LAYER = Item("layer", "home", 1, EVALUATOR_VERSION, '{"key":"home","unit":"user","salt":"layer_1"}')
USERS = [f"user-{number}" for number in range(300)]


def _record(state: State = State.DRAFT, **changes: object) -> Record:
    made = authored.experiment("banner", DEFINITION, 1)
    return replace(Record(made.item, made.text, 1, state, 0, 0), **changes)  # type: ignore[arg-type]


def _beside(item: Item) -> Record:
    return Record(item, "{}", 1, None, 0, 0)


def _outcomes(record: Record, now_ms: int = NOW_MS) -> dict[str, tuple[str, Reason]]:
    definitions = read_in_force([record, _beside(HOLDOUT), _beside(LAYER)]).definitions
    found = {}
    for user in USERS:
        context = Context({"user": user}, {"region": "US"}, now_ms=now_ms)
        (assignment,) = evaluate(definitions, context, ["banner"]).assignments
        found[user] = (assignment.variant_key, assignment.reason)
    return found


_Change = Callable[[Record], lifecycle.Change]
CHANGES: dict[str, _Change] = {
    "update": lambda r: lifecycle.updated(r, DEFINITION | {"coverage": 0.3}),
    "start": lambda r: lifecycle.started(r, NOW_MS),
    "ramp": lambda r: lifecycle.ramped(r, 0.4, [], NOW_MS),
    "pause": lifecycle.paused,
    "resume": lifecycle.resumed,
    "conclude": lambda r: lifecycle.concluded(r, "b", True, NOW_MS),
    "archive": lifecycle.archived,
}
LEADS_TO = {
    State.DRAFT: {"update": State.DRAFT, "start": State.RUNNING, "archive": State.ARCHIVED},
    State.RUNNING: {
        "update": State.RUNNING,
        "start": State.RUNNING,
        "ramp": State.RUNNING,
        "pause": State.PAUSED,
        "resume": State.RUNNING,
        "conclude": State.CONCLUDED,
    },
    State.PAUSED: {
        "update": State.PAUSED,
        "ramp": State.PAUSED,
        "pause": State.PAUSED,
        "resume": State.RUNNING,
        "conclude": State.CONCLUDED,
    },
    State.CONCLUDED: {"conclude": State.CONCLUDED, "archive": State.ARCHIVED},
    State.ARCHIVED: {"archive": State.ARCHIVED},
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", CHANGES)
def test_only_legal_changes_of_state(state: State, action: str) -> None:
    record = _record(state, winner="b" if state is State.CONCLUDED else "")
    if action in LEADS_TO[state]:
        made = CHANGES[action](record)
        assert made.action == action
        assert made.record.state is LEADS_TO[state][action]
        assert CHANGES[action](made.record).record == made.record, "again it changes nothing"
    else:
        with pytest.raises(FailedPrecondition, match=f"is {state.value}: to be") as refused:
            CHANGES[action](record)
        assert refused.value.reason == "ILLEGAL_TRANSITION"


def test_a_pause_takes_everybody_out_and_gives_everybody_back_what_they_had() -> None:
    running = raised(_record(State.RUNNING), NOW_MS)
    before = _outcomes(running)
    assert {variant for variant, _ in before.values()} == {"a", "b", ""}
    paused = raised(lifecycle.paused(running).record, NOW_MS)
    assert {variant for variant, _ in _outcomes(paused).values()} == {""}
    assert Reason.KILLED in {reason for _, reason in _outcomes(paused).values()}
    resumed = raised(lifecycle.resumed(paused).record, NOW_MS)
    assert _outcomes(resumed) == before
    assert resumed.item.revision == running.item.revision + 2


def test_a_ramp_adds_units_and_moves_none() -> None:
    running = raised(_record(State.RUNNING), NOW_MS)
    made = lifecycle.ramped(running, 0.3, [Step(NOW_MS + 1_000, 0.9)], NOW_MS)
    assert "coverage 0.3, 0.9 from 2027-" in made.remark
    ramped = raised(made.record, NOW_MS)
    counts = [sum(v != "" for v, _ in _outcomes(r, m).values()) for r, m in (
        (running, NOW_MS), (ramped, NOW_MS), (ramped, NOW_MS + 1_000)
    )]  # fmt: skip
    assert counts == sorted(set(counts)), "more units with each step"
    after = _outcomes(ramped, NOW_MS + 1_000)
    for user, (variant, _) in _outcomes(running).items():
        assert variant in ("", after[user][0])


def test_rolled_out_everybody_has_the_winner_but_the_holdout_and_those_not_targeted() -> None:
    running = raised(_record(State.RUNNING), NOW_MS)
    concluded = raised(lifecycle.concluded(running, "b", True, NOW_MS).record, NOW_MS)
    for user, (variant, _) in _outcomes(concluded).items():
        assert variant == ("" if bucket_of("holdout_1", user) < 0.1 else "b")
    definitions = read_in_force([concluded, _beside(LAYER)]).definitions
    elsewhere = Context({"user": "user-1"}, {"region": "FR"}, now_ms=NOW_MS)
    assert evaluate(definitions, elsewhere, ["banner"]).assignments[0].variant_key == ""
    assert json.loads(concluded.authored)["coverage"] == 0.2, "the definition stays as it was run"
    back = raised(lifecycle.concluded(concluded, "b", False, NOW_MS).record, NOW_MS)
    assert {variant for variant, _ in _outcomes(back).values()} == {""}
    with pytest.raises(FailedPrecondition, match="that stays"):
        lifecycle.concluded(back, "a", False, NOW_MS)


def test_what_is_archived_is_no_definition_any_more() -> None:
    assert in_force(_record(State.ARCHIVED)) is None
    assert part_of({("experiment", "banner"): _record(State.ARCHIVED)}, None, 1_000).data == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: lifecycle.concluded(r, "c", False, NOW_MS), "winner"),
        (lambda r: lifecycle.concluded(r, "", True, NOW_MS), "roll_out"),
        (lambda r: lifecycle.ramped(r, 0.5, [Step(NOW_MS, 1.0)], NOW_MS), "steps[0].at"),
        (
            lambda r: lifecycle.updated(r, DEFINITION | {"salt": "", "colour": 1}),
            "experiments.banner.salt",
        ),
    ],
)
def test_wrong_changes_name_the_field(change: _Change, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        change(_record(State.RUNNING))
    assert field in [violation.field for violation in refused.value.violations]


def test_the_audit_trail_names_fields_and_not_what_they_hold() -> None:
    before = _record()
    condition = {"condition": {"id": {"$in": ["user-secret"]}}}
    after = raised(lifecycle.updated(before, DEFINITION | condition).record, NOW_MS)
    told = entry("ann", "update", before, after)
    assert (told.changed_fields, told.version_before, told.version_after) == (("condition",), 1, 2)
    assert "user-secret" not in repr(told)


def test_a_definition_of_unknown_rules_is_passed_on_and_not_touched() -> None:
    later = Item("experiment", "banner", 3, EVALUATOR_VERSION + 1, '{"of": "tomorrow"}')
    record = Record(later, "{}", 1, State.PAUSED, 0, 0)
    definitions = read_in_force([record]).definitions
    assert items_of(definitions)[later.id] == later
    assert definitions_of(items_of(definitions).values()).hash == definitions.hash
    (assignment,) = evaluate(definitions, Context({"user": "u"}), ["banner"]).assignments
    assert assignment.reason is Reason.UNSUPPORTED
    with pytest.raises(FailedPrecondition, match="does not know"):
        lifecycle.resumed(record)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 2}', "given twice"),
        ('{"a": NaN}', "no JSON number"),
        ("[]", "must be a JSON object"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ("{", "is no JSON"),
        ('{"a": "' + "x" * 100 + '"}', "at most 99 are allowed"),
    ],
)
def test_what_is_no_definition_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        authored.json_object("definition_json", text, 99 if "x" in text else 1 << 20)


@pytest.mark.parametrize("name", authored.LIFECYCLE_FIELDS)
def test_what_the_registry_sets_is_not_to_be_given(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"experiments.banner.{name}: is the registry's"):
        authored.without_lifecycle("banner", DEFINITION | {name: True})
