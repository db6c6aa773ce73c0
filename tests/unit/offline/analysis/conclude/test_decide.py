"""Every branch of the decision, and the verdicts that it rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offline.analysis.conclude.decide import Standing, decide
from offline.analysis.conclude.verdicts import verdict_of_change, verdict_of_guardrail
from offline.analysis.model import (
    Decision,
    Effect,
    Finding,
    Interval,
    Metric,
    Period,
    Preference,
    Verdict,
)
from tests.unit.offline.analysis.report.reports import effect, metric

PERIOD = Period(1, 2, 10, as_of_ms=500, planned_end_ms=300, horizon_ms=400)
STANDING = Standing(True, "fixed", PERIOD, "control", exposed=100, excluded=0)
ALWAYS = replace(STANDING, looks="always_valid", period=replace(PERIOD, as_of_ms=350))


def _of(name: str, verdict: Verdict) -> Effect:
    size = -0.05 if verdict in {"worse", "broken"} else 0.05
    half = 0.08 if verdict in {"no_difference_shown", "not_shown_to_hold"} else 0.02
    return effect(name, size, half, verdict)


def _decided(
    standing: Standing, *arms: tuple[Verdict, Verdict], health: tuple[Finding, ...] = ()
) -> Decision:
    """What is decided of arms with these verdicts of the primary metric and the guardrail."""
    names = [f"arm_{place}" for place in range(len(arms))]
    primary = [_of(n, first) for n, (first, _) in zip(names, arms, strict=True)]
    guarded = [_of(n, second) for n, (_, second) in zip(names, arms, strict=True)]
    metrics = (
        metric("revenue", "primary", *primary),
        metric("watch_time", "guardrail", *guarded, margin=0.01),
    )
    return decide(standing, health, metrics, ())


@pytest.mark.parametrize(
    ("arms", "outcome", "codes"),
    [
        ((("better", "held"),), "ship", ["primary_better", "guardrails_held"]),
        ((("better", "no_harm_shown"),), "ship", ["primary_better", "no_harm_shown"]),
        ((("better", "broken"),), "do_not_ship", ["guardrail_broken"]),
        ((("better", "not_shown_to_hold"),), "do_not_ship", ["guardrail_not_shown"]),
        ((("better", "not_measured"),), "do_not_ship", ["guardrail_not_shown"]),
        ((("worse", "held"),), "do_not_ship", ["primary_worse"]),
        ((("no_difference_shown", "broken"),), "do_not_ship", ["guardrail_broken"]),
        ((("no_difference_shown", "held"),), "no_conclusion", ["no_difference_shown"]),
        ((("not_measured", "held"),), "no_conclusion", ["not_measured"]),
        (
            (("worse", "held"), ("no_difference_shown", "held")),
            "no_conclusion",
            ["no_difference_shown", "primary_worse"],
        ),
        (
            (("worse", "held"), ("better", "held")),
            "ship",
            ["primary_better", "guardrails_held"],
        ),
    ],
)
def test_a_plan_that_has_ended_is_decided(
    arms: tuple[tuple[Verdict, Verdict], ...], outcome: str, codes: list[str]
) -> None:
    decided = _decided(STANDING, *arms)
    assert decided.outcome == outcome
    assert [reason.code for reason in decided.reasons] == codes


def test_the_best_of_those_that_may_be_shipped_is() -> None:
    small, large = effect("small", 0.03, 0.01, "better"), effect("large", 0.06, 0.01, "better")
    revenue = metric("revenue", "primary", small, large)
    assert decide(STANDING, (), (revenue,), ()).variant == "large"
    # Where less is better, the lowest is best.
    falls = [replace(e, effect=_negative(e.effect)) for e in (small, large)]
    refunds = metric("refunds", "primary", *falls, direction="decrease")
    assert decide(STANDING, (), (refunds,), ()).variant == "large"


@pytest.mark.parametrize(
    ("arms", "outcome", "code"),
    [
        ((("better", "held"),), "ship", "primary_better"),
        ((("worse", "held"),), "do_not_ship", "primary_worse"),
        ((("no_difference_shown", "broken"),), "do_not_ship", "guardrail_broken"),
        ((("no_difference_shown", "held"),), "keep_running", "undecided"),
        ((("better", "not_shown_to_hold"),), "keep_running", "undecided"),
        ((("worse", "held"), ("no_difference_shown", "held")), "keep_running", "undecided"),
    ],
)
def test_an_always_valid_plan_is_decided_on_the_way(
    arms: tuple[tuple[Verdict, Verdict], ...], outcome: str, code: str
) -> None:
    decided = _decided(ALWAYS, *arms)
    assert decided.outcome == outcome
    assert decided.reasons[0].code == code


@pytest.mark.parametrize(
    ("changes", "outcome", "code"),
    [
        ({"registered": False}, "no_conclusion", "not_registered"),
        ({"exposed": 0, "excluded": 7}, "no_conclusion", "nothing_exposed"),
        ({"period": replace(PERIOD, as_of_ms=399)}, "keep_running", "peek"),
        (
            {"period": replace(PERIOD, planned_end_ms=None, horizon_ms=None)},
            "no_conclusion",
            "no_horizon",
        ),
    ],
)
def test_what_stands_in_the_way_of_a_winner(
    changes: dict[str, object], outcome: str, code: str
) -> None:
    standing = replace(STANDING, **changes)  # type: ignore[arg-type]
    decided = _decided(standing, ("better", "held"))
    assert (decided.outcome, decided.variant) == (outcome, None)
    assert [reason.code for reason in decided.reasons] == [code]


@pytest.mark.parametrize(
    ("check", "code"), [("sample_ratio", "sample_ratio"), ("self_check", "not_alike_before")]
)
def test_alarms_stand_in_the_way_of_a_winner(check: str, code: str) -> None:
    alarm = Finding(check, "alarm", "Something is wrong.")
    decided = _decided(ALWAYS, ("better", "held"), health=(alarm,))
    assert decided.outcome == "no_conclusion"
    assert decided.reasons[0].code == code
    notice = replace(alarm, level="notice")
    assert _decided(ALWAYS, ("better", "held"), health=(notice,)).outcome == "ship"


def test_units_without_a_window_that_ended_are_waited_for() -> None:
    revenue = metric("revenue", "primary", _of("arm", "not_measured"))
    waiting = replace(revenue, means=tuple(replace(m, units=0, mean=None) for m in revenue.means))
    decided = decide(STANDING, (), (waiting,), ())
    assert (decided.outcome, decided.reasons[0].code) == ("keep_running", "no_mature_units")


def test_two_rankings_in_one_slate_are_told_and_conclude_nothing() -> None:
    told = Preference("mixed", "clicks", "old", "new", -0.1, -0.15, -0.05, 0.001, 40, 60, 0)
    nothing: Metric = metric("clicks", "primary")
    decided = decide(STANDING, (), (nothing,), (told,))
    assert decided.reasons[0].code == "interleaving"
    assert "“old” is preferred to “new”: 60.0%" in decided.reasons[0].text
    unsure = replace(told, upper=0.05)
    text = decide(STANDING, (), (nothing,), (unsure,)).reasons[0].text
    assert text.startswith("Neither ranking")
    assert decide(STANDING, (), (nothing,), ()).reasons[0].code == "interleaving"


def test_a_change_is_better_or_worse_by_its_direction() -> None:
    up = effect("v", 0.05, 0.02, "better").effect
    assert verdict_of_change(up, 0.01, "increase", 0.05) == "better"
    assert verdict_of_change(up, 0.01, "decrease", 0.05) == "worse"
    assert verdict_of_change(up, 0.06, "increase", 0.05) == "no_difference_shown"
    assert verdict_of_change(up, None, "increase", 0.05) == "not_measured"


@pytest.mark.parametrize(
    "turned",
    [
        Interval(-0.1, -0.3, 0.1, -0.1, -0.3, 0.1),
        Interval(-0.1, 0.05, 0.1, -0.1, 0.05, 0.1),
    ],
)
def test_an_effect_that_was_shown_once_and_turned_is_neither(turned: Interval) -> None:
    # The p-value of a sequence is the smallest so far.
    assert verdict_of_change(turned, 0.001, "increase", 0.05) == "no_difference_shown"
    assert verdict_of_guardrail(turned, 0.001, "increase", 0.05, 0.0) == "no_harm_shown"


@pytest.mark.parametrize(
    ("relative", "half", "margin", "p_value", "verdict"),
    [
        (0.0, 0.008, 0.01, 0.9, "held"),
        (-0.005, 0.004, 0.01, 0.01, "held"),
        (-0.005, 0.008, 0.01, 0.2, "not_shown_to_hold"),
        (-0.05, 0.01, 0.01, 0.001, "broken"),
        (-0.05, 0.01, 0.01, 0.06, "not_shown_to_hold"),
        (-0.02, 0.015, 0.01, 0.01, "not_shown_to_hold"),
        (-0.02, 0.015, 0.0, 0.01, "broken"),
        (-0.02, 0.03, 0.0, 0.3, "no_harm_shown"),
        (0.02, 0.01, 0.0, 0.001, "no_harm_shown"),
        (0.02, 0.01, 0.01, None, "not_measured"),
    ],
)
@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_a_guardrail_holds_where_its_whole_interval_is_within_the_margin(
    relative: float,
    half: float,
    margin: float,
    p_value: float | None,
    verdict: Verdict,
    direction: str,
) -> None:
    found = effect("v", relative, half, "held").effect
    if direction == "decrease":
        found = _negative(found)
    assert (
        verdict_of_guardrail(found, p_value, direction, 0.05, margin)  # type: ignore[arg-type]
        == verdict
    )


def test_a_guardrail_without_ends_does_not_hold() -> None:
    endless = Interval(0.1, None, None, 0.01, None, None)
    assert verdict_of_guardrail(endless, 0.5, "increase", 0.05, 0.1) == "not_shown_to_hold"
    assert verdict_of_guardrail(endless, 0.5, "decrease", 0.05, 0.1) == "not_shown_to_hold"


def _negative(found: Interval) -> Interval:
    def off(number: float | None) -> float | None:
        return None if number is None else -number

    return Interval(
        off(found.estimate),
        off(found.upper),
        off(found.lower),
        off(found.relative),
        off(found.relative_upper),
        off(found.relative_lower),
    )
