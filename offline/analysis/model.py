"""What an analysis found: the report of one experiment at one moment, as data.

Times are milliseconds since 1970 in UTC. A number is None where there is none: an interval without
an end on that side, an arm without units. ``offline.analysis.report`` writes it as JSON, as a table
and as HTML; ``offline.analysis.conclude`` makes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1
SAMPLE_RATIO = "sample_ratio"

Role = Literal["primary", "guardrail", "secondary"]
Direction = Literal["increase", "decrease"]
Level = Literal["ok", "notice", "alarm", "not_checked"]
Verdict = Literal[
    "better",
    "worse",
    "no_difference_shown",
    "held",
    "no_harm_shown",
    "not_shown_to_hold",
    "broken",
    "too_early",
    "not_measured",
]
Outcome = Literal["ship", "do_not_ship", "keep_running", "no_conclusion"]


@dataclass(frozen=True)
class Experiment:
    """What was tested. ``revisions``: all that the analysed exposures were decided by, ascending;
    ``definitions_hash`` is of the last. ``cluster`` is what the analysis groups units by (hosts,
    rooms, slices), None where units are drawn one by one."""

    key: str
    description: str
    revisions: tuple[int, ...]
    definitions_hash: str
    unit: str
    cluster: str | None
    control: str


@dataclass(frozen=True)
class Period:
    """What was read: first and last exposure that count, how far the log was read (``position``
    and ``as_of_ms``), when the plan says that the experiment ends, where it says so, and when the
    last windows of units exposed until then have ended (``horizon_ms``). Days are those of
    ``time_zone`` (IANA)."""

    first_exposure_ms: int | None
    last_exposure_ms: int | None
    position: int
    as_of_ms: int
    planned_end_ms: int | None = None
    horizon_ms: int | None = None
    time_zone: str = "UTC"


@dataclass(frozen=True)
class Method:
    """How it was analysed. ``estimator`` is the one of the primary metric; ``alpha`` is two-sided;
    ``correction`` is the rule for several comparisons; ``looks`` tells whether results may be acted
    on at any time or at the planned end alone."""

    design: Literal["user", "cluster", "switchback", "two_sided"]
    estimator: str
    looks: Literal["fixed", "always_valid"]
    alpha: float
    correction: Literal["none", "holm", "benjamini_hochberg"]
    covariates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """A variant and how many units saw it; ``clusters`` is None where units are no part of any;
    ``planned_share`` is its share of those who take part."""

    variant: str
    units: int
    clusters: int | None
    planned_share: float


@dataclass(frozen=True)
class DayOfExposures:
    """Units exposed for the first time on the day that starts at ``day_ms``, by arm."""

    day_ms: int
    units: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """What one check of health found, in a sentence. ``subject`` is what it looked at: a metric,
    another experiment; empty where it is the experiment itself. An alarm casts doubt on every
    figure, a notice on the one it names."""

    check: str
    level: Level
    text: str
    subject: str = ""
    p_value: float | None = None


@dataclass(frozen=True)
class Warned:
    """Something that a reader must know of a result; ``code`` is stable."""

    code: str
    text: str


@dataclass(frozen=True)
class Interval:
    """An estimate of treatment less control: absolute, in the metric's unit, and relative to the
    size of the control's mean, each with its interval."""

    estimate: float | None
    lower: float | None
    upper: float | None
    relative: float | None
    relative_lower: float | None
    relative_upper: float | None


@dataclass(frozen=True)
class SequencePoint:
    """What was known at the end of the day that starts at ``day_ms``."""

    day_ms: int
    effect: Interval


@dataclass(frozen=True)
class SegmentEffect:
    """The effect among units whose ``segment`` is ``value``; ``p_adjusted`` counts all segments."""

    segment: str
    value: str
    units: int
    effect: Interval
    p_value: float | None
    p_adjusted: float | None


