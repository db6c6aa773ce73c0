"""Rows that stand in while the feature service does not answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.ranker.feature_rows import FeatureRows, View, ViewColumn, empty_rows
from services.ranker.last_known import LastKnownRows
from tests.unit.services.ranker.fakes import USER_VIEW, rows_of

USERS = [f"u{n}" for n in range(6)]
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "spend": st.floats(0, 9, width=32),
        "history": st.lists(st.sampled_from("abc"), max_size=3).map(tuple),
        "bought": st.lists(st.sampled_from("abc"), max_size=3).map(tuple),
    },
)


def described(rows: FeatureRows, row: int) -> tuple[object, ...]:
    lists = [tuple(rows.strings_of(row, name)) for name in USER_VIEW.of("list")]
    return (rows.floats[row].tolist(), lists, rows.statuses[row].tolist())


@given(
    batches=st.lists(st.dictionaries(st.sampled_from(USERS), ROWS, min_size=1, max_size=4)),
    asked=st.lists(st.sampled_from([*USERS, "nobody"]), min_size=1, max_size=5),
)
def test_what_is_recalled_is_what_came_last(
    batches: list[dict[str, dict[str, object]]], asked: list[str]
) -> None:
    kept = LastKnownRows(capacity=100, max_age_s=60, monotonic_s=lambda: 0.0)
    latest: dict[str, tuple[object, ...]] = {}
    for batch in batches:
        rows = rows_of(USER_VIEW, batch)
        kept.remember(USER_VIEW, rows)
        latest |= {identity: described(rows, row) for row, identity in enumerate(batch)}
    found, ages_ms = kept.recall(USER_VIEW, asked)
    default = ([1.5], [()] * 4, [3] * 5)
    assert ages_ms.tolist() == [0 if identity in latest else -1 for identity in asked]
    for row, identity in enumerate(asked):
        assert described(found, row) == latest.get(identity, default)
    assert found.evaluated_ms == found.log_position == 0


def test_rows_age_and_the_oldest_make_room() -> None:
    now_s = 0.0
    kept = LastKnownRows(capacity=2, max_age_s=10, monotonic_s=lambda: now_s)
    kept.remember(USER_VIEW, rows_of(USER_VIEW, {"a": {}}))
    now_s = 10.0
    assert kept.recall(USER_VIEW, ["a"])[1].tolist() == [10_000]
    now_s = 10.1
    assert kept.recall(USER_VIEW, ["a"])[1].tolist() == [-1]
    for name in ("b", "c", "d", "e"):
        kept.remember(USER_VIEW, rows_of(USER_VIEW, {name: {}}))
    assert kept.recall(USER_VIEW, ["b", "d", "e"])[1].tolist() == [-1, 0, 0]


def test_rows_without_the_columns_of_a_view_are_not_kept() -> None:
    columns = (ViewColumn("visits", "int64", 3), ViewColumn("plan", "string", "free"))
    view = View("user", "user", columns)
    kept = LastKnownRows(capacity=9, max_age_s=10, monotonic_s=lambda: 0.0)
    kept.remember(view, rows_of(view, {"a": {"visits": 7, "plan": "gold"}}))
    kept.remember(view, empty_rows(["a", "b"]))
    rows, ages_ms = kept.recall(view, ["a", "b"])
    assert ages_ms.tolist() == [0, -1]
    assert (rows.ints.tolist(), rows.strings) == ([[7], [3]], ["gold", "free"])
