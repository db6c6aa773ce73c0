"""The registry over SQLite and over PostgreSQL: one suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from services.common.assign.assign import Holdout
from services.common.assign.definitions import errors_within
from services.common.domain import load_domain
from services.common.errors import (
    AlreadyExists,
    ConfigError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PodiumError,
    Unavailable,
    VersionConflict,
)
from services.experiment.registry.bulk import Bulk
from services.experiment.registry.record import State, read_in_force
from services.experiment.registry.registry import KEPT_REPORTS, Registry
from services.experiment.store.engine import open_engine, transaction
from services.experiment.store.sql import SqlStore
from tests.integration.experiment.conftest import Database

ARMS = {"a": {"weight": 0.5}, "b": {"weight": 0.5}}


class _Clock:
    now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms


@pytest.fixture
def store(database: Database) -> Iterator[SqlStore]:
    made = SqlStore(open_engine(database.url))
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def registry(store: SqlStore) -> Registry:
    return Registry(store, partial(errors_within, domain=None), _Clock())


def _json(key: str, **fields: object) -> str:
    return json.dumps({"unit": "user", "salt": f"{key}_1", "variants": ARMS, **fields})


def _in_layer(key: str) -> str:
    return _json(key, layer={"name": "home", "ranges": [[0, 0.6]]})


def _both(first: Callable[[], object], second: Callable[[], object]) -> list[object]:
    """What two editors at once get: a result or an error each."""
    barrier = Barrier(2)

    def run(call: Callable[[], object]) -> object:
        barrier.wait(30)
        try:
            return call()
        except PodiumError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, (first, second)))


def test_everything_comes_back_as_it_was_kept(registry: Registry, store: SqlStore) -> None:
    made = registry.create("ann", "banner", _json("banner", description="文 \\u0000 ok"))
    assert (made.version, made.state) == (1, State.DRAFT)
    assert registry.create("ann", "banner", made.authored) == made, "once more is no change"
    started = registry.start("ann", "banner", 1)
    assert registry.start("ann", "banner", 1) == started == registry.get("banner")
    with pytest.raises(AlreadyExists):
        registry.create("bob", "banner", made.authored)
    paused = registry.pause("bob", "banner", 2)
    concluded = registry.conclude("ann", "banner", 3, "b", roll_out=True)
    assert (paused.version, concluded.version, concluded.item.revision) == (3, 4, 4)
    found = store.snapshot()
    assert found is not None
    assert store.snapshot(found.version) is None
    assert dict(found.records) == {concluded.id: concluded}
    told = [numbered.entry for numbered in registry.audit("banner", 0, 10)]
    assert [(e.caller, e.action, e.version_before, e.version_after) for e in told] == [
        ("ann", "conclude", 3, 4),
        ("bob", "pause", 2, 3),
        ("ann", "start", 1, 2),
        ("ann", "create", 0, 1),
    ]
    assert [e.state_after for e in told[:2]] == [State.CONCLUDED, State.PAUSED]
    assert told[0].remark == "winner b, rolled out"
    assert [n.number for n in registry.audit("", 3, 1)] == [2]
    assert registry.find([State.CONCLUDED], "", 10) == [concluded]
    assert registry.find([State.CONCLUDED], "banner", 10) == []
    assert registry.find([State.DRAFT], "", 10) == []
    with pytest.raises(NotFound):
        registry.get("nothing")


def test_of_two_editors_at_once_exactly_one_wins(registry: Registry) -> None:
    registry.create("ann", "banner", _json("banner"))
    results = _both(
        lambda: registry.update("ann", "banner", 1, _json("banner", coverage=0.1)),
        lambda: registry.update("bob", "banner", 1, _json("banner", coverage=0.2)),
    )
    (lost,) = [result for result in results if isinstance(result, PodiumError)]
    (won,) = [result for result in results if not isinstance(result, PodiumError)]
    assert isinstance(lost, VersionConflict)
    assert lost.version == 2
    assert "is at version 2" in lost.message
    assert registry.get("banner") == won
    assert len(registry.audit("banner", 0, 10)) == 2


def test_two_that_fit_alone_do_not_start_together(registry: Registry) -> None:
    registry.put("ann", Bulk({"layers": {"home": {"unit": "user", "salt": "home_1"}}}), 0)
    for key in ("one", "two"):
        registry.create("ann", key, _in_layer(key))
    results = _both(
        lambda: registry.start("ann", "one", 1), lambda: registry.start("bob", "two", 1)
    )
    (refused,) = [result for result in results if isinstance(result, InvalidArgument)]
    assert "given away to 120%" in refused.message
    assert refused.violations[0].field.endswith(".layer.ranges")
    assert len(registry.find([State.RUNNING], "", 10)) == 1


def test_several_replicas_may_start_at_once(database: Database) -> None:
    stores = [SqlStore(open_engine(database.url)) for _ in range(2)]
    assert _both(stores[0].migrate, stores[1].migrate) == [None, None]
    for store in stores:
        found = store.snapshot()
        assert found is not None
        assert found.version == 0
        store.close()


def test_tables_of_a_later_version_are_left_alone(database: Database, store: SqlStore) -> None:
    engine = open_engine(database.url)
    with transaction(engine, writes=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(Unavailable, match="not known here"):
        store.migrate()


@pytest.mark.parametrize("statement", ["UPDATE audit SET caller = 'eve'", "DELETE FROM audit"])
def test_the_database_itself_keeps_the_audit_trail(
    database: Database, registry: Registry, statement: str
) -> None:
    registry.create("ann", "banner", _json("banner"))
    engine = open_engine(database.url)
    with pytest.raises(Unavailable) as refused, transaction(engine, writes=True) as connection:
        connection.execute(text(statement))
    engine.dispose()
    assert "append-only" in str(refused.value.__cause__)
    assert [n.entry.caller for n in registry.audit("", 0, 10)] == ["ann"]


def test_reports(registry: Registry) -> None:
    with pytest.raises(NotFound) as unknown:
        registry.report("banner", 0)
    assert unknown.value.reason == "UNKNOWN_EXPERIMENT"
    registry.create("ann", "banner", _json("banner"))
    rule = {"experiment": {"key": "price", **json.loads(_json("price"))}}
    registry.put("ann", Bulk({"flags": {"prices": {"rules": [_running(rule)]}}}), None)
    for key, revision in (("banner", 1), ("price", 0)):
        assert registry.reports(key) == []
        with pytest.raises(NotFound, match="no report yet: nothing was analysed") as none:
            registry.report(key, 0)
        assert none.value.reason == "NO_REPORT"
        first = registry.put_report("job", key, '{"day": -1}', "<p>x</p>")
        assert registry.put_report("job", key, '{"day": -1}', "<p>x</p>") == first
        assert (first.revision, first.caller) == (revision, "job")
    for day in range(KEPT_REPORTS):
        latest = registry.put_report("job", "banner", json.dumps({"day": day}), "")
    assert registry.report("banner", 0) == (latest, json.dumps({"day": KEPT_REPORTS - 1}), "")
    kept = registry.reports("banner")
    assert (len(kept), kept[0]) == (KEPT_REPORTS, latest)
    assert json.loads(registry.report("banner", kept[-1].number).json) == {"day": 0}
    with pytest.raises(NotFound, match="the last 20 are kept"):
        registry.report("banner", 1)
    with pytest.raises(NotFound):
        registry.put_report("job", "nothing", "{}", "")
    with pytest.raises(InvalidArgument, match="must be a JSON object"):
        registry.put_report("job", "banner", "[]", "")


def _running(rule: dict[str, Any]) -> dict[str, Any]:
    rule["experiment"] |= {"running": True, "revision": 1}
    return rule


def test_a_file_is_brought_in_whole_or_not_at_all(registry: Registry, store: SqlStore) -> None:
    file: dict[str, Any] = {
        "layers": {"home": {"unit": "user", "salt": "home_1"}},
        "holdout": {"salt": "holdout_1", "share": 0.1},
        "saved_groups": {"staff": ["u1"]},
        "flags": {"banner": {"default": 1}},
        "experiments": {
            "one": json.loads(_in_layer("one")) | {"running": True, "revision": 7},
            "two": json.loads(_json("two")) | {"running": True, "killed": True, "revision": 1},
            "three": json.loads(_json("three")),
        },
    }
    changed = registry.put("ann", Bulk(file), 0)
    assert (changed.registry_version, len(changed.changed)) == (1, 7)
    states = {r.item.key: (r.state, r.item.revision) for r in registry.find(tuple(State), "", 9)}
    assert states == {
        "one": (State.RUNNING, 7),
        "three": (State.DRAFT, 1),
        "two": (State.PAUSED, 1),
    }
    for seen in (None, 1, 0):
        assert registry.put("bob", Bulk(file), seen) == (1, [], []), "once more is no change"
    version, everything = registry.part(None, 1 << 20)
    assert everything.next_after is None
    assert registry.put("bob", Bulk(everything.data), version) == (1, [], [])
    with pytest.raises(VersionConflict, match="the registry is at version 1"):
        registry.put("bob", Bulk({"killed": True}), 0)
    wrong = {"flags": {"banner": {"default": 2}}, "layers": {"home": {"unit": "user", "salt": "x"}}}
    with pytest.raises(InvalidArgument, match=r"layers\.home\.salt"):
        registry.put("bob", Bulk(wrong), 1)
    running = {"experiments": {"three": file["experiments"]["three"] | {"running": True}}}
    with pytest.raises(FailedPrecondition, match="the experiment is draft"):
        registry.put("bob", Bulk(running), 1)
    with pytest.raises(InvalidArgument, match="there is no layer 'home'"):
        registry.put("bob", Bulk({}, [("layer", "home")]), 1)
    with pytest.raises(InvalidArgument, match="'experiment' is not one of"):
        registry.put("bob", Bulk({}, [("experiment", "one")]), 1)
    wider = {"salt": "holdout_1", "share": 0.2}
    gone = registry.put("bob", Bulk({"flags": {"banner": {"default": 2}}, "holdout": wider}), 1)
    assert [key for key, _ in gone.changed] == ["flag", "common"]
    gone = registry.put("bob", Bulk({}, [("flag", "banner"), ("flag", "nothing")]), 2)
    assert gone.removed == [("flag", "banner")]
    assert registry.switch("ann", True) == registry.switch("ann", True) == 4
    assert [n.entry.remark for n in registry.audit("", 0, 1)] == ["all experiments off"]
    found = store.snapshot()
    assert found is not None
    definitions = read_in_force(found.records.values()).definitions
    assert definitions.common.killed
    assert definitions.common.holdout == Holdout("holdout_1", 0.2)
    assert not definitions.flags


WRONG: list[tuple[dict[str, object], str, str]] = [
    ({"variants": {"a": {"weight": 0.4}}}, ".variants", "the weights sum to 0.4"),
    ({"ranges": [[0, 0.6], [0.5, 1]]}, ".ranges", "overlap from 0.5 to 0.6"),
    ({"prerequisites": [{"id": "new"}]}, "", "needs itself: new needs new"),
    ({"condition": {"age": {"$nix": 1}}}, ".condition.age.$nix", ""),
    ({"layer": {"name": "away", "ranges": [[0, 1]]}}, ".layer.name", "there is no layer"),
    ({"condition": {"a": "\ud800"}}, "", "half of a surrogate pair"),
    ({"salt": "early_1"}, ".salt", "is also that of early"),
    ({"analysis": {"primary": "nothing"}}, ".analysis.primary", "'nothing' is not one of"),
]
MOVES: list[tuple[dict[str, object], str]] = [
    ({"salt": "other"}, "salt"),
    ({"unit": "device"}, "unit"),
    ({"hash": "fnv2"}, "hash"),
    ({"namespace": ["n", 0, 1]}, "namespace"),
    ({"analysis": {"primary": "conversion"}}, "analysis"),
    ({"variants": {"a": {"weight": 0.6}, "b": {"weight": 0.4}}}, "variants"),
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_wrong_definitions_are_refused_with_their_field(store: SqlStore) -> None:
    domain = load_domain(Path("config/live_courses.yaml"))
    registry = Registry(store, partial(errors_within, domain=domain), _Clock())
    registry.create("ann", "early", _json("early"))
    for fields, field, why in WRONG:
        with pytest.raises(InvalidArgument) as refused:
            registry.create("ann", "new", _json("new", **fields))
        found = {violation.field: violation.description for violation in refused.value.violations}
        assert why in found[f"experiments.new{field}"]
    with pytest.raises(InvalidArgument, match=r"definition_json: has .* bytes, at most 524288"):
        registry.create("ann", "new", _json("new", description="x" * (600 << 10)))
    assert [r.item.key for r in registry.find(tuple(State), "", 9)] == ["early"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_would_move_units_of_a_running_experiment_is_refused(registry: Registry) -> None:
    registry.create("ann", "banner", _json("banner"))
    registry.start("ann", "banner", 1)
    registry.pause("ann", "banner", 2)
    for fields, field in MOVES:
        with pytest.raises(InvalidArgument) as refused:
            registry.update("ann", "banner", 3, _json("banner", **fields))
        assert f"experiments.banner.{field}" in [v.field for v in refused.value.violations]
    assert registry.get("banner").version == 3


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_holdout_keeps_its_units_while_an_experiment_runs(registry: Registry) -> None:
    registry.put("ann", Bulk({"holdout": {"salt": "holdout_1", "share": 0.1}}), None)
    registry.create("ann", "banner", _json("banner"))
    registry.start("ann", "banner", 1)
    changes: list[tuple[object, str]] = [
        ({"salt": "holdout_2", "share": 0.1}, "holdout.salt"),
        ({"salt": "holdout_1", "share": 0.05}, "holdout.share"),
        (None, "holdout"),
    ]
    for holdout, field in changes:
        with pytest.raises(InvalidArgument) as refused:
            registry.put("ann", Bulk({"holdout": holdout}), None)
        assert [v.field for v in refused.value.violations] == [field]
    # Rolled out, one arm is everybody's: those who leave the holdout move out of no other.
    registry.conclude("ann", "banner", 2, "b", roll_out=True)
    registry.put("ann", Bulk({"holdout": None}), None)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_salt_of_an_archived_experiment_is_not_used_again(registry: Registry) -> None:
    for key in ("ran", "never"):
        registry.create("ann", key, _json(key))
    registry.start("ann", "ran", 1)
    registry.conclude("ann", "ran", 2, "", roll_out=False)
    registry.archive("ann", "ran", 3)
    registry.archive("ann", "never", 1)
    again = _json("new", salt="ran_1")
    with pytest.raises(InvalidArgument, match=r"experiments\.new\.salt: was that of ran: units"):
        registry.create("ann", "new", again)
    with pytest.raises(InvalidArgument, match=r"experiments\.new\.salt: was that of ran: units"):
        registry.put("ann", Bulk({"experiments": {"new": json.loads(again)}}), None)
    registry.create("ann", "new", _json("new", salt="never_1"))
    with pytest.raises(InvalidArgument, match=r"experiments\.new\.salt: was that of ran: units"):
        registry.update("ann", "new", 1, again)
    # Imported experiments have whatever salts they come with.
    registry.create("ann", "imported", _json("imported", salt="ran_1", hash="fnv2"))


def test_the_database_gone_and_back(database: Database, registry: Registry) -> None:
    registry.create("ann", "banner", _json("banner"))
    database.take_away()
    with pytest.raises(Unavailable) as gone:
        registry.start("ann", "banner", 1)
    assert (gone.value.reason, gone.value.retry_after_ms) == ("REGISTRY_UNAVAILABLE", 1_000)
    database.bring_back()
    assert registry.start("ann", "banner", 1).version == 2


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "mysql://localhost/x"])
def test_a_wrong_address_names_the_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="PODIUM_EXPERIMENT_DATABASE_URL"):
        open_engine(url)
