"""What items carry of others, kept up to date, against dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.catalogue.carried import CarriedTables, Carry
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View, ViewColumn
from tests.unit.services.ranker.fakes import rows_of

COURSES = View(
    "test.course",
    "hash-course",
    (
        ViewColumn("rate", "float32", 0.1),
        ViewColumn("price", "int64", 0),
        ViewColumn("language", "string", ""),
        ViewColumn("tags", "list", ()),
        ViewColumn("title", "string", ""),
    ),
)
ROOMS = View(
    "test.room",
    "hash-room",
    (
        ViewColumn("viewers", "int64", 0),
        ViewColumn("sells", "string", ""),
        ViewColumn("title", "string", ""),
        ViewColumn("tags_of_room", "list", ()),
    ),
)
CARRY = Carry("sells", "course", ("rate", "price", "language", "tags", "gone"))
CARRIED = {"rate": 0.1, "price": 0, "language": "", "tags": ()}

course = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.sampled_from([0.25, 0.5]),
        "price": st.integers(0, 9),
        "language": st.sampled_from(["en", "zh"]),
        "tags": st.sampled_from([("a",), ("a", "b")]),
        "title": st.just("course"),
    },
)
room = st.fixed_dictionaries(
    {"viewers": st.integers(0, 5)},
    optional={"sells": st.sampled_from(["c0", "c1", "c2"]), "title": st.just("room")},
)
change = st.tuples(
    st.dictionaries(st.sampled_from(["c0", "c1", "c2"]), course, max_size=2),
    st.lists(st.sampled_from(["c0", "c1"]), max_size=1),
    st.dictionaries(st.sampled_from(["r0", "r1", "r2"]), room, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(change, min_size=1, max_size=6))
def test_rooms_have_what_their_course_has_now(changes: list[Any]) -> None:
    tables = {
        "room": EntityTable.empty("room", ROOMS),
        "course": EntityTable.empty("course", COURSES),
    }
    courses: dict[str, Any] = {}
    rooms: dict[str, Any] = {}
    carried = CarriedTables({"room": CARRY}, tables)
    before = dict[str, Any]()
    for number, (upserts, gone, shown) in enumerate(changes, start=1):
        told = [rows_of(COURSES, upserts)] if upserts else []
        if told or gone:
            tables["course"] = tables["course"].changed(told, gone, number)
        if shown:
            tables["room"] = tables["room"].changed([rows_of(ROOMS, shown)], (), number)
        courses |= upserts
        rooms |= shown
        for id_ in gone:
            courses.pop(id_, None)
        carried = CarriedTables({"room": CARRY}, tables, carried)
        found = readable(carried.by_entity["room"])
        assert found == {id_: expected(row, courses) for id_, row in rooms.items()}
        moved = {id_ for id_ in found if found[id_] != before.get(id_)}
        table = carried.by_entity["room"]
        assert moved <= {table.ids[slot] for slot in np.flatnonzero(table.changed_at == number)}
        before = found
        again = CarriedTables({"room": CARRY}, tables).by_entity["room"]
        assert readable(again) == found
        assert carried.by_entity["course"] is tables["course"]
    unchanged = CarriedTables({"room": CARRY}, tables, carried)
    assert unchanged.by_entity["room"] is carried.by_entity["room"]


def test_a_room_s_own_columns_stay_what_they_are() -> None:
    rooms = EntityTable.empty("room", ROOMS)
    row = {"viewers": 3, "sells": "c1", "title": "mine", "tags_of_room": ("x",)}
    rooms = rooms.changed([rows_of(ROOMS, {"r": row})], (), 1)
    courses = EntityTable.empty("course", COURSES)
    courses = courses.changed([rows_of(COURSES, {"c1": {"title": "theirs", "price": 7}})], (), 1)
    carry = Carry("sells", "course", ("title", "price"))
    table = CarriedTables({"room": carry}, {"room": rooms, "course": courses}).by_entity["room"]
    assert text(table, "title", 0) == "mine"
    assert text(table, "sells", 0) == "c1"
    price, lists = table.numeric("price"), table.lists("tags_of_room")
    assert price is not None
    assert price.tolist() == [7]
    assert lists is not None
    assert lists[1].values[lists[0][0]] == ("x",)


def expected(row: dict[str, Any], courses: dict[str, Any]) -> dict[str, Any]:
    theirs = courses.get(row.get("sells", ""))
    values = CARRIED | {n: v for n, v in (theirs or {}).items() if n in CARRIED}
    present = {name: theirs is not None and name in theirs for name in CARRIED}
    return {"viewers": row["viewers"], "values": values, "present": present}


def readable(table: EntityTable) -> dict[str, Any]:
    found = {}
    for slot, id_ in enumerate(table.ids[: len(table)]):
        rate, price = table.numeric("rate"), table.numeric("price")
        viewers, lists = table.numeric("viewers"), table.lists("tags")
        assert rate is not None
        assert price is not None
        assert viewers is not None
        assert lists is not None
        values = {
            "rate": round(float(rate[slot]), 6),
            "price": int(price[slot]),
            "language": text(table, "language", slot),
            "tags": lists[1].values[lists[0][slot]],
        }
        present = {name: bool(table.present_of(name)[slot]) for name in CARRIED}
        found[id_] = {"viewers": int(viewers[slot]), "values": values, "present": present}
    return found


def text(table: EntityTable, name: str, slot: int) -> str:
    column = table.strings(name)
    assert column is not None
    codes, pool = column
    return pool.values[codes[slot]]