@dataclass(frozen=True)
class Chances:
    """Bayesian summary: the chance that treatment is better than control, and what is lost, in the
    metric's unit, on average over what may be true, by choosing it."""

    better: float
    expected_loss: float


@dataclass(frozen=True)
class Part:
    """A part of the effect of a two-sided experiment: "direct", "viewer_spillover" or
    "host_spillover"."""

    name: str
    effect: Interval
    p_value: float | None


@dataclass(frozen=True)
class Effect:
    """A variant against the control by one metric. ``p_adjusted`` counts the comparisons that the
    plan's rule counts. ``sequence`` is the effect as it was known day by day. Of a two-sided
    experiment the effect is of both sides treated against neither, and ``parts`` take it apart."""

    variant: str
    method: str
    effect: Interval
    standard_error: float | None
    degrees_of_freedom: float | None
    p_value: float | None
    p_adjusted: float | None
    control_units: int
    treatment_units: int
    verdict: Verdict
    sequence: tuple[SequencePoint, ...] = ()
    segments: tuple[SegmentEffect, ...] = ()
    chances: Chances | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class ArmMean:
    """A metric in one arm over its ``units``: those whose window has ended."""

    variant: str
    units: int
    mean: float | None


@dataclass(frozen=True)
class Metric:
    """A metric, how it is defined and what was found. ``direction`` is which way is good.
    ``margin`` of a guardrail: the loss that is put up with, as a share of the control's mean; with
    0 the metric must not be shown to get worse.
    ``immature`` units were left out because their window had not ended."""

    name: str
    role: Role
    definition: str
    unit: str
    direction: Direction
    margin: float | None
    immature: int
    means: tuple[ArmMean, ...]
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Preference:
    """Of the two rankings that ``variant`` shows in one slate, which one's items bring more by
    ``metric``: share of persons who got more of ``treatment``'s, ties halved, less a half, with its
    interval."""

    variant: str
    metric: str
    control: str
    treatment: str
    preference: float
    lower: float
    upper: float
    p_value: float
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True)
class Reason:
    """Why the decision is what it is; ``code`` is stable."""

    code: str
    text: str


@dataclass(frozen=True)
class Decision:
    """What may be concluded. ``variant`` is the one to ship, or the best where none is."""

    outcome: Outcome
    variant: str | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Report:
    """An experiment at one moment. ``arms[0]`` is the control.

    Raises:
        ValueError: an alarm of the sample ratio beside an effect or a conclusion, a decision to
            ship something that is no treatment, or no reason.
    """

    experiment: Experiment
    period: Period
    method: Method
    arms: tuple[Arm, ...]
    exposures: tuple[DayOfExposures, ...]
    health: tuple[Finding, ...]
    metrics: tuple[Metric, ...]
    warnings: tuple[Warned, ...]
    decision: Decision
    preferences: tuple[Preference, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.decision.reasons:
            raise ValueError("decision.reasons: a decision says why")
        if self.withheld and (
            self.decision.outcome != "no_conclusion"
            or self.preferences
            or any(metric.effects or metric.means for metric in self.metrics)
        ):
            raise ValueError("decision: nothing is concluded where the sample ratio alarms")
        treatments = [arm.variant for arm in self.arms[1:]]
        if self.decision.outcome == "ship" and self.decision.variant not in treatments:
            raise ValueError(
                f"decision.variant: {self.decision.variant!r} is not one of {treatments}"
            )

    @property
    def withheld(self) -> bool:
        """Whether the arms' sizes are so unlikely that nothing may be read from the arms."""
        return any(f.check == SAMPLE_RATIO and f.level == "alarm" for f in self.health)

    @property
    def corrected(self) -> bool:
        """Whether p-values of metrics count others: where a role has several comparisons."""
        counts = Counter(m.role for m in self.metrics for e in m.effects if e.p_value is not None)
        return self.method.correction != "none" and max(counts.values(), default=0) > 1

    @property
    def primary(self) -> Metric | None:
        """The metric that decides."""
        return next((metric for metric in self.metrics if metric.role == "primary"), None)
