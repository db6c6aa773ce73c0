"""Every source against what it is said to yield, computed over dictionaries, item by item."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View, ViewColumn
from services.ranker.filters.rules import Require
from services.ranker.plan import SurfaceSpec, TowerSpec
from services.ranker.sources.base import Asked, Neighbours, Source
from services.ranker.sources.caller import Caller
from services.ranker.sources.category import ReEngagement, SameCategory
from services.ranker.sources.neighbours import ItemKnn
from services.ranker.sources.personal import Personal
from services.ranker.sources.recent import FollowedHosts, Recent
from services.ranker.sources.shared import NewItems, Pinned, Trending
from services.ranker.sources.similar import SimilarToLast
from services.ranker.state import ServingState, Tables, prepare
from tests.unit.services.ranker.fakes import (
    ITEM_VIEW,
    FakeModel,
    rows_of,
    spec_of,
    vector_of,
)

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
User = Mapping[str, Any]


@dataclass(frozen=True)
class World:
    """Items, rooms that sell them, who asks, and which items are met together."""

    items: Rows
    rooms: Rows
    gone: Sequence[str]
    users: Sequence[User]
    met_together: Mapping[str, Mapping[str, float]]
    exact_rows: int


USER_VIEW = View(
    "sources.user",
    "hash",
    tuple(
        ViewColumn(name, "list", ()) for name in ("history", "bought", "follows", "follow_actions")
    ),
)
ITEMS = [f"i{n}" for n in range(10)]
ROOMS = [f"r{n}" for n in range(6)]
ITEM_IDS = st.sampled_from([*ITEMS, "unheard of"])
HOSTS = st.sampled_from(["h1", "h2", "h3", "nobody"])
ROW = st.fixed_dictionaries(
    {"live": st.sampled_from([1, 1, 1, 0]), "clicks": st.integers(0, 3)},
    optional={
        "host": HOSTS,
        "category": st.sampled_from(["k1", "k2"]),
        "level": st.integers(0, 2),
        "opens": st.integers(1, 4),
    },
)
ROOM = st.fixed_dictionaries(
    {"live": st.sampled_from([1, 1, 0]), "clicks": st.integers(0, 2)},
    optional={"host": HOSTS, "sells": ITEM_IDS},
)
FOLLOWS = st.lists(st.tuples(HOSTS, st.sampled_from(["follow", "unfollow"])), max_size=5)
USER = st.builds(
    lambda lists, follows: {
        **lists,
        "follows": [host for host, _ in follows],
        "follow_actions": [action for _, action in follows],
    },
    st.fixed_dictionaries(
        {
            "history": st.lists(ITEM_IDS, max_size=6),
            "bought": st.lists(ITEM_IDS, max_size=3),
            "named": st.lists(ITEM_IDS, max_size=4),
        }
    ),
    FOLLOWS,
)
WORLDS = st.builds(
    World,
    items=st.dictionaries(st.sampled_from(ITEMS), ROW, max_size=10),
    rooms=st.dictionaries(st.sampled_from(ROOMS), ROOM, max_size=6),
    gone=st.lists(st.sampled_from(ITEMS + ROOMS), max_size=2),
    users=st.lists(USER, min_size=1, max_size=3),
    met_together=st.dictionaries(
        st.sampled_from(ITEMS),
        # Sums of these are exact, whatever their order.
        st.dictionaries(st.sampled_from(ITEMS), st.sampled_from([0.25, 0.5, 1.0]), max_size=3),
    ),
    exact_rows=st.sampled_from([0, 100]),
)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- what each source is said to yield -----------------------------------------------------------


def tie(id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "little")


def shown(world: World, rows: Rows) -> list[str]:
    return [id_ for id_, row in rows.items() if row["live"] and id_ not in world.gone]


def latest(ids: Sequence[str], count: int = 99) -> list[str]:
    return list(dict.fromkeys(reversed(ids)))[:count]


def best_first(rows: Rows, ids: Sequence[str]) -> list[str]:
    return sorted(ids, key=lambda id_: (-rows[id_].get("clicks", 0), tie(id_)))


def vector(id_: str, row: Row) -> np.ndarray:
    own = vector_of(id_) + (vector_of(row["host"]) if "host" in row else 0)
    return own + np.float32(row.get("clicks", 0) * 0.01)


def in_turns(lists: Sequence[Sequence[str]]) -> list[str]:
    longest = max(map(len, lists), default=0)
    return [found[n] for n in range(longest) for found in lists if n < len(found)]


def said_recent(world: World, user: User, rows: Rows, subject: Callable[[str], str]) -> list[str]:
    wanted = [id_ for id_ in latest(user["history"]) if id_ not in user["bought"]]
    allowed = sorted(shown(world, rows), key=tie)
    return [id_ for item in wanted for id_ in allowed if subject(id_) == item]


def said_followed(world: World, user: User, rows: Rows) -> list[str]:
    last = dict(zip(user["follows"], user["follow_actions"], strict=True))
    hosts = [host for host in latest(user["follows"]) if last[host] == "follow"]
    allowed = best_first(rows, shown(world, rows))
    return in_turns([[i for i in allowed if rows[i].get("host") == host] for host in hosts])


def said_category(world: World, user: User, rows: Rows, subject: Callable[[str], str]) -> list[str]:
    last = [id_ for id_ in latest(user["history"]) if id_ in world.items][:1]
    shelves = [shelf(world, last[0], step) for step in (0, 1)] if last else []
    return _from_shelves(world, rows, subject, shelves, last)


def said_re_engagement(
    world: World, user: User, rows: Rows, subject: Callable[[str], str]
) -> list[str]:
    bought = [id_ for id_ in latest(user["bought"]) if id_ in world.items]
    shelves = list(dict.fromkeys(shelf(world, id_, 1) for id_ in bought[:2]))
    return _from_shelves(world, rows, subject, shelves, bought)


def _from_shelves(
    world: World,
    rows: Rows,
    subject: Callable[[str], str],
    shelves: Sequence[tuple[str, int]],
    without: Sequence[str],
) -> list[str]:
    allowed = best_first(rows, shown(world, rows))
    known = [id_ for id_ in allowed if subject(id_) in world.items]
    return in_turns(
        [
            [
                id_
                for id_ in known
                if shelf(world, subject(id_), 0) == wanted and subject(id_) not in without
            ]
            for wanted in shelves
            if wanted[0]
        ]
    )


def shelf(world: World, item: str, step: int) -> tuple[str, int]:
    row = world.items[item]
    return row.get("category", ""), row.get("level", 0) + step


def said_knn(world: World, user: User, rows: Rows, subject: Callable[[str], str]) -> list[str]:
    recent = latest(user["history"], 3)
    sums: dict[str, float] = {}
    for item in recent:
        for other, similar in world.met_together.get(item, {}).items():
            if other not in recent:
                sums[other] = sums.get(other, 0) + similar
    found = [id_ for id_ in shown(world, rows) if subject(id_) in sums]
    return sorted(found, key=lambda id_: (-sums[subject(id_)], tie(id_)))


def said_similar(world: World, user: User, rows: Rows) -> list[str]:
    last = [id_ for id_ in latest(user["history"], 2) if id_ in world.items]
    if not last:
        return []
    near = {
        id_: max(
            float(vector(other, world.items[other]) @ vector(id_, rows[id_])) for other in last
        )
        for id_ in shown(world, rows)
        if id_ not in last
    }
    return sorted(near, key=lambda id_: -near[id_])


def said_personal(world: World, user: User, rows: Rows) -> list[str]:
    own = user_vector(user)
    return sorted(shown(world, rows), key=lambda id_: -float(own @ vector(id_, rows[id_])))


def user_vector(user: User) -> np.ndarray:
    return sum((vector_of(id_) for id_ in user["history"]), vector_of("anybody"))


def itself(id_: str) -> str:
    return id_


def expected(name: str, world: World, user: User, surface: str) -> list[str]:
    rows = world.items if surface == "items" else world.rooms
    subject: Callable[[str], str] = (
        itself if surface == "items" else lambda id_: world.rooms[id_].get("sells", "")
    )
    allowed = shown(world, rows)
    match name:
        case "personal":
            return said_personal(world, user, rows)
        case "trending":
            return best_first(rows, allowed)
        case "recent":
            return said_recent(world, user, rows, subject)
        case "similar":
            return said_similar(world, user, rows)
        case "knn":
            return said_knn(world, user, rows, subject)
        case "followed":
            return said_followed(world, user, rows)
        case "category":
            return said_category(world, user, rows, subject)
        case "re_engagement":
            return said_re_engagement(world, user, rows, subject)
        case "newest":
            dated = [id_ for id_ in allowed if "opens" in rows[id_]]
            return sorted(dated, key=lambda id_: (-rows[id_]["opens"], tie(id_)))
        case "least_clicked":
            return sorted(allowed, key=lambda id_: (rows[id_]["clicks"], tie(id_)))
        case "pinned":
            return [id_ for id_ in ("r2", "i3", "unheard of", "i1") if id_ in allowed]
        case "caller":
            there = [id_ for id_ in rows if id_ not in world.gone]
            return [id_ for id_ in dict.fromkeys(user["named"]) if id_ in there]
        case _:
            raise ValueError(name)


# --- the sources themselves ----------------------------------------------------------------------


def sources(quota: int, attribute: str) -> tuple[Source, ...]:
    return (
        Personal("personal", quota),
        Trending("trending", quota, "clicks"),
        Recent("recent", quota, "history", attribute, "bought"),
        SimilarToLast("similar", quota, "history", 2),
        ItemKnn("knn", quota, "history", attribute, 3),
        FollowedHosts(
            "followed",
            quota,
            "follows",
            "host",
            "follow_actions",
            frozenset(["unfollow"]),
            "clicks",
        ),
        SameCategory("category", quota, "history", attribute, "category", "level", "clicks"),
        ReEngagement("re_engagement", quota, "bought", attribute, "category", "level", 2, "clicks"),
        NewItems("newest", quota, "opens", None),
        NewItems("least_clicked", quota, None, "clicks"),
        Pinned("pinned", quota, ("r2", "i3", "unheard of", "i1")),
        Caller("caller", quota),
    )


def state_of(world: World, quota: int, tables: Tables, before: ServingState | None) -> ServingState:
    """What is in force for a world; the bundle of ``before`` where there is one."""
    if before is not None:
        spec, model = before.spec, before.model
    else:
        model = FakeModel(ITEMS[:6])
        surfaces = [
            SurfaceSpec(
                name, entity, 5, 99, sources(quota, attribute), (Require("live"),), {}, None, {}
            )
            for name, entity, attribute in (("items", "item", "id"), ("rooms", "room", "sells"))
        ]
        spec = spec_of(model, *surfaces)
        spec = replace(
            spec,
            views=spec.views | {"room": ITEM_VIEW},
            towers=dict(spec.towers)
            | {"room": TowerSpec(2, (("item", "id"), ("host", "host")), ("clicks",))},
            neighbours=neighbours_of(world),
        )
    return prepare(model, spec, tables, before, exact_rows=world.exact_rows, now_ms=0)


def neighbours_of(world: World) -> Neighbours:
    row_of = {id_: row for row, id_ in enumerate(ITEMS)}
    rows = np.full((len(ITEMS), 3), -1, np.int64)
    similarities = np.zeros((len(ITEMS), 3), np.float32)
    for item, others in world.met_together.items():
        for place, (other, similar) in enumerate(others.items()):
            rows[row_of[item], place] = row_of[other]
            similarities[row_of[item], place] = similar
    return Neighbours(ITEMS, row_of, rows, similarities)


def tables_of(world: World) -> Tables:
    tables = {}
    for entity, rows in (("item", world.items), ("room", world.rooms)):
        table = EntityTable.empty(entity, ITEM_VIEW)
        if rows:
            table = table.changed([rows_of(ITEM_VIEW, rows)], (), 1)
        tables[entity] = table.changed([], list(world.gone), 2)
    return Tables(object(), 1, 2, tables, lambda: None, lambda: 0)


def ask(
    state: ServingState, surface: str, users: Sequence[User], unknown: list[int] | None = None
) -> dict[str, list[list[str]]]:
    """Ids that each source yields for each user."""
    plan = state.plans[surface]
    asked = Asked(
        model=state.model,
        vectors=np.array([user_vector(user) for user in users], np.float32),
        rows=rows_of(USER_VIEW, {f"u{n}": user for n, user in enumerate(users)}),
        places=range(len(users)),
        candidate_ids=[user["named"] for user in users],
        count_unknown=([] if unknown is None else unknown).append,
        items=len(plan.table),
        seeds=range(len(users)),
        now_ms=0,
    )
    return {
        name: [[plan.table.ids[slot] for slot in slots.tolist()] for slots in source.ask(asked)]
        for name, source in plan.sources
    }


@QUICK
@given(world=WORLDS, quota=st.integers(1, 12), surface=st.sampled_from(["items", "rooms"]))
def test_each_yields_what_it_is_said_to_in_a_batch_as_alone(
    world: World, quota: int, surface: str
) -> None:
    if not world.exact_rows:
        # An index is asked for a few times the quota; enough to find all that may be shown.
        quota = 12
    state = state_of(world, quota, tables_of(world), None)
    together = ask(state, surface, world.users)
    for number, user in enumerate(world.users):
        alone = ask(state_of(world, quota, tables_of(world), None), surface, [user])
        for name, answers in together.items():
            assert answers[number] == expected(name, world, user, surface)[:quota], name
            assert answers[number] == alone[name][0], name


@pytest.mark.parametrize("surface", ["items", "rooms"])
def test_what_is_left_out_takes_nobodys_place(surface: str) -> None:
    # What the user knows stands before all else, in most of the rooms, too.
    rows = {id_: {"live": 1, "clicks": 10 - n, "category": "k1"} for n, id_ in enumerate(ITEMS)}
    rooms = {id_: {"live": 1, "clicks": 9 - n, "sells": "i0"} for n, id_ in enumerate(ROOMS)}
    rooms[ROOMS[-1]]["sells"] = "i1"
    world = World(rows, rooms, (), (), {}, 100)
    users = [{"history": [id_], "bought": [], "named": []} for id_ in ITEMS]
    answers = ask(state_of(world, 1, tables_of(world), None), surface, users)
    for name in ("similar", "category"):
        for user, found in zip(users, answers[name], strict=True):
            assert found == expected(name, world, user, surface)[:1], name
    assert answers["category"][0] == ["i1" if surface == "items" else ROOMS[-1]]


@QUICK
@given(world=WORLDS, later=WORLDS, quota=st.integers(1, 12))
def test_what_is_used_again_of_the_version_before_changes_nothing(
    world: World, later: World, quota: int
) -> None:
    tables = tables_of(world)
    before = state_of(world, quota, tables, None)
    for surface in before.plans:
        ask(before, surface, world.users)
    changed = {
        entity: table.changed([rows_of(ITEM_VIEW, rows)], list(later.gone), 3) if rows else table
        for (entity, table), rows in zip(
            tables.by_entity.items(), (later.items, later.rooms), strict=True
        )
    }
    tables = replace(tables, by_entity=changed, number=3)
    grown = state_of(world, quota, tables, before)
    fresh = prepare(before.model, before.spec, tables, None, exact_rows=world.exact_rows, now_ms=0)
    for surface in grown.plans:
        assert ask(grown, surface, later.users) == ask(fresh, surface, later.users)


def test_what_did_not_change_is_not_made_again() -> None:
    rows = {id_: {"live": 1, "clicks": 1, "category": "k1"} for id_ in ITEMS}
    world = World(rows, {}, (), (), {}, 100)
    tables = tables_of(world)
    before = state_of(world, 5, tables, None)
    moved = tables.by_entity["item"].changed(
        [rows_of(ITEM_VIEW, {"i1": rows["i1"] | {"score": 0.9}})], (), 3
    )
    by_entity = {**tables.by_entity, "item": moved}
    after = state_of(world, 5, replace(tables, by_entity=by_entity, number=3), before)
    assert after.plans["items"].nearby is before.plans["items"].nearby
    withdrawn = moved.changed([], ["i1"], 4)
    tables = replace(tables, by_entity=by_entity | {"item": withdrawn}, number=4)
    ended = state_of(world, 5, tables, after)
    assert ended.plans["items"].nearby is not after.plans["items"].nearby
    assert len(ended.plans["items"].nearby.slots) == len(ITEMS) - 1


def test_candidates_that_no_item_answers_to_are_counted() -> None:
    world = World({"i1": {"live": 1}, "i2": {"live": 0}}, {}, ("i1",), (), {}, 100)
    state = state_of(world, 5, tables_of(world), None)
    unknown: list[int] = []
    user = {"history": [], "named": ["i2", "i1", "x", "x"]}
    # What is withdrawn is unknown; what a filter will remove is left to it, which says why.
    assert ask(state, "items", [user], unknown)["caller"] == [["i2"]]
    assert unknown == [2]


@pytest.mark.parametrize("lacking", ["neighbours", "histories"])
def test_a_source_whose_bundle_or_catalogue_lacks_what_it_needs_yields_nothing(
    lacking: str,
) -> None:
    rows = {id_: {"live": 1, "category": "k1", "level": 1} for id_ in ITEMS}
    world = World(rows, {}, (), (), {"i1": {"i2": 1.0}}, 100)
    state = state_of(world, 5, tables_of(world), None)
    change = {"neighbours": None} if lacking == "neighbours" else {"sequence_entity": "elsewhere"}
    spec = replace(state.spec, **change)
    poorer = prepare(state.model, spec, tables_of(world), None, exact_rows=100, now_ms=0)
    user = {"history": ["i1"], "bought": [], "named": []}
    full, poor = ask(state, "items", [user]), ask(poorer, "items", [user])
    silent = {"knn"} if lacking == "neighbours" else {"similar", "category", "re_engagement"}
    for name, answers in poor.items():
        assert answers == ([[]] if name in silent else full[name])
    assert full["knn"] == [["i2"]]
    assert full["similar"][0]
