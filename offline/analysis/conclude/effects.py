"""Effects of a family of metrics: measured, corrected for one another, and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from offline.analysis.conclude.decide import Standing
from offline.analysis.conclude.estimates import (
    chances_of,
    compare,
    cuts_of,
    finite,
    has_sequence,
    interval_of,
    looks_of,
    points_of,
    sequence_of,
)
from offline.analysis.conclude.sample import CONTROL, Flags, Indices, Sample, rows_of, sample_of
from offline.analysis.conclude.verdicts import verdict_of_change, verdict_of_guardrail
from offline.analysis.model import (
    Effect,
    Interval,
    Part,
    SegmentEffect,
    SequencePoint,
    Verdict,
)
from offline.analysis.plan import AnalysisPlan
from offline.analysis.statistics.comparison import Comparison
from offline.analysis.statistics.multiple import benjamini_hochberg, holm
from offline.analysis.statistics.two_sided import TwoSided
from offline.analysis.units.table import UnitTable
from services.common.assign.registered import Correction

NOTHING = Interval(None, None, None, None, None, None)
# Units of each arm that a segment must have, and how many of its values are told.
SEGMENT_UNITS = 10
# What sequences are tuned for where nobody said how many units there will be: a hundredth of it is
# twice too wide, a thousand times as many are not.
PLANNED_UNITS = 10_000
MOST_SEGMENT_VALUES = 20


@dataclass(frozen=True)
class Look:
    """How results are looked at: the plan's way, and for about how many units of the two arms
    sequences are tuned. ``cuts``: see ``sequence_of``."""

    looks: Literal["fixed", "always_valid"]
    horizon_units: float
    cuts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Found:
    """A metric of a treatment, measured. ``problem`` tells why there is no ``comparison``.
    ``valid_always``: the comparison holds at any look. ``uncompared``: segments of which there is
    no comparison, by reason.
    """

    metric: str
    treatment: int
    sample: Sample
    comparison: Comparison | None
    problem: str
    valid_always: bool
    sequence: tuple[SequencePoint, ...]
    segments: tuple[SegmentEffect, ...]
    two_sided: TwoSided | None
    uncompared: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The estimator's name."""
        return "none" if self.comparison is None else self.comparison.method


def measure(plan: AnalysisPlan, table: UnitTable, metric: str, treatment: int) -> Found:
    """Measures one metric of one treatment; of the primary metric its course and segments, too."""
    sample = sample_of(plan, table, metric, treatment)
    day_ms = table.daily[metric].day_ms
    always = plan.method == "always_valid"
    cuts = cuts_of(sample, day_ms) if always else ()
    look = Look(plan.method, horizon_units(plan, treatment), cuts)
    decides = metric == plan.primary
    comparison, problem, points, parts = _measured(sample, day_ms, look, plan.alpha, course=decides)
    segments: tuple[SegmentEffect, ...] = ()
    uncompared: dict[str, list[str]] = {}
    if decides:
        segments, uncompared = _segments(plan, table, metric, treatment, sample, look)
    return Found(
        metric=metric,
        treatment=treatment,
        sample=sample,
        comparison=comparison,
        problem=problem,
        valid_always=look.looks == "always_valid" and has_sequence(sample),
        sequence=points,
        segments=segments,
        two_sided=parts,
        uncompared=uncompared,
    )


def horizon_units(plan: AnalysisPlan, treatment: int) -> float:
    """About how many units of the control and one treatment there will be in the end.

    It must depend on nothing that is seen, or sequences of two looks would not be one: units that
    were there may be left out later, and the end may be moved. Hence what was registered.
    """
    planned = PLANNED_UNITS if plan.planned_units is None else plan.planned_units
    whole = sum(plan.shares)
    both = plan.shares[CONTROL] + plan.shares[treatment]
    return planned * both / whole if both > 0 else float(planned)


def _measured(
    sample: Sample, day_ms: Indices, look: Look, alpha: float, *, course: bool
) -> tuple[Comparison | None, str, tuple[SequencePoint, ...], TwoSided | None]:
    if look.looks == "always_valid" and has_sequence(sample):
        sequence = sequence_of(
            sample, day_ms, horizon_units=look.horizon_units, alpha=alpha, cuts=look.cuts
        )
        if sequence is None:
            return None, "no window has ended yet", (), None
        points = points_of(sequence, day_ms) if course else ()
        return sequence.at(), "", points, None
    found = compare(sample, alpha)
    points = looks_of(sample, day_ms, alpha) if course and found.comparison is not None else ()
    return found.comparison, found.problem, points, found.two_sided


