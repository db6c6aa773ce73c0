"""Reports of made-up experiments, one a state that a report may be in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from offline.analysis.model import (
    Arm,
    ArmMean,
    Chances,
    DayOfExposures,
    Decision,
    Effect,
    Experiment,
    Finding,
    Interval,
    Method,
    Metric,
    Period,
    Reason,
    Report,
    SegmentEffect,
    SequencePoint,
    Verdict,
    Warned,
)

DAY_MS = 86_400_000
START_MS = 20_514 * DAY_MS
DAYS = 14


def interval(relative: float, half: float, mean: float = 1_230.0) -> Interval:
    """An interval of which both kinds agree."""
    lower, upper = relative - half, relative + half
    return Interval(relative * mean, lower * mean, upper * mean, relative, lower, upper)


def sequence(relative: float, half: float) -> tuple[SequencePoint, ...]:
    """What narrows to ``relative`` ± ``half``."""
    return tuple(
        SequencePoint(
            START_MS + day * DAY_MS,
            interval(
                relative + 0.6 * half * (1 - (day + 1) / DAYS) * (-1) ** day,
                half * (DAYS / (day + 1)) ** 0.5,
            ),
        )
        for day in range(DAYS)
    )


def effect(variant: str, relative: float, half: float, verdict: Verdict) -> Effect:
    """An effect with its sequence."""
    return Effect(
        variant=variant,
        method="cuped",
        effect=interval(relative, half),
        standard_error=half / 1.96 * 1_230.0,
        degrees_of_freedom=19_871.2,
        p_value=0.0004 if abs(relative) > half else 0.41,
        p_adjusted=0.0004 if abs(relative) > half else 0.41,
        control_units=9_946,
        treatment_units=10_012,
        verdict=verdict,
        sequence=sequence(relative, half),
    )


def metric(name: str, role: str, *effects: Effect, **changes: object) -> Metric:
    """A metric of money."""
    made = Metric(
        name=name,
        role=role,  # type: ignore[arg-type]
        definition="mean amount_minor of purchase within 7d of the first exposure",
        unit="CNY minor units",
        direction="increase",
        margin=None,
        immature=0,
        means=(
            ArmMean("control", 9_946, 1_230.0),
            *(
                ArmMean(e.variant, 10_012, 1_230.0 * (1 + (e.effect.relative or 0)))
                for e in effects
            ),
        ),
        effects=effects,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def base() -> Report:
    """Two variants, everything fine, a winner."""
    segments = tuple(
        SegmentEffect(segment, value, units, interval(relative, half), p_value, p_value)
        for segment, value, units, relative, half, p_value in (
            ("region", "CN", 12_060, 0.048, 0.025, 0.001),
            ("region", "US", 5_310, 0.031, 0.04, 0.4),
            ("region", "", 2_588, 0.02, 0.06, 0.8),
            ("device", "phone", 15_020, 0.05, 0.02, 0.0001),
            ("device", "desktop", 4_938, 0.01, 0.05, 0.9),
        )
    )
    revenue = replace(
        effect("engagement", 0.042, 0.021, "better"),
        segments=segments,
        chances=Chances(0.9997, 0.04),
    )
    return Report(
        experiment=Experiment(
            key="engagement",
            description="Do stronger engagement weights sell more in the end?",
            revisions=(3, 4),
            definitions_hash="9f2c1d0e6a",
            unit="user",
            cluster=None,
            control="control",
        ),
        period=Period(
            first_exposure_ms=START_MS + 120_000,
            last_exposure_ms=START_MS + DAYS * DAY_MS - 5_000,
            position=4_120_988,
            as_of_ms=START_MS + (DAYS + 7) * DAY_MS,
            planned_end_ms=START_MS + DAYS * DAY_MS,
            horizon_ms=START_MS + (DAYS + 7) * DAY_MS,
            time_zone="Asia/Shanghai",
        ),
        method=Method("user", "cuped", "fixed", 0.05, "holm", ("spend_before", "watch_before")),
        arms=(Arm("control", 9_946, None, 0.5), Arm("engagement", 10_012, None, 0.5)),
        exposures=tuple(
            DayOfExposures(START_MS + d * DAY_MS, (690 + 37 * (d % 4), 700 + 31 * (d % 5)))
            for d in range(DAYS)
        ),
        health=(
            Finding("sample_ratio", "ok", "The arms have the planned sizes.", p_value=0.63),
            Finding("novelty", "notice", "The effect fades with the days of the experiment.", "x"),
            Finding("interaction", "not_checked", "Too few units in both.", "price_test"),
        ),
        metrics=(
            metric("revenue_per_viewer", "primary", revenue),
            metric(
                "watch_time",
                "guardrail",
                effect("engagement", 0.004, 0.008, "held"),
                unit="ms",
                margin=0.01,
                means=(
                    ArmMean("control", 9_946, 1_420_000.0),
                    ArmMean("engagement", 10_012, 1.43e6),
                ),
            ),
            metric(
                "refund_share",
                "guardrail",
                effect("engagement", 0.012, 0.05, "no_harm_shown"),
                unit="share of units",
                direction="decrease",
                margin=0.0,
                means=(ArmMean("control", 9_946, 0.031), ArmMean("engagement", 10_012, 0.0314)),
            ),
            metric(
                "comments",
                "secondary",
                effect("engagement", -0.02, 0.045, "no_difference_shown"),
                unit="events",
                means=(ArmMean("control", 9_946, 3.2), ArmMean("engagement", 10_012, 3.14)),
            ),
        ),
        warnings=(),
        decision=Decision(
            "ship",
            "engagement",
            (
                Reason("primary_better", "“engagement” raised revenue per viewer by 4.2%."),
                Reason("guardrails_held", "Watch time stayed within its margin."),
                Reason("no_harm_shown", "No harm to refund share was shown."),
            ),
        ),
    )


def loser() -> Report:
    """The primary metric got worse, and a guardrail is broken."""
    report = base()
    return replace(
        report,
        metrics=(
            metric("revenue_per_viewer", "primary", effect("engagement", -0.05, 0.02, "worse")),
            metric(
                "watch_time",
                "guardrail",
                effect("engagement", -0.04, 0.01, "broken"),
                unit="ms",
                margin=0.01,
            ),
        ),
        decision=Decision(
            "do_not_ship",
            "engagement",
            (
                Reason("primary_worse", "“engagement” lowered revenue_per_viewer by 5%."),
                Reason("guardrail_broken", "“engagement” harmed watch_time by 4%, margin 1%."),
            ),
        ),
    )


def inconclusive() -> Report:
    """No difference at the horizon."""
    report = base()
    flat = effect("engagement", 0.006, 0.03, "no_difference_shown")
    return replace(
        report,
        metrics=(metric("revenue_per_viewer", "primary", flat),),
        decision=Decision(
            "no_conclusion",
            None,
            (Reason("no_difference_shown", "No difference in revenue_per_viewer was shown."),),
        ),
    )


def running() -> Report:
    """Always valid, undecided, immature units."""
    report = base()
    open_end = replace(effect("engagement", 0.03, 0.06, "no_difference_shown"), method="sequence")
    return replace(
        report,
        method=replace(report.method, looks="always_valid", estimator="sequence"),
        metrics=(metric("revenue_per_viewer", "primary", open_end, immature=4_200),),
        warnings=(
            Warned("immature", "4,200 units are left out: their 7 days have not ended yet."),
            Warned("validity", "Measured: cuped is off with 3% buyers and few units."),
        ),
        decision=Decision(
            "keep_running",
            "engagement",
            (Reason("undecided", "No difference in revenue_per_viewer is shown yet."),),
        ),
    )


def peek() -> Report:
    """A fixed plan before its end."""
    report = base()
    early = effect("engagement", 0.042, 0.021, "too_early")
    return replace(
        report,
        period=replace(report.period, as_of_ms=START_MS + 6 * DAY_MS),
        metrics=(metric("revenue_per_viewer", "primary", early),),
        decision=Decision(
            "keep_running",
            None,
            (Reason("peek", "This is a look before the planned end: nothing is concluded."),),
        ),
    )


def alarmed() -> Report:
    """The arms have not their sizes."""
    report = base()
    text = "The arms have not the sizes that were planned: control 821,588, engagement 815,482."
    return replace(
        report,
        arms=(Arm("control", 821_588, None, 0.5), Arm("engagement", 815_482, None, 0.5)),
        health=(Finding("sample_ratio", "alarm", text, p_value=1.8e-6), *report.health[1:]),
        metrics=tuple(replace(m, effects=(), means=()) for m in report.metrics),
        decision=Decision("no_conclusion", None, (Reason("sample_ratio", text),)),
    )


def unexposed() -> Report:
    """Asked for before anything was exposed."""
    report = base()
    return replace(
        report,
        experiment=replace(report.experiment, revisions=()),
        period=replace(report.period, first_exposure_ms=None, last_exposure_ms=None),
        arms=tuple(replace(arm, units=0) for arm in report.arms),
        exposures=(),
        health=(Finding("exposures", "not_checked", "Nothing was exposed yet."),),
        metrics=tuple(replace(m, effects=(), means=()) for m in report.metrics),
        decision=Decision(
            "no_conclusion", None, (Reason("nothing_exposed", "Nobody was exposed yet."),)
        ),
    )


def immature() -> Report:
    """Exposed, but no window has ended."""
    report = base()
    nothing = Interval(None, None, None, None, None, None)
    waiting = replace(
        effect("engagement", 0.0, 1.0, "not_measured"),
        effect=nothing,
        standard_error=None,
        p_value=None,
        p_adjusted=None,
        sequence=(),
    )
    means = (ArmMean("control", 0, None), ArmMean("engagement", 0, None))
    return replace(
        report,
        metrics=(metric("revenue_per_viewer", "primary", waiting, immature=19_958, means=means),),
        warnings=(Warned("immature", "19,958 units are left out."),),
        decision=Decision(
            "keep_running", None, (Reason("no_mature_units", "No window has ended yet."),)
        ),
    )


def crowded() -> Report:
    """Many variants and segments, names of any length and script, text that looks like markup."""
    report = base()
    variants = (
        "a_variant_with_a_name_that_goes_on_and_on_and_never_comes_to_any_end_at_all_v2",
        "直播间推荐权重加强版",
        "<script>alert(1)</script>",
        "עברית",
        *(f"arm {number}" for number in range(5)),
    )
    half = 0.03
    regions = [f"region {n} 地区" for n in range(14)] + ["<b>bold</b>"]
    effects = tuple(
        replace(
            effect(v, 0.05 - 0.012 * n, half, "better" if n < 2 else "no_difference_shown"),
            segments=tuple(
                SegmentEffect("region", r, 900, interval(0.01 * (k - 7), 0.08), 0.2, 1.0)
                for k, r in enumerate(regions)
            )
            if n < 2
            else (),
        )
        for n, v in enumerate(variants)
    )
    wide = replace(effects[-1], effect=Interval(5.0, None, 4_000.0, 0.01, None, 3.2))
    arms = tuple(Arm(v, 1_990 + 7 * n, 31, 0.1) for n, v in enumerate(("control", *variants)))
    return replace(
        report,
        experiment=replace(
            report.experiment,
            key="a_key_of_an_experiment_that_somebody_wanted_to_describe_all_by_itself_2026",
            description="<img src=x onerror=alert(1)> & “quotes” 测试",
            unit="host",
            cluster="host",
        ),
        arms=arms,
        exposures=tuple(
            DayOfExposures(START_MS + d * DAY_MS, tuple(140 + 3 * n + d for n in range(10)))
            for d in range(DAYS)
        ),
        metrics=(
            metric("revenue_per_viewer", "primary", *effects[:-1], wide),
            metric("watch_time_of_a_name_with_no_spaces_" + "x" * 40, "secondary", *effects),
        ),
        decision=Decision(
            "ship",
            variants[0],
            (Reason("primary_better", f"“{variants[0]}” raised <i>revenue</i> by 5%."),),
        ),
    )


STATES: dict[str, Callable[[], Report]] = {
    "winner": base,
    "loser": loser,
    "inconclusive": inconclusive,
    "running": running,
    "peek": peek,
    "alarmed": alarmed,
    "unexposed": unexposed,
    "immature": immature,
    "crowded": crowded,
}
