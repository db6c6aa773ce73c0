"""What a reader must know of results beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from offline.analysis.conclude.checkup import drawn_units
from offline.analysis.conclude.decide import Standing
from offline.analysis.conclude.effects import Found
from offline.analysis.model import Warned
from offline.analysis.plan import AnalysisPlan
from offline.analysis.statistics.arrays import sample_skewness
from offline.analysis.statistics.validity import warnings_of as measured_warnings
from offline.analysis.units.table import UnitTable
from offline.analysis.wording import listed, readable

FEW_CLUSTERS = 10
NAMED_SEGMENTS = 5
_MINUTE_MS, _HOUR_MS = 60_000, 3_600_000
_DAY_HOURS = 24
_LEFT_OUT = {
    "forced": "a variant was forced on them",
    "unknown_variant": "the definition no longer has their variant",
}


def warnings_of(
    plan: AnalysisPlan,
    table: UnitTable,
    standing: Standing,
    found: Mapping[str, Sequence[Found]],
) -> tuple[Warned, ...]:
    """The warnings, most general first."""
    return (
        *_of_the_plan(plan, table, standing),
        *_of_units(plan, table),
        *_of_estimates(plan, found),
        *_of_methods(plan, table, found),
    )


def _of_the_plan(plan: AnalysisPlan, table: UnitTable, standing: Standing) -> list[Warned]:
    warned = []
    if plan.method == "always_valid" and standing.looks == "fixed":
        text = (
            "The plan is to look at any time, which quantiles and two-sided experiments do not"
            f" allow: {readable(plan.primary)} counts at the planned end alone."
        )
        warned.append(Warned("no_sequence", text))
    if plan.design == "switchback":
        warned.append(Warned("carry_over", _carry_over(plan)))
    if len(table.revisions) > 1:
        named = listed([str(revision) for revision in table.revisions])
        text = f"Exposures were decided by revisions {named}: see what changed between them."
        warned.append(Warned("revisions", text))
    return warned


def _carry_over(plan: AnalysisPlan) -> str:
    if not plan.burn_in_ms:
        return (
            "Slices follow one another without a pause: what an arm does may last into the next"
            " slice, and the effect then looks smaller than it is."
        )
    return (
        f"Of a slice the first {_length(plan.burn_in_ms)} count for nothing where another variant,"
        " or none that is known, came before: what an arm did may last so long. What lasts longer"
        " makes the effect look smaller than it is."
    )


def _of_units(plan: AnalysisPlan, table: UnitTable) -> list[Warned]:
    warned = []
    if table.lost_records:
        text = (
            f"The log is damaged: {table.lost_records:,} of its records at least are lost, and with"
            " them exposures or outcomes."
        )
        warned.append(Warned("lost_records", text))
    immature = {name: columns.immature for name, columns in table.metrics.items()}
    waiting = [name for name, count in immature.items() if count]
    if waiting:
        counts = listed([f"{immature[n]:,} of {readable(n)}" for n in waiting])
        longest = max(plan.metrics[name].maturity_ms for name in waiting)
        text = (
            f"Units whose window has not ended ({_length(longest)} at most) are left out: {counts}."
        )
        warned.append(Warned("immature", text))
    for reason, why in _LEFT_OUT.items():
        if table.excluded.get(reason):
            text = f"{table.excluded[reason]:,} units are left out: {why}."
            warned.append(Warned(reason, text))
    fewest, of = _fewest_drawn(plan, table)
    if fewest is not None and fewest < FEW_CLUSTERS:
        text = f"An arm has {fewest} {of} alone: intervals rest on so few and hold only roughly."
        warned.append(Warned("few_clusters", text))
    return warned


def _fewest_drawn(plan: AnalysisPlan, table: UnitTable) -> tuple[int | None, str]:
    """How many hosts, rooms, slices or, of a two-sided experiment, viewers are in the arm with
    fewest, and what they are; None where units are drawn one by one."""
    if plan.design == "user":
        return None, ""
    return min(
        (len(np.unique(unit[variant == arm])), of)
        for of, unit, variant in drawn_units(plan, table)
        for arm in range(len(plan.variants))
    )


def _of_estimates(plan: AnalysisPlan, found: Mapping[str, Sequence[Found]]) -> list[Warned]:
    warned = []
    for name, one in found.items():
        problems = {f.problem for f in one if f.problem}
        if problems:
            text = f"{readable(name)} could not be compared: {listed(sorted(problems))}."
            warned.append(Warned("not_measured", text))
    warned += _of_segments(plan, found)
    several = max((len(one) for one in found.values()), default=0) > 1
    several |= max(len(plan.guardrails), len(plan.secondary)) > 1
    if plan.correction != "none" and several:
        text = (
            "Verdicts count that there are several comparisons; each interval is of its comparison"
            " alone, so that one may leave out zero without a verdict."
        )
        warned.append(Warned("several_comparisons", text))
    return warned


def _of_segments(plan: AnalysisPlan, found: Mapping[str, Sequence[Found]]) -> list[Warned]:
    """Segments that a reader may look for in vain."""
    reasons: dict[str, dict[str, None]] = {}
    for one in found[plan.primary]:
        for problem, names in one.uncompared.items():
            reasons.setdefault(problem, {}).update(dict.fromkeys(names))
    warned = []
    for problem, segments in reasons.items():
        named = [readable(segment) for segment in segments]
        if len(named) > NAMED_SEGMENTS:
            named = [*named[:NAMED_SEGMENTS], f"{len(named) - NAMED_SEGMENTS:,} more"]
        warned.append(Warned("segments", f"Not compared by itself: {listed(named)} ({problem})."))
    return warned


def _of_methods(
    plan: AnalysisPlan, table: UnitTable, found: Mapping[str, Sequence[Found]]
) -> list[Warned]:
    """What was measured of the methods in worlds like these data, where it was off."""
    fewest, _ = _fewest_drawn(plan, table)
    measured = [f for one in found.values() for f in one if f.comparison is not None]
    texts = [
        text
        for f in measured
        for text in measured_warnings(
            f.method,
            # Worlds of clusters have Welch on the viewers within them, here rows were drawn.
            clusters_an_arm=None if f.method == "welch" else fewest,
            skewness=sample_skewness(f.sample.values()),
        )
    ]
    return [
        Warned("measured_validity", f"Measured in simulated experiments: {text}.")
        for text in dict.fromkeys(texts)
    ]


def _length(time_ms: int) -> str:
    if time_ms < _HOUR_MS:
        return f"{time_ms / _MINUTE_MS:g} minutes"
    hours = time_ms / _HOUR_MS
    return f"{hours / _DAY_HOURS:g} days" if hours >= 2 * _DAY_HOURS else f"{hours:g} hours"