def _segments(
    plan: AnalysisPlan,
    table: UnitTable,
    metric: str,
    treatment: int,
    sample: Sample,
    look: Look,
) -> tuple[tuple[SegmentEffect, ...], dict[str, list[str]]]:
    """Effects by segment, and the segments without one by reason."""
    rows, day_ms = rows_of(table, metric, treatment), table.daily[metric].day_ms
    found = []
    uncompared: dict[str, list[str]] = {}
    for name, column in table.segments.items():
        values, place, counts = np.unique(
            column[rows].astype(str), return_inverse=True, return_counts=True
        )
        for order, index in enumerate(np.argsort(-counts, kind="stable")):
            value = str(values[index])
            if order >= MOST_SEGMENT_VALUES:
                problem = f"only the {MOST_SEGMENT_VALUES} largest of a segment are compared"
                uncompared.setdefault(problem, []).append(f"{name} {value or 'not known'}")
                continue
            part = sample.apart(np.asarray(place == index))
            comparison, problem = None, f"fewer than {SEGMENT_UNITS} units in an arm"
            if _enough(part.treated):
                comparison, problem, *_ = _measured(part, day_ms, look, plan.alpha, course=False)
            if comparison is None:
                uncompared.setdefault(problem, []).append(f"{name} {value or 'not known'}")
            else:
                found.append((name, value, int(counts[index]), comparison))
    adjusted = corrected([c.p_value for *_, c in found], plan.correction)
    effects = tuple(
        SegmentEffect(name, value, units, interval_of(comparison), comparison.p_value, p_adjusted)
        for (name, value, units, comparison), p_adjusted in zip(found, adjusted, strict=True)
    )
    return effects, uncompared


def _enough(treated: Flags) -> bool:
    return min(int(treated.sum()), int((~treated).sum())) >= SEGMENT_UNITS


def corrected(p_values: Sequence[float | None], rule: Correction) -> list[float | None]:
    """p-values adjusted by ``rule``, over those that there are."""
    known = [p for p in p_values if p is not None]
    if rule == "none":
        return list(p_values)
    adjusted = iter(holm(known) if rule == "holm" else benjamini_hochberg(known))
    return [None if p is None else next(adjusted) for p in p_values]


def effects_of(
    plan: AnalysisPlan,
    family: Mapping[str, Sequence[Found]],
    standing: Standing,
) -> dict[str, tuple[Effect, ...]]:
    """Effects of a family of metrics by metric; all comparisons of the family are corrected
    together."""
    every = [found for one in family.values() for found in one]
    p_values = [None if f.comparison is None else f.comparison.p_value for f in every]
    adjusted = dict(zip(map(id, every), corrected(p_values, plan.correction), strict=True))
    return {
        name: tuple(_effect(plan, found, adjusted[id(found)], standing) for found in one)
        for name, one in family.items()
    }


def _effect(
    plan: AnalysisPlan, found: Found, p_adjusted: float | None, standing: Standing
) -> Effect:
    comparison = found.comparison
    variant = plan.variants[found.treatment]
    treated = int(found.sample.treated.sum())
    if comparison is None:
        return Effect(
            variant=variant,
            method="none",
            effect=NOTHING,
            standard_error=None,
            degrees_of_freedom=None,
            p_value=None,
            p_adjusted=None,
            control_units=len(found.sample.treated) - treated,
            treatment_units=treated,
            verdict="not_measured",
        )
    metric = plan.metrics[found.metric]
    return Effect(
        variant=variant,
        method=comparison.method,
        effect=interval_of(comparison),
        standard_error=finite(comparison.standard_error),
        degrees_of_freedom=finite(comparison.degrees_of_freedom),
        p_value=comparison.p_value,
        p_adjusted=p_adjusted,
        control_units=comparison.control_units,
        treatment_units=comparison.treatment_units,
        verdict=_verdict(plan, found, interval_of(comparison), p_adjusted, standing),
        sequence=found.sequence,
        segments=found.segments,
        chances=chances_of(comparison, metric.better, plan.alpha),
        parts=_parts(found.two_sided),
    )


def _verdict(
    plan: AnalysisPlan,
    found: Found,
    effect: Interval,
    p_adjusted: float | None,
    standing: Standing,
) -> Verdict:
    if not found.valid_always and not standing.ended:
        return "too_early"
    better = plan.metrics[found.metric].better
    guardrail = plan.guardrails.get(found.metric)
    if guardrail is not None and found.metric != plan.primary:
        return verdict_of_guardrail(effect, p_adjusted, better, plan.alpha, guardrail.margin)
    return verdict_of_change(effect, p_adjusted, better, plan.alpha)


def _parts(found: TwoSided | None) -> tuple[Part, ...]:
    if found is None:
        return ()
    return tuple(
        Part(name, interval_of(part), part.p_value)
        for name, part in (
            ("direct", found.direct),
            ("viewer_spillover", found.viewer_spillover),
            ("host_spillover", found.host_spillover),
        )
    )
