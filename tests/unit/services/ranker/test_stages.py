"""Filters, sources, values and selection, each alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ranker.filters.apply import apply_filters
from services.ranker.filters.asking import Asking
from services.ranker.filters.rules import (
    Exclude,
    Filter,
    NotInList,
    OpenWindow,
    Positive,
    Require,
)
from services.ranker.scoring.value import SUNK, values_of, weights_of
from services.ranker.selection.top_k import order, top_k
from services.ranker.sources.merge import merge
from services.ranker.sources.shared import highest
from services.ranker.types import Circumstances
from tests.unit.services.ranker.fakes import USER_VIEW, rows_of, tables_of

NOTHING: dict[str, list[str]] = {}


def kept(rule: Filter, rows: dict[str, dict[str, object]], lists: dict[str, list[str]]) -> set[str]:
    """Ids that a filter keeps at 1,000 ms."""
    table = tables_of(rows).by_entity["item"]
    slots = np.arange(len(table))
    asking = Asking(1_000, Circumstances(), rows_of(USER_VIEW, {"ann": lists}), 0)
    mask = rule.bind(table).keep(slots, asking)
    return {table.ids[slot] for slot in slots[mask]}


@pytest.mark.parametrize(
    ("rule", "rows", "lists", "expected"),
    [
        (Require("live"), {"a": {"live": 1}, "b": {"live": 0}, "c": {}}, NOTHING, {"a"}),
        (Exclude("live"), {"a": {"live": 1}, "b": {"live": 0}, "c": {}}, NOTHING, {"b", "c"}),
        (Require("no_such"), {"a": {}}, NOTHING, set()),
        (
            Positive("seats"),
            {"a": {"seats": 2}, "b": {"seats": 0}, "c": {"seats": -1}, "d": {}},
            NOTHING,
            {"a", "d"},
        ),
        (Positive("no_such"), {"a": {}}, NOTHING, {"a"}),
        (
            OpenWindow("opens", "closes"),
            {
                "opens_now": {"opens": 1_000},
                "opens_later": {"opens": 1_001},
                "closes_now": {"closes": 1_000},
                "closes_later": {"closes": 1_001},
                "always": {},
            },
            NOTHING,
            {"opens_now", "closes_later", "always"},
        ),
        (OpenWindow("no_such", "neither"), {"a": {}}, NOTHING, {"a"}),
        (NotInList("bought"), {"a": {}, "b": {}}, {"bought": ["b", "unknown"]}, {"a"}),
        (NotInList("bought"), {"a": {}, "b": {}}, NOTHING, {"a", "b"}),
        (
            NotInList("blocked", "host"),
            {"a": {"host": "h1"}, "b": {"host": "h2"}, "c": {}},
            {"blocked": ["h2", "h9", ""]},
            {"a", "c"},
        ),
        (NotInList("blocked", "no_such"), {"a": {}}, {"blocked": ["a"]}, {"a"}),
    ],
)
def test_filters_and_what_they_do_with_missing_values(
    rule: Filter,
    rows: dict[str, dict[str, object]],
    lists: dict[str, list[str]],
    expected: set[str],
) -> None:
    assert kept(rule, rows, lists) == expected


def test_every_removed_item_has_the_first_reason_that_removed_it() -> None:
    rows = {"a": {"live": 1, "seats": 1}, "b": {"seats": 0}, "c": {"live": 1, "seats": 0}}
    table = tables_of(rows).by_entity["item"]
    rules = (Require("live"), Positive("seats"), Positive("seats"))
    slots = np.array([2, 1, 0])
    filtered = apply_filters(
        [(rule.reason, rule.bind(table)) for rule in rules], slots, Asking.nobody(0)
    )
    removed = {reason: [table.ids[s] for s in gone] for reason, gone in filtered.removed.items()}
    assert filtered.kept.tolist() == [False, False, True]
    assert removed == {"require:live": ["b"], "positive:seats": ["c"]}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 10),
)
def test_trending_is_the_sorted_head_of_what_may_be_shown(
    items: list[tuple[int, bool]], quota: int
) -> None:
    values = np.array([value for value, _ in items], np.int64)
    eligible = np.array([allowed for _, allowed in items])
    tie = np.array([hash((n, 7)) % 1_000 * 100 + n for n in range(len(items))], np.uint64)
    expected = sorted(np.flatnonzero(eligible).tolist(), key=lambda n: (-values[n], tie[n]))
    assert highest(values, tie, eligible, quota).tolist() == expected[:quota]


def test_trending_takes_a_value_that_is_not_finite_last() -> None:
    values = np.array([np.nan, 1.0, np.inf, 2.0, -np.inf], np.float32)
    found = highest(values, np.arange(5, dtype=np.uint64), np.ones(5, np.bool_), 5)
    assert found.tolist() == [3, 1, 0, 2, 4]


@given(
    st.lists(st.lists(st.integers(0, 9), unique=True), min_size=1, max_size=3), st.integers(1, 9)
)
def test_merging_keeps_each_slot_once_from_its_first_source(
    found: list[list[int]], limit: int
) -> None:
    expected: dict[int, int] = {}
    for source, slots in enumerate(found):
        for slot in slots:
            expected.setdefault(slot, source)
    scratch = np.full(10, 3, np.int32)
    quotas = [max(1, len(slots)) for slots in found]
    arrays = [np.array(s, np.int64) for s in found]
    slots, origin = merge(arrays, quotas, 10, limit, scratch)
    pairs = list(zip(slots.tolist(), origin.tolist(), strict=True))
    assert len(pairs) == min(limit, len(expected))
    assert pairs == [pair for pair in expected.items() if pair in pairs]
    left_out = expected.keys() - slots.tolist()
    if len(found) > 1 and left_out:
        # What several sources yield stays where it is within the share of one of them.
        shares = [max(1, limit * quota // sum(quotas)) for quota in quotas]
        shares[shares.index(max(shares))] -= max(0, sum(shares) - limit)
        kept = [own[: max(0, share)] for own, share in zip(found, shares, strict=True)]
        within = {slot for own in kept for slot in own}
        if len(within) <= limit:
            assert not left_out & within
            # All else follows in order.
            others = [slot for slot in expected if slot not in within]
            assert set(others[: limit - len(within)]) == set(slots.tolist()) - within


def test_what_a_small_source_yields_stays_though_a_large_one_yields_it_last() -> None:
    large, small = np.arange(20), np.array([19])
    slots, origin = merge([large, small], [20, 1], 20, 10)
    assert slots.tolist() == [*range(9), 19]
    assert not origin.any()
    assert merge([small, large], [1, 20], 20, 10)[0].tolist() == [19, *range(9)]


def test_weights_are_overridden_objective_by_objective() -> None:
    weights = weights_of(
        ["a", "b", "c"], {"b": 5.0, "unknown": 9.0}, {"c": 7.0, "b": 6.0}, default=[1, 2, 3]
    )
    assert weights.tolist() == [1.0, 6.0, 7.0]


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True, min_value=None, max_value=None)


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=8))
def test_only_finite_values_leave_scoring(predictions: list[tuple[float, float]]) -> None:
    array = np.array(predictions, np.float32)
    with np.errstate(all="ignore"):
        scored = values_of(array, np.array([0.5, -0.5], np.float32))
    assert np.isfinite(scored.values).all()
    for row, pair in enumerate(predictions):
        if not all(map(math.isfinite, pair)):
            assert scored.sunk[row]
            assert scored.values[row] == SUNK
            assert not scored.predictions[row].any()
            assert not scored.terms[row].any()


CODES = st.integers(0, 3)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, -2.0]), CODES, CODES), max_size=20),
    st.integers(1, 12),
    st.integers(1, 3),
    st.permutations(range(20)),
)
def test_selection_is_greedy_under_every_cap_and_ties_do_not_depend_on_order(
    items: list[tuple[float, int, int]], k: int, limit: int, ties: list[int]
) -> None:
    values = np.array([value for value, _, _ in items], np.float32)
    hosts = np.array([host for _, host, _ in items], np.int32)
    kinds = np.array([kind for _, _, kind in items], np.int32)
    tie = np.array(ties[: len(items)], np.uint64)
    taken: list[int] = []
    for n in sorted(range(len(items)), key=lambda n: (-values[n], tie[n])):
        same_host = sum(1 for m in taken if hosts[n] and hosts[m] == hosts[n])
        same_kind = sum(1 for m in taken if kinds[n] and kinds[m] == kinds[n])
        if same_host < limit and same_kind < 2 and len(taken) < k:
            taken.append(n)
    assert top_k(values, tie, k, [(hosts, limit), (kinds, 2)]).tolist() == taken
    # The same items in another order give the same slate.
    back = np.arange(len(items))[::-1]
    mirrored = top_k(values[back], tie[back], k, [(hosts[back], limit), (kinds[back], 2)])
    assert back[mirrored].tolist() == taken


def test_the_order_without_caps_is_the_same() -> None:
    values = np.array([1.0, 2.0, 2.0, 3.0], np.float32)
    tie = np.array([0, 9, 1, 0], np.uint64)
    assert order(values, tie).tolist() == [3, 2, 1, 0]
    assert top_k(values, tie, 3).tolist() == [3, 2, 1]
