"""Numbers in words, and intervals on a line."""

from __future__ import annotations

import pytest

from offline.analysis import wording
from offline.analysis.model import Interval
from offline.analysis.report.scale import scale


@pytest.mark.parametrize(
    ("number", "unit", "signed", "text"),
    [
        (1_230.0, "CNY minor units", False, "12.30 CNY"),
        (-4.0, "USD minor units", True, "−0.04 USD"),
        (1_230.0, "JPY minor units", False, "1,230 JPY"),
        (1_230.0, "KWD minor units", False, "1.230 KWD"),
        (0.031, "share of units", False, "3.1%"),
        (0.0012, "share of units", True, "+0.12 percentage points"),
        (1_420_000.0, "ms", False, "23.7 min"),
        (800.0, "ms", False, "800.0 ms"),
        (3.2, "events", False, "3.20 events"),
        (250.0, "USD minor units by events", False, "2.50 USD per event"),
        (None, "ms", False, "–"),
    ],
)
def test_figures_are_told_in_the_unit_that_people_use(
    number: float | None, unit: str, signed: bool, text: str
) -> None:
    assert wording.of_unit(number, unit, signed=signed) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.042, "+4.2%"),
        (-0.01, "−1.0%"),
        (0.004, "+0.4%"),
        (0.99996, "+100.0%"),
        (0.0099999, "+1.0%"),
        (0.0, "+0.0%"),
        (0.00002, "+0.002%"),
        (2.5, "+250.0%"),
    ],
)
def test_changes_have_as_many_digits_as_they_need(number: float, text: str) -> None:
    assert wording.share(number, signed=True) == text


def test_an_interval_without_an_end_says_so() -> None:
    both = Interval(1.0, None, 5.0, 0.1, None, None)
    assert wording.interval(both, "events") == "up to +5.00 events"
    assert wording.interval(Interval(1.0, 0.5, None, 0.1, 0.05, None), "x") == "+5.0% or more"
    assert wording.interval(Interval(None, None, None, None, None, None), "x") == "–"


def test_chances_are_never_all_or_nothing() -> None:
    assert [wording.chance(number) for number in (1.0, 0.931, 0.0)] == [
        "over 99.9%",
        "93.1%",
        "under 0.1%",
    ]
    assert [wording.loss(number, 10.0) for number in (0.05, 1e-12)] == ["0.5%", "under 0.01%"]
    assert wording.loss(1.0, None) == "–"


def test_days_are_those_of_the_reports_zone() -> None:
    assert wording.day(1_772_323_200_000, "UTC") == "1 March 2026"
    assert wording.moment(1_772_323_200_000, "America/Los_Angeles") == (
        "28 February 2026, 16:00 (America/Los_Angeles)"
    )


def test_a_line_has_room_for_zero_and_cuts_what_is_far_wider() -> None:
    usual = [Interval(None, None, None, 0.05, 0.02 + shift, 0.08) for shift in (0.0, 0.01)]
    wide = Interval(None, None, None, 0.05, None, 3.0)
    line = scale([*usual, Interval(None, None, None, 0.05, -4.0, 3.0), wide])
    assert line.least < 0 < line.most < 0.1
    bar = line.bar(wide, margin=-0.001)
    assert bar is not None
    assert bar.cut_below
    assert bar.cut_above
    assert (bar.lower, bar.upper) == (0.0, 100.0)
    assert bar.margin is not None
    assert bar.margin < bar.zero < bar.estimate
    assert line.bar(Interval(1.0, 0.0, 2.0, None, None, None)) is None
    assert scale([]).least < 0 < scale([]).most
