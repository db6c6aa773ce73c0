"""Filters by the request and the user: boundaries, missing values, and an oracle item by item."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View, ViewColumn
from services.ranker.filters.asking import Asking
from services.ranker.filters.by_request import Age, Language, Prerequisites, PriceCap, Region
from services.ranker.filters.rules import Filter, HeardWithin, LiveOrStarting, Seen
from services.ranker.types import Circumstances
from tests.unit.services.ranker.fakes import rows_of

Row = Mapping[str, Any]
NOW_MS = 10_000
ITEMS = View(
    "item",
    "item",
    (
        ViewColumn("rate", "float32", 0.0),
        ViewColumn("live", "int64", 0),
        ViewColumn("starts", "int64", 0),
        ViewColumn("heard_at", "int64", 0),
        ViewColumn("least", "int64", 0),
        ViewColumn("price", "int64", 0),
        ViewColumn("spoken", "string", ""),
        ViewColumn("sells", "string", ""),
        ViewColumn("subtitles", "list", ()),
        ViewColumn("regions", "list", ()),
        ViewColumn("needs", "list", ()),
    ),
)
USERS = View(
    "user",
    "user",
    (
        ViewColumn("limit", "float32", 0.0),
        ViewColumn("years", "int64", 0),
        ViewColumn("tongue", "string", ""),
        ViewColumn("speaks", "list", ()),
        ViewColumn("done", "list", ()),
        ViewColumn("shown", "list", ()),
    ),
)
NOBODY: Row = {}


def table_of(rows: Mapping[str, Row]) -> EntityTable:
    return EntityTable.empty("item", ITEMS).changed([rows_of(ITEMS, rows)], (), 1)


def asking(user: Row, circumstances: Circumstances) -> Asking:
    """The second of two users asks."""
    return Asking(NOW_MS, circumstances, rows_of(USERS, {"other": {}, "ann": user}), 1)


def kept(
    rule: Filter, rows: Mapping[str, Row], user: Row = NOBODY, **circumstances: Any
) -> set[str]:
    table = table_of(rows)
    slots = np.arange(len(table))[::-1]
    mask = rule.bind(table).keep(slots, asking(user, Circumstances(**circumstances)))
    assert mask.dtype == np.bool_
    return {table.ids[slot] for slot in slots[mask]}


# --- live or starting ---------------------------------------------------------------------------


def test_rooms_are_live_or_start_within_the_time() -> None:
    rows = {
        "live": {"live": 1, "starts": NOW_MS - 5},
        "live_forever": {"live": 1},
        "over": {"live": 0, "starts": NOW_MS - 1},
        "now": {"live": 0, "starts": NOW_MS},
        "soon": {"starts": NOW_MS + 100},
        "later": {"live": 0, "starts": NOW_MS + 101},
        "unknown": {},
    }
    rule = LiveOrStarting("live", "starts", 100)
    assert kept(rule, rows) == {"live", "live_forever", "now", "soon"}
    assert kept(LiveOrStarting("gone", "starts", 100), rows) == {"now", "soon"}
    assert kept(LiveOrStarting("live", "gone", 100), rows) == {"live", "live_forever"}


def test_a_live_room_must_be_heard_one_that_is_to_start_need_not() -> None:
    rows = {
        "heard": {"live": 1, "least": 1},
        "silent": {"live": 1, "least": 0},
        "never_heard": {"live": 1},
        "soon": {"live": 0, "starts": NOW_MS + 1},
        "heard_before": {"live": 0, "least": 1},
    }
    assert kept(LiveOrStarting("live", "starts", 100, "least"), rows) == {"heard", "soon"}
    assert kept(LiveOrStarting("live", "starts", 100, "gone"), rows) == {"soon"}


def test_a_room_was_heard_within_the_time_whatever_the_feature_service_said_last() -> None:
    rows = {
        "now": {"heard_at": NOW_MS},
        "just": {"heard_at": NOW_MS - 100},
        "silent": {"heard_at": NOW_MS - 101},
        "clock_ahead": {"heard_at": NOW_MS + 1},
        "never": {"heard_at": 2**63 - 1},
        "unknown": {},
    }
    assert kept(HeardWithin("heard_at", 100), rows) == set(rows) - {"silent"}
    assert kept(HeardWithin("gone", 100), rows) == set(rows)


# --- language -----------------------------------------------------------------------------------

SPOKEN = {"us": {"spoken": "en-US"}, "gb": {"spoken": "EN"}, "de": {"spoken": "de"}, "none": {}}


@pytest.mark.parametrize(
    ("locale", "user", "expected"),
    [
        ("en-AU", NOBODY, {"us", "gb", "none"}),
        ("de_CH", NOBODY, {"de", "none"}),
        ("fr", NOBODY, {"none"}),
        ("fr", {"speaks": ["de-AT", ""]}, {"de", "none"}),
        ("", {"speaks": ["de", "en"]}, {"us", "gb", "de", "none"}),
        ("", NOBODY, {"us", "gb", "de", "none"}),
    ],
)
def test_a_language_is_that_of_the_locale_or_one_of_the_users(
    locale: str, user: Row, expected: set[str]
) -> None:
    assert kept(Language("spoken", "speaks", True), SPOKEN, user, locale=locale) == expected
    strict = Language("spoken", "speaks", False)
    without = set() if locale or user else {"none"}
    assert kept(strict, SPOKEN, user, locale=locale) == (expected - {"none"}) | without


def test_a_user_may_have_one_language_and_an_item_several() -> None:
    rows = {"both": {"subtitles": ["de-DE", "en", "de"]}, "fr": {"subtitles": ["fr"]}, "none": {}}
    user = {"tongue": "de"}
    assert kept(Language("subtitles", "tongue", True), rows, user) == {"both", "none"}
    assert kept(Language("subtitles", None, True), rows, user) == set(rows)
    assert kept(Language("gone", "tongue", True), rows, user) == set(rows)
    assert kept(Language("gone", "tongue", False), rows, user) == set()


# --- region -------------------------------------------------------------------------------------

LIMITED = {
    "eu": {"regions": ["DE", "FR"]},
    "us": {"regions": ["US"]},
    "free": {},
    "empty": {"regions": []},
}


@pytest.mark.parametrize(
    ("region", "missing", "expected"),
    [
        ("FR", True, {"eu", "free", "empty"}),
        ("FR", False, {"eu"}),
        ("JP", True, {"free", "empty"}),
        # Who says no region may see only what is not limited to any.
        ("", True, {"free", "empty"}),
        ("", False, set()),
    ],
)
def test_an_item_is_shown_in_its_regions(region: str, missing: bool, expected: set[str]) -> None:
    assert kept(Region("regions", missing), LIMITED, region=region) == expected


def test_a_region_may_be_a_single_one_or_not_known_to_the_bundle() -> None:
    rows = {"a": {"sells": "US"}, "b": {"sells": "DE"}, "c": {}}
    assert kept(Region("sells", True), rows, region="DE") == {"b", "c"}
    assert kept(Region("gone", True), rows, region="DE") == {"a", "b", "c"}
    assert kept(Region("gone", False), rows, region="DE") == set()


# --- age ----------------------------------------------------------------------------------------

AGED = {"adult": {"least": 18}, "teen": {"least": 13}, "zero": {"least": 0}, "none": {}}


@pytest.mark.parametrize(
    ("attributes", "user", "expected"),
    [
        ({"age": 18}, NOBODY, {"adult", "teen", "zero", "none"}),
        ({"age": 17.9}, NOBODY, {"teen", "zero", "none"}),
        ({"age": 12}, {"years": 40}, {"zero", "none"}),
        ({}, {"years": 13}, {"teen", "zero", "none"}),
        ({"age": "18"}, {"years": 13}, {"teen", "zero", "none"}),
        # Of nobody's age anything is known: no age-limited item.
        ({}, NOBODY, {"zero", "none"}),
        ({"age": True}, NOBODY, {"zero", "none"}),
        ({"age": -1}, NOBODY, {"zero", "none"}),
    ],
)
def test_an_age_lets_in_and_a_missing_one_lets_nobody_in(
    attributes: dict[str, object], user: Row, expected: set[str]
) -> None:
    assert kept(Age("least", "age", "years"), AGED, user, attributes=attributes) == expected


def test_an_age_that_is_not_a_number_is_not_known() -> None:
    assert kept(Age("least", None, "limit"), AGED, {"limit": math.nan}) == {"zero", "none"}


# --- price --------------------------------------------------------------------------------------

PRICED = {"cheap": {"price": 5}, "dear": {"price": 50}, "free": {"price": 0}, "unknown": {}}


@pytest.mark.parametrize(
    ("most", "attributes", "user", "expected"),
    [
        (50, {}, NOBODY, {"cheap", "dear", "free", "unknown"}),
        (49, {}, NOBODY, {"cheap", "free", "unknown"}),
        (50, {"cap": 5}, NOBODY, {"cheap", "free", "unknown"}),
        (50, {"cap": 500}, {"limit": 4.5}, {"free", "unknown"}),
        (None, {"cap": 0}, NOBODY, {"free", "unknown"}),
        (None, {"cap": "5"}, NOBODY, {"cheap", "dear", "free", "unknown"}),
        (5, {}, {"limit": math.nan}, {"cheap", "free", "unknown"}),
        (None, {}, NOBODY, {"cheap", "dear", "free", "unknown"}),
    ],
)
def test_a_price_is_held_to_the_least_cap(
    most: int | None, attributes: dict[str, object], user: Row, expected: set[str]
) -> None:
    rule = PriceCap("price", most, "cap", "limit", True)
    assert kept(rule, PRICED, user, attributes=attributes) == expected
    capped = most is not None or expected != set(PRICED)
    strict = PriceCap("price", most, "cap", "limit", False)
    strictly = expected - {"unknown"} if capped else expected
    assert kept(strict, PRICED, user, attributes=attributes) == strictly


def test_a_price_of_float_meets_its_cap() -> None:
    rule = PriceCap("rate", None, "cap", None, True)
    assert kept(rule, {"a": {"rate": 0.1}}, attributes={"cap": 0.1}) == {"a"}
    assert kept(PriceCap("gone", 5, None, None, True), {"a": {}}) == {"a"}
    assert kept(PriceCap("gone", 5, None, None, False), {"a": {}}) == set()


# --- lists of the user --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (["c1", "c2", "c9"], {"both", "one", "twice", "none", "empty"}),
        (["c1", "c1"], {"one", "twice", "none", "empty"}),
        (["c2"], {"none", "empty"}),
        ([], {"none", "empty"}),
    ],
)
def test_every_prerequisite_must_be_met(done: list[str], expected: set[str]) -> None:
    rows = {
        "both": {"needs": ["c1", "c2"]},
        "one": {"needs": ["c1"]},
        "twice": {"needs": ["c1", "c1"]},
        "unknown": {"needs": ["c7"]},
        "none": {},
        "empty": {"needs": []},
    }
    assert kept(Prerequisites("needs", "done"), rows, {"done": done}) == expected
    assert kept(Prerequisites("gone", "done"), rows, {"done": done}) == set(rows)


def test_an_item_is_seen_when_it_was_shown_often_enough() -> None:
    rows: dict[str, Row] = {"a": {"sells": "c1"}, "b": {"sells": "c2"}, "c": {}}
    user = {"shown": ["a", "b", "a", "gone"]}
    assert kept(Seen("shown"), rows, user) == {"c"}
    assert kept(Seen("shown", times=2), rows, user) == {"b", "c"}
    assert kept(Seen("shown", times=3), rows, user) == {"a", "b", "c"}
    assert kept(Seen("shown", "sells", 2), rows, {"shown": ["c2", "c2", "c1"]}) == {"a", "c"}
    assert kept(Seen("shown"), rows) == {"a", "b", "c"}


# --- all of them against an oracle --------------------------------------------------------------

LANGUAGES = st.sampled_from(["", "en", "en-GB", "de"])
CODES = st.sampled_from(["A", "B", "C"])
ITEM_ROWS = st.fixed_dictionaries(
    {},
    optional={
        "least": st.integers(0, 3),
        "price": st.integers(0, 3),
        "spoken": LANGUAGES,
        "regions": st.lists(CODES, max_size=2),
        "needs": st.lists(CODES, max_size=3),
        "live": st.integers(0, 1),
        "starts": st.integers(NOW_MS - 2, NOW_MS + 4),
    },
)
USER_ROWS = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.sampled_from([0.5, 1.0, 2.0]),
        "years": st.integers(0, 3),
        "speaks": st.lists(LANGUAGES, max_size=2),
        "done": st.lists(CODES, max_size=3),
        "shown": st.lists(st.sampled_from(["i0", "i1"]), max_size=4),
    },
)
CIRCUMSTANCES = st.builds(
    Circumstances,
    locale=LANGUAGES,
    region=st.sampled_from(["", "A", "B"]),
    attributes=st.fixed_dictionaries(
        {}, optional={"age": st.integers(0, 3), "cap": st.integers(0, 3)}
    ),
)
RULES = st.one_of(
    st.just(LiveOrStarting("live", "starts", 2)),
    st.builds(Language, st.just("spoken"), st.sampled_from([None, "speaks"]), st.booleans()),
    st.builds(Region, st.just("regions"), st.booleans()),
    st.builds(Age, st.just("least"), st.just("age"), st.just("years")),
    st.builds(
        PriceCap,
        st.just("price"),
        st.none() | st.integers(0, 3),
        st.just("cap"),
        st.just("limit"),
        st.booleans(),
    ),
    st.just(Prerequisites("needs", "done")),
    st.builds(Seen, st.just("shown"), st.just("id"), st.integers(1, 3)),
)


def oracle(rule: object, id_: str, row: Row, user: Row, said: Circumstances) -> bool:
    """Whether one item is kept, by the words of the documentation."""
    match rule:
        case LiveOrStarting():
            starts = row.get("starts")
            return row.get("live") == 1 or (starts is not None and 0 <= starts - NOW_MS <= 2)
        case Language():
            tags = [said.locale, *(user.get("speaks", []) if rule.feature else [])]
            wanted = {tag[:2] for tag in tags if tag}
            spoken = row.get("spoken", "")
            return not wanted or (spoken[:2] in wanted if spoken else rule.keep_missing)
        case Region():
            regions = row.get("regions", [])
            return said.region in regions if regions else rule.keep_missing
        case Age():
            age = said.attributes.get("age", user.get("years"))
            least = row.get("least", 0)
            return bool(least == 0 or (age is not None and age >= least))
        case PriceCap():
            found = [rule.most, said.attributes.get("cap"), user.get("limit")]
            caps = [cap for cap in found if cap is not None]
            if not caps:
                return True
            return all(row["price"] <= cap for cap in caps) if "price" in row else rule.keep_missing
        case Prerequisites():
            return set(row.get("needs", [])) <= set(user.get("done", []))
        case Seen():
            return bool(user.get("shown", []).count(id_) < rule.times)
    raise AssertionError(rule)


@settings(max_examples=200, deadline=None)
@given(
    rule=RULES,
    items=st.lists(ITEM_ROWS, min_size=1, max_size=5),
    user=USER_ROWS,
    said=CIRCUMSTANCES,
)
def test_every_filter_keeps_what_its_words_say(
    rule: Filter, items: list[Row], user: Row, said: Circumstances
) -> None:
    rows = {f"i{n}": row for n, row in enumerate(items)}
    table = table_of(rows)
    mask = rule.bind(table).keep(np.arange(len(rows)), asking(user, said))
    assert mask.tolist() == [oracle(rule, id_, row, user, said) for id_, row in rows.items()]


def test_what_a_table_learns_later_does_not_disturb_a_bound_filter() -> None:
    before = table_of({"a": {"spoken": "en", "regions": ["DE"], "needs": ["c1"]}})
    rules = (
        Language("spoken", None, False),
        Region("regions", False),
        Prerequisites("needs", "done"),
    )
    bound = [rule.bind(before) for rule in rules]
    news = {"b": {"spoken": "en-GB", "regions": ["DE", "FR"], "needs": ["c1", "c2"]}}
    after = before.changed([rows_of(ITEMS, news)], (), 2)
    asked = asking({"done": ["c1", "c2"]}, Circumstances(locale="en", region="DE"))
    for rule, old in zip(rules, bound, strict=True):
        assert old.keep(np.array([0]), asked).tolist() == [True]
        assert rule.bind(after).keep(np.array([0, 1]), asked).tolist() == [True, True]
