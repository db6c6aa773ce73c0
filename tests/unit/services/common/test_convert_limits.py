"""The limits of the contracts: what is allowed passes, one more is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.common.v1.common_pb2 import (
    Actor,
    Assignment,
    AttributeValue,
    EntityRef,
    Money,
    RequestContext,
    StringList,
    TrafficClass,
)
from podium.ranker.v1.ranker_pb2 import RankRequest
from services.common import convert_limits as limits
from services.common.errors import InvalidArgument


def _refused(check: Callable[[], object], field: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check()
    (violation,) = refused.value.violations
    assert violation.field == field
    assert text in violation.description


@given(st.text(max_size=200))
def test_ids_are_measured_in_bytes(text: str) -> None:
    size = len(text.encode())
    if 1 <= size <= 128:
        assert limits.require_id("id", text) == text
    elif not text:
        _refused(lambda: limits.require_id("id", text), "id", "1 to 128 bytes")
        assert limits.optional_id("id", text) == ""
    else:
        _refused(lambda: limits.require_id("id", text), "id", f"{size} bytes, at most 128")
        _refused(lambda: limits.optional_id("id", text), "id", f"{size} bytes, at most 128")


def test_counts_and_ranges() -> None:
    limits.require_count("events", 1, 1, 1_000)
    limits.require_count("events", 1_000, 1, 1_000)
    _refused(lambda: limits.require_count("events", 0, 1, 1_000), "events", "1 to 1000")
    _refused(lambda: limits.require_count("events", 1_001, 1, 1_000), "events", "1001 elements")
    assert limits.require_range("k", 200, 1, limits.MAX_K) == 200
    _refused(lambda: limits.require_range("k", 0, 1, limits.MAX_K), "k", "is 0, must be 1 to 200")
    _refused(lambda: limits.require_range("k", 10_000, 1, limits.MAX_K), "k", "10000")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value: float) -> None:
    _refused(lambda: limits.require_finite("x", value), "x", "must be finite")
    message = AttributeValue(double_value=value)
    _refused(lambda: limits.require_attribute("a", message), "a", "must be finite")


def test_actors() -> None:
    assert limits.require_actor("actor", Actor(user_id="u")) == ("u", "")
    assert limits.require_actor("actor", Actor(device_id="d")) == ("", "d")
    _refused(lambda: limits.require_actor("actor", Actor()), "actor", "is required")
    long = Actor(user_id="u", device_id="d" * 129)
    _refused(lambda: limits.require_actor("actor", long), "actor.device_id", "129 bytes")
    device = Actor(user_id="device:1", device_id="d")
    _refused(lambda: limits.require_actor("actor", device), "actor.user_id", "'device:'")
    assert limits.require_actor("actor", Actor(device_id="device:1")) == ("", "device:1")


@given(st.integers(-(2**31), 2**31 - 1) | st.sampled_from(TrafficClass.values()))
def test_traffic_classes(number: int) -> None:
    # On the wire a class is any 32-bit integer.
    sent = RankRequest(traffic_class=number).traffic_class  # type: ignore[arg-type]
    if number in TrafficClass.values():
        assert limits.require_traffic_class("t", sent) == number
    else:
        _refused(
            lambda: limits.require_traffic_class("t", sent),
            "t",
            f"is {number}, must be one of 0 (TRAFFIC_CLASS_UNSPECIFIED), 1 (TRAFFIC_CLASS_LIVE)",
        )


def test_entities() -> None:
    assert limits.require_entity("e", EntityRef(type="course", id="c1")) == ("course", "c1")
    _refused(lambda: limits.require_entity("e", EntityRef(id="c1")), "e.type", "1 to 64")
    _refused(lambda: limits.require_entity("e", EntityRef(type="course")), "e.id", "1 to 128")


@pytest.mark.parametrize(
    ("assignment", "field", "text"),
    [
        (Assignment(), "experiment_key", "1 to 128 bytes"),
        (Assignment(experiment_key="k" * 129), "experiment_key", "129 bytes"),
        (Assignment(experiment_key="k", variant_key="v" * 129), "variant_key", "129 bytes"),
        (Assignment(experiment_key="k", bucket=math.nan), "bucket", "is nan, must be in [0, 1)"),
        (Assignment(experiment_key="k", bucket=1), "bucket", "must be in [0, 1)"),
        (Assignment(experiment_key="k", bucket=-0.1), "bucket", "must be in [0, 1)"),
        (Assignment(experiment_key="k", unit_type="u" * 65), "unit_type", "65 bytes"),
        (Assignment(experiment_key="k", revision=-1), "revision", "0 or more"),
    ],
)
def test_assignments_over_the_limit(assignment: Assignment, field: str, text: str) -> None:
    _refused(lambda: limits.require_assignment("a", assignment), f"a.{field}", text)


def test_assignments() -> None:
    limits.require_assignment("a", Assignment(experiment_key="k"))
    largest = Assignment(experiment_key="k" * 128, variant_key="v" * 128, bucket=0, revision=1)
    limits.require_assignment("a", largest)


@pytest.mark.parametrize("code", ["", "US", "usd", "US1", "USDT", "ÀÀÀ"])
def test_currencies(code: str) -> None:
    money = Money(amount_minor=1, currency_code=code)
    _refused(lambda: limits.require_money("m", money), "m.currency_code", "upper-case")


def test_amounts() -> None:
    assert limits.require_money("m", Money(amount_minor=0, currency_code="USD")) == (0, "USD")
    debt = Money(amount_minor=-1, currency_code="USD")
    _refused(lambda: limits.require_money("m", debt), "m.amount_minor", "is -1, must be 0 to")


def test_amounts_leave_room_for_their_sums() -> None:
    # A million of the largest add up to less than 64 bits hold.
    assert limits.MAX_AMOUNT_MINOR * 1_000_000 < 2**63
    most = Money(amount_minor=limits.MAX_AMOUNT_MINOR, currency_code="USD")
    assert limits.require_money("m", most) == (10**12, "USD")
    more = Money(amount_minor=limits.MAX_AMOUNT_MINOR + 1, currency_code="USD")
    _refused(lambda: limits.require_money("m", more), "m.amount_minor", "0 to 1000000000000")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("amount_minor", 0, 10**12),
        ("duration_ms", 0, 253_402_300_799_999),
        ("seats_left", 0, 2**31 - 1),
        ("viewers", 0, 2**31 - 1),
        ("level", -(10**15), 10**15),
    ],
)
def test_measures_have_the_range_of_their_unit(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert limits.require_measure("a", name, value) == value
    for value in (low - 1, high + 1, float(low) - 1, -(2**63), 2**63 - 1):
        _refused(
            lambda sent=value: limits.require_measure("a", name, sent),  # type: ignore[misc]
            "a",
            f"must be {low} to {high}",
        )


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (AttributeValue(string_value="x" * 1_024), "x" * 1_024),
        (AttributeValue(string_value=""), ""),
        (AttributeValue(int_value=-(2**63)), -(2**63)),
        (AttributeValue(double_value=0.5), 0.5),
        (AttributeValue(bool_value=False), False),
        (AttributeValue(string_list_value=StringList(values=["a", "b"])), ["a", "b"]),
    ],
)
def test_attribute_values(message: AttributeValue, value: object) -> None:
    found = limits.require_attribute("a", message)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("message", "field", "text"),
    [
        (AttributeValue(), "a", "no value"),
        (AttributeValue(string_value="x" * 1_025), "a", "1025 bytes"),
        (AttributeValue(string_list_value=StringList(values=["x"] * 65)), "a", "65 elements"),
        (AttributeValue(string_list_value=StringList(values=["", "y" * 257])), "a[1]", "257"),
    ],
)
def test_attribute_values_over_the_limit(message: AttributeValue, field: str, text: str) -> None:
    _refused(lambda: limits.require_attribute("a", message), field, text)


def test_attributes_are_counted() -> None:
    one = AttributeValue(int_value=1)
    full = {f"k{number}": one for number in range(32)}
    assert limits.require_attributes("a", full) == dict.fromkeys(full, 1)
    _refused(lambda: limits.require_attributes("a", full | {"more": one}), "a", "0 to 32")
    _refused(lambda: limits.require_attributes("a", {"k" * 65: one}), "a key", "65 bytes")
    _refused(lambda: limits.require_attributes("a", {"": one}), "a key", "required")


@pytest.mark.parametrize(
    ("field", "max_bytes"),
    [
        ("locale", 35),
        ("region", 16),
        ("time_zone", 64),
        ("device_type", 32),
        ("app_version", 32),
        ("session_id", 128),
    ],
)
def test_contexts(field: str, max_bytes: int) -> None:
    fits = RequestContext(**{field: "x" * max_bytes})
    assert limits.require_context("context", fits) is fits
    over = RequestContext(**{field: "x" * (max_bytes + 1)})
    _refused(lambda: limits.require_context("context", over), f"context.{field}", str(max_bytes))


def test_forced_variants() -> None:
    full = {f"e{number}": "v" for number in range(16)}
    assert limits.forced_variants("f", full) == full
    _refused(lambda: limits.forced_variants("f", full | {"e": "v"}), "f", "0 to 16")
    _refused(lambda: limits.forced_variants("f", {"e": ""}), "f.e", "required")
