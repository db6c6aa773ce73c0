"""What an experiment is judged by: its registered analysis with all that it refers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from services.common.assign.analysis_checks import analysis_errors
from services.common.assign.model import Definitions, Experiment
from services.common.assign.registered import (
    Analysis,
    Correction,
    Guardrail,
    Method,
    Segment,
)
from services.common.domain import Domain
from services.common.domain_metrics import (
    Better,
    ConversionMetric,
    Counted,
    Metric,
    RatioMetric,
    RepurchaseMetric,
    TotalMetric,
    counted_by,
)
from services.common.durations import duration_ms
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound

AMOUNT = "amount_minor"

Statistic = Literal["share", "mean", "ratio", "quantile", "winsorised_mean"]
Design = Literal["user", "cluster", "switchback", "two_sided"]
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class PlannedMetric:
    """A metric to measure. ``statistic`` is what arms are compared by, at the quantile ``level`` of
    "quantile" and "winsorised_mean". ``unit``: of its values, e.g. "USD minor units".

    ``numerator`` and, of ratios, ``denominator``: what is counted. ``within_ms``: of a repurchase,
    how soon the next must follow; else 0. ``maturity_ms``: a unit counts from so long after its
    exposure on: ``window_ms``, and what repurchases and refunds are waited for.
    """

    name: str
    definition: str
    statistic: Statistic
    unit: str
    better: Better
    numerator: Counted
    denominator: Counted | None
    window_ms: int
    within_ms: int
    refund_delay_ms: int | None
    level: float | None

    @property
    def maturity_ms(self) -> int:
        """See the class."""
        return self.window_ms + self.within_ms + (self.refund_delay_ms or 0)


@dataclass(frozen=True)
class PlannedCovariate:
    """A metric's value in the ``window_ms`` before exposure."""

    name: str
    metric: PlannedMetric
    window_ms: int


@dataclass(frozen=True)
class AnalysisPlan:
    """How one experiment is analysed. ``variants[0]`` is the control; ``shares`` are those of units
    that each is planned to get, and sum to 1.

    ``metrics``: all that are measured, by name, ``primary`` first. ``registered``: the plan was
    part of the definition; one that was made up afterwards explores. ``unit`` is what is
    randomised, ``cluster`` the type that groups the rows (host, room, time_slice) where they lie
    within what is randomised or, of a two-sided experiment, across it. ``entered_by``: see
    ``Inside``; empty where rows are what was randomised. ``interleaved``: variants that show two
    rankings in one slate, with these. ``burn_in_ms``, ``block_slices``: of slices of time, see
    ``Switchback``. ``planned_units``: see ``Analysis``. Times are epoch ms.
    """

    experiment: str
    description: str
    revision: int
    registered: bool
    variants: tuple[str, ...]
    shares: tuple[float, ...]
    unit: str
    other_unit: str
    cluster: str | None
    entered_by: tuple[str, ...]
    slice_ms: int
    design: Design
    interleaved: Mapping[str, tuple[str, str]]
    metrics: Mapping[str, PlannedMetric]
    primary: str
    guardrails: Mapping[str, Guardrail]
    secondary: tuple[str, ...]
    segments: Mapping[str, Segment]
    covariates: tuple[PlannedCovariate, ...]
    alpha: float
    method: Method
    correction: Correction
    report_time_zone: str
    start_ms: int | None
    end_ms: int | None
    concluded_ms: int | None = None
    burn_in_ms: int = 0
    block_slices: int = 1
    planned_units: int | None = None

    @property
    def timed(self) -> bool:
        """Whether rows are slices of time of which some are cut: what is counted is then told by
        time."""
        return self.burn_in_ms > 0 and not self.entered_by

    @property
    def exposed_before_ms(self) -> int | None:
        """Exposures from then on are none of the experiment: it had ended, or all had the
        winner."""
        moments = [ms for ms in (self.end_ms, self.concluded_ms) if ms is not None]
        return min(moments, default=None)

    @property
    def control(self) -> str:
        """The variant that the others are compared with."""
        return self.variants[0]


def plan_of(
    definitions: Definitions,
    key: str,
    domain: Domain,
    analysis: Analysis | None = None,
    *,
    concluded_ms: int | None = None,
) -> AnalysisPlan:
    """The plan of the experiment ``key``; ``analysis`` instead of the registered one, if any;
    ``concluded_ms`` (epoch) where it was concluded.

    Raises:
        NotFound: there is no such experiment.
        FailedPrecondition: it registers no analysis (NO_ANALYSIS), and none is given.
        InvalidArgument: the analysis names what does not exist.
    """
    experiment = definitions.experiments.get(key)
    if experiment is None:
        known = ", ".join(definitions.experiments) or "none"
        raise NotFound(f"there is no experiment {key!r}; there are {known}")
    chosen = analysis or experiment.analysis
    if chosen is None:
        raise FailedPrecondition(
            f"the experiment {key} registers no analysis: name a primary metric",
            reason="NO_ANALYSIS",
        )
    for at, problem in analysis_errors(experiment, chosen, domain):
        raise InvalidArgument.field(".".join(map(str, at)), problem)
    plan = _plan(experiment, chosen, domain, registered=analysis is None)
    return replace(plan, concluded_ms=concluded_ms)


