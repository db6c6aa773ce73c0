"""A row that somebody edited by hand is named, and takes no other with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Text, insert, literal, update

from podium.experiment.v1 import registry_pb2
from services.common.assign.assign import Context, Definitions, Holdout, Reason, evaluate
from services.common.assign.canonical import items_of
from services.common.assign.definitions import errors_within
from services.common.errors import FailedPrecondition
from services.experiment.convert_registry import part_response, records_response
from services.experiment.registry.bulk import Bulk
from services.experiment.registry.record import Reading, State, read_in_force
from services.experiment.registry.registry import Registry
from services.experiment.store.engine import open_engine, transaction
from services.experiment.store.sql import SqlStore
from services.experiment.store.tables import AUDIT, DEFINITIONS


def _canonical(**fields: object) -> str:
    variants = [{"key": "a", "weight": 0.5}, {"key": "b", "weight": 0.5}]
    return json.dumps({"key": "bad", "unit": "user", "salt": "s", "variants": variants} | fields)


BROKEN = [
    ("canonical_json", "{"),
    ("canonical_json", "[]"),
    ("canonical_json", '{"key":"bad"}'),
    (
        "canonical_json",
        '{"key":"bad","unit":"user","salt":"s","variants":[],"condition":{"$or":1}}',
    ),
    ("canonical_json", '{"key":"bad","unit":"user","salt":"s","variants":7}'),
    ("canonical_json", _canonical(variants=[{"key": "a", "weight": "1"}])),
    ("canonical_json", _canonical(variants=[])),
    ("canonical_json", _canonical(coverage=True)),
    ("canonical_json", _canonical(salt=7)),
    ("canonical_json", _canonical(layer_ranges=[["0", 1]])),
    ("canonical_json", _canonical(ramp=[{"at_ms": "now", "coverage": 1}])),
    ("canonical_json", _canonical(analysis={"primary": 3})),
    ("state", "resting"),
    ("revision", "many"),
]


class _Registry:
    """A registry of two running experiments, a flag and a holdout, in a file."""

    def __init__(self, directory: Path) -> None:
        self.engine = open_engine(f"sqlite:///{directory}/registry.db")
        self.store = SqlStore(self.engine)
        self.store.migrate()
        self.registry = Registry(self.store, partial(errors_within, domain=None), lambda: 1)
        for key in ("bad", "good"):
            self.registry.create("ann", key, definition(key))
            self.registry.start("ann", key, 1)
        rest = {"flags": {"f": {"default": 1}}, "holdout": {"salt": "h", "share": 0.0}}
        self.registry.put("ann", Bulk(rest), None)

    def edit(self, column: str, value: str, kind: str = "experiment", key: str = "bad") -> None:
        with transaction(self.engine, writes=True) as connection:
            row = DEFINITIONS.c.kind == kind, DEFINITIONS.c.key == key
            connection.execute(
                update(DEFINITIONS).where(*row).values({column: literal(value, Text)})
            )

    def read(self, before: Definitions | None = None) -> Reading:
        found = self.store.snapshot()
        assert found is not None
        records = found.records.values()
        return (
            read_in_force(records) if before is None else read_in_force(records, items_of(before))
        )


def definition(key: str, **fields: object) -> str:
    variants = {"a": {"weight": 0.5}, "b": {"weight": 0.5}}
    return json.dumps({"unit": "user", "salt": f"{key}_1", "variants": variants} | fields)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[_Registry]:
    found = _Registry(tmp_path)
    yield found
    found.store.close()


def _reasons(definitions: Definitions) -> dict[str, Reason]:
    found = evaluate(definitions, Context({"user": "u"})).assignments
    return {a.experiment_key: a.reason for a in found}


@pytest.mark.parametrize(("column", "value"), BROKEN)
def test_the_others_go_on_and_what_was_in_force_stays(
    made: _Registry, column: str, value: str
) -> None:
    before = made.read()
    assert before.faults == []
    made.edit(column, value)
    alone = made.read()
    assert _reasons(alone.definitions) == {"bad": Reason.UNSUPPORTED, "good": Reason.SPLIT}
    kept = made.read(before.definitions)
    assert kept.definitions.hash == before.definitions.hash
    if column == "canonical_json":
        assert ["'bad'" in fault for fault in kept.faults] == [True]


@pytest.mark.parametrize(("column", "value"), BROKEN)
def test_the_registry_takes_changes_of_all_others(made: _Registry, column: str, value: str) -> None:
    made.edit(column, value)
    assert made.registry.pause("ann", "good", 2).state is State.PAUSED
    made.registry.create("ann", "new", definition("new"))
    made.registry.switch("ann", killed=True)
    assert set(_reasons(made.read().definitions).values()) == {Reason.UNSUPPORTED, Reason.KILLED}


def test_a_change_of_it_is_refused_by_its_name_and_another_definition_mends_it(
    made: _Registry,
) -> None:
    made.edit("canonical_json", "{")
    with pytest.raises(FailedPrecondition, match="experiment 'bad' can't be read") as refused:
        made.registry.pause("ann", "bad", 2)
    assert refused.value.reason == "UNREADABLE_DEFINITION"
    mended = made.registry.update("ann", "bad", 2, definition("bad", description="mended"))
    assert mended.state is State.RUNNING
    assert _reasons(made.read().definitions)["bad"] is Reason.SPLIT


def test_a_change_to_a_state_that_is_not_known_is_refused_by_its_name(made: _Registry) -> None:
    entry = {"at_ms": 1, "caller": "eve", "action": "rest", "kind": "experiment", "key": "bad"}
    told = {"changed_fields": "[]", "state_after": "resting", "remark": ""}
    versions = {"version_before": 2, "version_after": 3}
    with transaction(made.engine, writes=True) as connection:
        connection.execute(insert(AUDIT).values(entry | told | versions))
    with pytest.raises(FailedPrecondition, match="'bad' can't be read: its state_after 'resting'"):
        made.store.entries("bad", 0, 10)


def test_a_list_has_what_can_not_be_read_among_the_others(made: _Registry) -> None:
    made.edit("revision", "many")
    bad, good = records_response(made.registry.find([*State], "", 10), 10).experiments
    assert (bad.key, bad.state) == ("bad", registry_pb2.EXPERIMENT_STATE_UNSPECIFIED)
    assert (good.key, good.state) == ("good", registry_pb2.EXPERIMENT_STATE_RUNNING)


def test_what_an_author_wrote_that_is_no_json_is_told_in_lists(made: _Registry) -> None:
    made.edit("authored_json", '{"description": ')
    listed = records_response(made.registry.find([*State], "", 10), 10)
    bad, good = listed.experiments
    assert bad.description.startswith("experiment 'bad' can't be read: what its author wrote")
    assert good.description == ""
    _, part = made.registry.part(None, 1 << 20)
    told = part_response(3, part)
    assert [(name.kind, name.key) for name in told.unreadable] == [("experiment", "bad")]
    assert [*json.loads(told.definitions_json)["experiments"]] == ["good"]
    with pytest.raises(FailedPrecondition, match="experiment 'bad' can't be read"):
        made.registry.ramp("ann", "bad", 2, 0.5, [])


def test_without_the_holdout_nobody_is_decided_about(made: _Registry) -> None:
    before = made.read().definitions
    made.edit("canonical_json", "{", "common", "")
    assert set(_reasons(made.read().definitions).values()) == {Reason.UNSUPPORTED}
    assert _reasons(made.read(before).definitions) == _reasons(before)


COMMON = '{"holdout":{"salt":"h","share":0.5}}'
BROKEN_COMMON = [
    {"authored_json": "{"},
    {"authored_json": "[]"},
    {"authored_json": '{"holdout": 3}'},
    {"authored_json": "{", "canonical_json": "{"},
    {"authored_json": "{", "canonical_json": '{"killed":"no"}'},
    {"authored_json": "{", "version": "many"},
]


@pytest.mark.parametrize("broken", BROKEN_COMMON)
def test_the_kill_switch_works_whatever_its_row_holds(
    made: _Registry, broken: dict[str, str]
) -> None:
    for column, value in {"canonical_json": COMMON, **broken}.items():
        made.edit(column, value, "common", "")
    version = made.registry.switch("ann", killed=True)
    definitions = made.read().definitions
    assert set(_reasons(definitions).values()) == {Reason.KILLED}
    entry = made.registry.audit("", 0, 1)[0].entry
    assert (entry.kind, entry.remark) == ("common", "all experiments off")
    if "canonical_json" not in broken and "version" not in broken:
        assert definitions.common.holdout == Holdout("h", 0.5), "what decided stays"
    assert made.registry.switch("ann", killed=True) == version, "once more is no change"
    # Its holdout would be lost, and its units be in everything.
    with pytest.raises(FailedPrecondition, match="common '' can't be read") as refused:
        made.registry.switch("ann", killed=False)
    assert refused.value.reason == "UNREADABLE_DEFINITION"
    with pytest.raises(FailedPrecondition, match="common '' can't be read"):
        made.registry.put("ann", Bulk({"holdout": {"salt": "h", "share": 0.5}}), None)
    whole = {"holdout": {"salt": "h", "share": 0.5}, "killed": True}
    made.registry.put("ann", Bulk(whole | {"aliases": {}, "from_features": []}), None)
    made.registry.switch("ann", killed=False)
    common = made.read().definitions.common
    assert (common.killed, common.holdout) == (False, Holdout("h", 0.5))


def test_what_its_author_wrote_is_enough_for_the_kill_switch(made: _Registry) -> None:
    made.registry.put("ann", Bulk({"holdout": {"salt": "h", "share": 0.5}}), None)
    made.edit("canonical_json", "{", "common", "")
    for killed in (True, False):
        made.registry.switch("ann", killed=killed)
        common = made.read().definitions.common
        assert (common.killed, common.holdout) == (killed, Holdout("h", 0.5))


@pytest.mark.parametrize("text", ["[]", "7", '"x"'])
def test_what_an_author_wrote_that_is_no_object_is_not_ramped(made: _Registry, text: str) -> None:
    made.edit("authored_json", text)
    with pytest.raises(FailedPrecondition, match="experiment 'bad' can't be read"):
        made.registry.ramp("ann", "bad", 2, 0.5, [])


@pytest.mark.parametrize("value", [v for column, v in BROKEN if column == "canonical_json"])
def test_another_definition_mends_it(made: _Registry, value: str) -> None:
    made.edit("canonical_json", value)
    made.registry.update("ann", "bad", 2, definition("bad", description="mended"))
    assert _reasons(made.read().definitions)["bad"] is Reason.SPLIT


def test_a_part_holds_no_more_than_it_may_and_all_parts_together_everything(
    made: _Registry,
) -> None:
    _, whole = made.registry.part(None, 1 << 20)
    after, parts = None, []
    while True:
        _, part = made.registry.part(after, 1)
        parts.append(part.data)
        after = part.next_after
        if after is None:
            break
    together: dict[str, object] = {}
    for data in parts:
        for name, content in data.items():
            held = together.get(name)
            together[name] = held | content if isinstance(held, dict) else content
    assert len(parts) == 4
    assert together == whole.data
