"""Windows, views and their hashes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain import Domain, load_domain
from services.feature.definitions import (
    HOPS_MS,
    compile_aggregates,
    compile_views,
    declared_value,
    window_start_ms,
)
from tests.support.feature_oracle import window_start
from tests.support.feature_streams import domain_with
from tests.support.feature_worlds import world_with

CONFIG = Path(__file__).parents[4] / "config"
CLICKS = {"kind": "count", "entities": ["course"], "events": ["click"], "window": "1h"}


@given(st.integers(0, 4_000_000_000_000), st.integers(60, 90_000_000))
def test_window_starts_where_the_formula_says(t_ms: int, seconds: int) -> None:
    start_ms = window_start_ms(t_ms, seconds * 1_000)

    assert start_ms == window_start(t_ms, f"{seconds}s")
    assert t_ms - seconds * 1_000 * 13 / 12 <= start_ms <= t_ms - seconds * 1_000


def test_each_hop_divides_the_next() -> None:
    assert all(longer % shorter == 0 for shorter, longer in pairwise(HOPS_MS))


def test_hourly_window_hops_by_five_minutes() -> None:
    hour, minute = 3_600_000, 60_000
    assert window_start_ms(10 * hour, hour) == 9 * hour
    assert window_start_ms(10 * hour + 5 * minute - 1, hour) == 9 * hour
    assert window_start_ms(10 * hour + 5 * minute, hour) == 9 * hour + 5 * minute


@pytest.mark.parametrize("name", ["live_courses.yaml", "mooccubex.yaml"])
def test_views_have_every_feature_in_declared_order(name: str) -> None:
    domain = load_domain(CONFIG / name)

    for entity, view in compile_views(domain).items():
        declared = [n for n, f in domain.features.items() if entity in f.entities]
        assert [feature.name for feature in view.features] == declared
        assert view.name == f"{domain.name}.{entity}"


def course_hash(domain: Domain) -> str:
    return compile_views(domain)["course"].hash


@pytest.mark.parametrize(
    "changed",
    [
        {"clicks": {**CLICKS, "window": "2h"}},
        {"clicks": {**CLICKS, "events": ["watch"]}},
        {"visits": CLICKS},
        {"clicks": CLICKS, "more": CLICKS},
    ],
)
def test_a_view_hash_changes_with_its_features(changed: dict[str, object]) -> None:
    assert course_hash(domain_with(changed)) != course_hash(domain_with({"clicks": CLICKS}))


@pytest.mark.parametrize(
    "same",
    [
        {"clicks": {**CLICKS, "description": "Clicks in the last hour."}},
        {"clicks": {**CLICKS, "entities": ["course", "room"]}},
        {"clicks": CLICKS, "other": {**CLICKS, "entities": ["room"]}},
    ],
)
def test_a_view_hash_ignores_what_does_not_change_its_values(same: dict[str, object]) -> None:
    assert course_hash(domain_with(same)) == course_hash(domain_with({"clicks": CLICKS}))


LISTED = {
    "visits": {"kind": "count", "entities": ["user_course"], "events": ["click"], "window": "1h"},
    "buys": {"kind": "count", "entities": ["user_course"], "events": ["purchase"], "window": "1h"},
    "share": {"kind": "expression", "entities": ["user_course"], "formula": "buys / visits"},
    "listed": {
        "kind": "pairs",
        "entities": ["user"],
        "events": ["click"],
        "of": "user_course",
        "limit": 3,
        "emit": "share",
    },
    "topics": {
        "kind": "distinct",
        "entities": ["user", "category"],
        "events": ["click"],
        "of": "category",
        "window": "1h",
    },
}


@pytest.mark.parametrize("name", ["visits", "buys"])
def test_a_view_hash_changes_with_what_a_listed_expression_reads(name: str) -> None:
    changed = {**LISTED, name: {**LISTED[name], "window": "2h"}}

    before, after = compile_views(world_with(LISTED)), compile_views(world_with(changed))
    assert before["user"].hash != after["user"].hash
    assert before["category"].hash == after["category"].hash


def test_a_view_hash_changes_with_what_its_keys_are_derived_from() -> None:
    domain = world_with(LISTED)
    category = domain.entities["category"]
    turned = category.model_copy(
        update={"derived_from": dict(reversed(category.derived_from.items()))}
    )
    changed = domain.model_copy(update={"entities": {**domain.entities, "category": turned}})

    before, after = compile_views(domain), compile_views(changed)
    # A category's own rows, and how many different ones a user saw.
    assert {entity for entity in before if before[entity].hash != after[entity].hash} == {
        "category",
        "user",
    }


def test_defaults_and_dtypes_follow_the_kind() -> None:
    views = compile_views(load_domain(CONFIG / "live_courses.yaml"))
    columns = {c.name: c for view in views.values() for c in view.features}

    found = {
        name: (columns[name].dtype, columns[name].default)
        for name in (
            "recent_courses",
            "user_spend_30d",
            "user_purchase_recency",
            "click_rate_7d",
            "title",
            "live",
        )
    }
    assert found == {
        "recent_courses": ("list", ()),
        "user_spend_30d": ("int64", 0),
        "user_purchase_recency": ("float32", 31_536_000.0),
        "click_rate_7d": ("float32", 0.1),
        "title": ("string", ""),
        "live": ("int64", 0),
    }


def test_state_is_shared_where_definitions_agree() -> None:
    domain = load_domain(CONFIG / "live_courses.yaml")

    views = compile_views(domain)
    course = compile_aggregates(domain, views["course"].features)
    user = compile_aggregates(domain, views["user"].features)

    # Clicks of 1 h, 1 d, 7 d and 30 d, purchases of 7 d and 30 d, impressions of 7 d.
    shared = {(a.events, tuple(level.longest_ms for level in a.levels)) for a in course.tiles}
    hour, day = 3_600_000, 86_400_000
    assert shared == {
        (("click", "room_enter"), (hour, day, 7 * day, 30 * day)),
        (("purchase",), (7 * day, 30 * day)),
        (("impression",), (7 * day,)),
    }
    # recent_courses and recent_actions read one list.
    assert [entries.limit for entries in user.last_entries] == [50, 200, 100, 100]


@pytest.mark.parametrize(
    ("dtype", "said", "kept"),
    [
        ("string", "x", "x"),
        ("string", 1, None),
        ("int", 3, 3),
        ("int", True, None),
        ("int", 3.0, None),
        ("int", "3", None),
        ("float", 3, 3.0),
        ("float", 0.5, 0.5),
        ("float", True, None),
        ("bool", False, 0),
        ("bool", 2, 1),
        ("bool", 1.0, None),
    ],
)
def test_a_value_is_kept_as_its_declared_kind_or_not_at_all(
    dtype: str, said: str | float | bool, kept: str | float | None
) -> None:
    found = declared_value(said, dtype)
    assert found == kept
    assert type(found) is type(kept)
