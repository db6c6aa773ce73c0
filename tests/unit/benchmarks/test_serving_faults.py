"""What ``benchmarks.liveness`` and ``benchmarks.overload`` make of what they saw."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from benchmarks.liveness import Change, Shown, Slates, summarise
from benchmarks.load import Outcome
from benchmarks.overload import summarise as summarise_overload

READER = ("courses", "reader_0")


def _changes(*kinds: str) -> list[Change]:
    return [Change(kind, "c", READER, 100, 10.0, 13.0) for kind in kinds]


def _slates(*shown: tuple[float, dict[str, int]]) -> Slates:
    return Slates({READER: deque(Shown(asked_s, prices) for asked_s, prices in shown)})


def test_an_item_is_gone_with_the_first_slate_after_the_last_that_has_it() -> None:
    slates = _slates(
        (9.9, {"c": 100}),
        (10.1, {"c": 100}),
        (10.2, {"d": 100}),
        (10.3, {"c": 100}),
        (10.4, {"d": 100}),
        (13.1, {"c": 100}),
    )
    report = summarise(_changes("withdrawn"), slates)
    assert report["by_kind"]["withdrawn"]["max_ms"] == pytest.approx(400)
    assert (report["changes"], report["never"], report["slates_a_change"]) == (1, 0, 4)


def test_a_price_is_new_though_the_item_stays() -> None:
    slates = _slates((10.1, {"c": 100}), (10.2, {"c": 200}), (10.3, {"d": 1}))
    report = summarise(_changes("price"), slates)
    assert report["by_kind"]["price"]["p99_ms"] == pytest.approx(200)


def test_a_change_that_no_slate_shows_is_counted_apart() -> None:
    slates = _slates((10.1, {"c": 200}), (10.2, {"c": 200}))
    report = summarise(_changes("blocked", "price"), slates)
    assert report["never"] == 1
    assert list(report["by_kind"]) == ["price"]


def test_goodput_is_of_answers_in_time_and_shares_are_of_calls_let_in() -> None:
    over = Outcome(
        2.0,
        [10.0] * 150,
        Counter({"RESOURCE_EXHAUSTED": 400, "DEADLINE_EXCEEDED": 50, "UNAVAILABLE": 1}),
    )
    report = summarise_overload(Outcome(1.0, [5.0] * 100), over, Outcome(1.0, [5.0] * 50))
    assert report["goodput_per_s"] == 75
    assert report["goodput_share"] == 0.75
    assert (report["refused"], report["late"], report["kept_share"]) == (400, 50, 0.75)
    assert report["other_errors"] == {"UNAVAILABLE": 1}
    assert report["after_errors"] == {}