def _plan(
    experiment: Experiment, analysis: Analysis, domain: Domain, *, registered: bool
) -> AnalysisPlan:
    shares = _shares(experiment)
    control = analysis.control or experiment.variants[0].key
    variants = (control, *(v.key for v in experiment.variants if v.key != control))
    inside = analysis.inside.entered_by if analysis.inside is not None else ()
    grouping = experiment.other_unit or (experiment.unit if inside else "")
    metrics = {name: planned(name, domain) for name in analysis.metrics}
    if experiment.slice_ms and not inside:
        metrics = {
            name: replace(metric, definition=_until_the_end(metric, analysis.switchback.burn_in_ms))
            for name, metric in metrics.items()
        }
    return AnalysisPlan(
        experiment=experiment.key,
        description=experiment.description,
        revision=experiment.revision,
        registered=registered,
        variants=variants,
        shares=tuple(shares[key] for key in variants),
        unit=experiment.unit,
        other_unit=experiment.other_unit,
        cluster=grouping or None,
        entered_by=inside,
        slice_ms=experiment.slice_ms,
        design=_design(experiment),
        interleaved={v.key: v.interleave for v in experiment.variants if v.interleave},
        metrics=metrics,
        primary=analysis.primary,
        guardrails=analysis.guardrails,
        secondary=analysis.secondary,
        segments=analysis.segments,
        covariates=tuple(
            PlannedCovariate(name, planned(covariate.metric, domain), covariate.window_ms)
            for name, covariate in analysis.covariates.items()
        ),
        alpha=analysis.alpha,
        method=analysis.method,
        correction=analysis.correction,
        report_time_zone=domain.report_time_zone,
        start_ms=experiment.start_ms,
        end_ms=experiment.end_ms,
        burn_in_ms=analysis.switchback.burn_in_ms,
        block_slices=analysis.switchback.block_slices,
        planned_units=analysis.planned_units,
    )


def _until_the_end(metric: PlannedMetric, burn_in_ms: int) -> str:
    said = f"{metric.definition}, until the slice ends at most"
    return (
        f"{said}, by the time of a whole slice" if burn_in_ms and not metric.denominator else said
    )


def planned(name: str, domain: Domain) -> PlannedMetric:
    """A metric that the domain declares, as it is measured."""
    metric = domain.metrics[name]
    delay = None if metric.refund_delay is None else duration_ms(metric.refund_delay)
    parts = counted_by(metric)
    numerator, denominator = parts[0], parts[1] if len(parts) > 1 else None
    within_ms, level = 0, None
    statistic: Statistic = "share"
    unit = "share of units"
    if isinstance(metric, TotalMetric):
        statistic, level = metric.statistic, metric.quantile or metric.winsorise
        unit = _unit(metric.value, domain)
    elif denominator is not None:
        statistic = "ratio"
        unit = f"{_unit(numerator.value, domain)} by {_unit(denominator.value, domain)}"
    elif isinstance(metric, RepurchaseMetric):
        within_ms = duration_ms(metric.within)
    return PlannedMetric(
        name=name,
        definition=metric.description or _definition(metric),
        statistic=statistic,
        unit=unit,
        better=metric.better,
        numerator=numerator,
        denominator=denominator,
        window_ms=duration_ms(metric.window),
        within_ms=within_ms,
        refund_delay_ms=delay,
        level=level,
    )


def _unit(value: str | None, domain: Domain) -> str:
    if value is None:
        return "events"
    if value == AMOUNT:
        return f"{domain.currency} minor units"
    return "ms" if value.endswith("_ms") else value


def _definition(metric: Metric) -> str:
    counted = counted_by(metric)[0]
    events = " or ".join(counted.events)
    within = f"within {metric.window} of the first exposure"
    if isinstance(metric, ConversionMetric):
        return f"share of units with {events} {within}"
    if isinstance(metric, RepurchaseMetric):
        return f"share of units with {events} {within}, and again within {metric.within} of it"
    what = f"{counted.value} of {events}" if counted.value else f"number of {events}"
    if isinstance(metric, RatioMetric):
        below = metric.denominator
        other = f"{below.value} of " if below.value else "number of "
        return f"{what} by {other}{' or '.join(below.events)}, {within}"
    named = {"mean": "mean ", "quantile": f"quantile {metric.quantile} of ", "winsorised_mean": ""}
    cut = f", cut at the quantile {metric.winsorise}" if metric.winsorise else ""
    return f"{named[metric.statistic]}{what} {within}{cut}"


def _design(experiment: Experiment) -> Design:
    if experiment.other_unit:
        return "two_sided"
    if experiment.slice_ms:
        return "switchback"
    return "cluster" if experiment.unit in ("host", "room") else "user"


def _shares(experiment: Experiment) -> dict[str, float]:
    """Share of those who take part that each variant gets."""
    widths = {key: end - start for key, start, end in experiment.arms_at(1.0)}
    total = sum(widths.values())
    return {key: width / total if total else 0.0 for key, width in widths.items()}
