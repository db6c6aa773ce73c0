"""Cross features as serving and as training compute them, against dictionaries."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.training.crosses import CrossRows, HistorySides, read_crosses
from services.common.affinities import Affinities
from services.common.crosses import AffinityCross, Cross, ListedCross, RatioCross
from services.ranker.feature_rows import FeatureRows, empty_rows
from services.ranker.plan import SurfaceSpec
from services.ranker.scoring.crosses import cross_features
from services.ranker.sources.personal import Personal
from services.ranker.state import prepare
from services.ranker.users import UserInputs
from tests.unit.services.ranker.fakes import FakeModel, spec_of, tables_of

SURFACE = SurfaceSpec("plain", "item", 3, 10, (Personal("personal", 10),), (), {}, None, {})
LIMIT = 4
CROSSES: dict[str, Cross] = {
    "visits": ListedCross(kind="listed", ids="hosts", values="visits", item="host"),
    "ago": ListedCross(kind="listed", ids="hosts", values="ago", item="host", missing=99.0),
    "latest": ListedCross(kind="listed", ids="hosts", item="host", first=1),
    "times": ListedCross(kind="listed", ids="met", item="category"),
    "price": RatioCross(kind="ratio", user="spend", item="score"),
}
HOSTS, CATEGORIES = ("h0", "h1", "h2"), ("k0", "k1")
user = st.fixed_dictionaries(
    {
        "hosts": st.lists(st.sampled_from([*HOSTS, "elsewhere"]), unique=True, max_size=LIMIT),
        "met": st.lists(st.sampled_from(["k0", "k1", "k2"]), max_size=6),
        "numbers": st.lists(st.integers(1, 50), min_size=2 * LIMIT, max_size=2 * LIMIT),
        "spend": st.sampled_from([0.0, 2.0, 40.0]),
    }
)
item = st.fixed_dictionaries(
    {"score": st.sampled_from([-1.0, 0.0, 5.0, 20.0])},
    optional={"host": st.sampled_from(HOSTS), "category": st.sampled_from(CATEGORIES)},
)


@settings(max_examples=40, deadline=None)
@given(st.lists(user, min_size=1, max_size=3), st.lists(item, min_size=1, max_size=5))
def test_serving_and_training_compute_the_same(
    users: list[dict[str, Any]], items: list[dict[str, Any]]
) -> None:
    wanted = np.array([[expected(u, i) for i in items] for u in users], np.float32)
    served = np.stack([of_serving(users, row, items) for row in range(len(users))])
    np.testing.assert_allclose(served, wanted, rtol=1e-6)
    # An example for every pair, and every user with the items of others.
    pairs = [(u, i) for u in users for i in items]
    rows = read_crosses(CROSSES, examples(pairs))
    every = np.arange(len(pairs))
    np.testing.assert_allclose(
        rows.columns(every, every, every), wanted.reshape(-1, len(CROSSES)), rtol=1e-6
    )
    first = np.arange(len(users)) * len(items)
    owner, column = np.divmod(every, len(items))
    crossed = rows.columns(first, owner, column)
    np.testing.assert_allclose(crossed, wanted.reshape(-1, len(CROSSES)), rtol=1e-6)


def test_of_a_row_without_columns_nothing_is_known() -> None:
    rows = empty_rows(["u"])
    found = of_rows(rows, np.zeros((1, 1), np.float32), 0, [{"host": "h0", "score": 5.0}])
    assert found.tolist() == [[0.0, 99.0, 0.0, 0.0, 0.0]]


def test_no_example_has_crosses_of_its_own() -> None:
    rows = read_crosses(CROSSES, examples([]))
    none = np.zeros(0, np.int64)
    assert rows.columns(none, none, none).shape == (0, len(CROSSES))
    assert CrossRows(()).columns(none, none, none).shape == (0, 0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=3))
def test_serving_and_training_know_the_same_affinities(histories: list[list[int]]) -> None:
    # Vocabulary rows of the fake model: 0 is unknown, items are named from 1 on.
    random = np.random.default_rng(0)
    table = Affinities(random.integers(0, 5, (5, 3)), random.normal(size=(5, 3)))
    crosses: dict[str, Cross] = {"history": AffinityCross(kind="affinity", decay=0.7)}
    model, met = FakeModel(), np.array(histories)
    ids = [f"i{at}" for at in range(4)]
    spec = replace(spec_of(model, SURFACE), crosses=crosses, affinities=table)
    state = prepare(model, spec, tables_of({id_: {} for id_ in ids}), None, exact_rows=10, now_ms=0)
    [plan] = state.plans.values()
    features, repaired = np.zeros((len(met), 0), np.float32), np.zeros(len(met), np.bool_)
    inputs = UserInputs(met, np.ones_like(met), features, repaired)
    slots = np.arange(len(ids))
    served = [
        cross_features(spec, plan, slots, empty_rows([""] * len(met)), inputs, row)
        for row in range(len(met))
    ]
    codes = model.lookup("item", ids)
    rows = read_crosses(crosses, pa.table({}), histories=HistorySides(met, codes, table))
    users = np.arange(len(met))
    owner, item = np.repeat(users, len(ids)), np.tile(slots, len(met))
    np.testing.assert_array_equal(np.vstack(served), rows.columns(users, owner, item))


def expected(user: dict[str, Any], item: dict[str, Any]) -> list[float]:
    host, category = item.get("host", ""), item.get("category", "")
    visits = dict(zip(user["hosts"], user["numbers"][:LIMIT], strict=False))
    ago = dict(zip(user["hosts"], user["numbers"][LIMIT:], strict=False))
    price = 0.0
    if user["spend"] > 0 and item["score"] > 0:
        price = math.log(item["score"] / user["spend"])
    return [
        visits.get(host, 0.0),
        ago.get(host, 99.0),
        float(user["hosts"][:1] == [host]),
        float(user["met"].count(category)),
        price,
    ]


def of_serving(users: list[dict[str, Any]], row: int, items: list[dict[str, Any]]) -> np.ndarray:
    lists = [entries for user in users for entries in (user["hosts"], user["met"])]
    rows = FeatureRows(
        ids=[f"u{at}" for at in range(len(users))],
        float_names=("spend",),
        floats=np.array([[user["spend"]] for user in users], np.float32),
        int_names=(),
        ints=np.zeros((len(users), 0), np.int64),
        string_names=(),
        strings=(),
        list_names=("hosts", "met"),
        list_offsets=np.cumsum([0, *map(len, lists)]).astype(np.int32),
        list_values=[entry for entries in lists for entry in entries],
        statuses=np.zeros(0, np.uint8),
        vector_names=("visits", "ago"),
        vector_dims=(LIMIT, LIMIT),
        vectors=np.array([user["numbers"] for user in users], np.float32),
    )
    return of_rows(rows, rows.floats, row, items)


def of_rows(
    rows: FeatureRows, features: np.ndarray, row: int, items: list[dict[str, Any]]
) -> np.ndarray:
    model = FakeModel()
    spec = replace(spec_of(model, SURFACE), crosses=CROSSES)
    tables = tables_of({f"i{at}": item for at, item in enumerate(items)})
    state = prepare(model, spec, tables, None, exact_rows=10, now_ms=0)
    [plan] = state.plans.values()
    nothing = np.zeros((len(rows.ids), 3), np.int64)
    inputs = UserInputs(nothing, nothing, features, np.zeros(len(rows.ids), np.bool_))
    return cross_features(spec, plan, np.arange(len(items)), rows, inputs, row)


def examples(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> pa.Table:
    def vector(start: int) -> pa.Array:
        numbers = [user["numbers"][start : start + LIMIT] for user, _ in pairs]
        return pa.array(numbers, pa.list_(pa.float32()))

    texts = pa.list_(pa.string())
    return pa.table(
        {
            "u.spend": pa.array([user["spend"] for user, _ in pairs], pa.float32()),
            "i.score": pa.array([item["score"] for _, item in pairs], pa.float32()),
            "l.hosts": pa.array([user["hosts"] for user, _ in pairs], texts),
            "l.met": pa.array([user["met"] for user, _ in pairs], texts),
            "v.visits": vector(0),
            "v.ago": vector(LIMIT),
            "k.host": pa.array([item.get("host", "") for _, item in pairs], pa.string()),
            "k.category": pa.array([item.get("category", "") for _, item in pairs], pa.string()),
        }
    )
