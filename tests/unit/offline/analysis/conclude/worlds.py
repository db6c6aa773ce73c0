"""Plans with tables of units whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from offline.analysis.plan import AnalysisPlan, PlannedCovariate, PlannedMetric
from offline.analysis.units.daily import daily_sums
from offline.analysis.units.table import MetricColumns, UnitTable
from services.common.assign.registered import Guardrail, Segment
from services.common.domain_metrics import Counted

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 20_514 * DAY_MS
DAYS = 10
WINDOW_MS = 2 * DAY_MS


def planned(name: str, **changes: object) -> PlannedMetric:
    """A mean of money within two days."""
    metric = PlannedMetric(
        name=name,
        definition=f"mean {name} within 2d of the first exposure",
        statistic="mean",
        unit="USD minor units",
        better="increase",
        numerator=Counted(events=["purchase"], value="amount_minor"),
        denominator=None,
        window_ms=WINDOW_MS,
        within_ms=0,
        refund_delay_ms=None,
        level=None,
    )
    return replace(metric, **changes)  # type: ignore[arg-type]


def plan(**changes: object) -> AnalysisPlan:
    """Two arms of users, decided by revenue at a planned end, watch time guarded."""
    made = AnalysisPlan(
        experiment="engagement",
        description="Do stronger engagement weights sell more?",
        revision=3,
        registered=True,
        variants=("control", "new"),
        shares=(0.5, 0.5),
        unit="user",
        other_unit="",
        cluster=None,
        entered_by=(),
        slice_ms=0,
        design="user",
        interleaved={},
        metrics={"revenue": planned("revenue"), "watch_time": planned("watch_time", unit="ms")},
        primary="revenue",
        guardrails={"watch_time": Guardrail(margin=0.05)},
        secondary=(),
        segments={"region": Segment(source="exposure", attribute="region")},
        covariates=(PlannedCovariate("spend_before", planned("revenue"), 7 * DAY_MS),),
        alpha=0.05,
        method="fixed",
        correction="holm",
        report_time_zone="UTC",
        start_ms=START_MS,
        end_ms=START_MS + DAYS * DAY_MS,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class World:
    """``units`` rows an arm; ``lifts`` of the treatments, absolute, by metric: values are about 10
    with a spread of 4. ``as_of_days`` after the start."""

    units: int = 300
    lifts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    as_of_days: float = DAYS + 2.0
    seed: int = 1
    shares: tuple[float, ...] | None = None
    clusters: int | None = None
    ratio: bool = False
    before_lift: float = 0.0
    fading: float = 0.0

    def table(self, of: AnalysisPlan) -> UnitTable:
        """The table; the same draws whatever the lifts are."""
        random = np.random.default_rng(self.seed)
        arms = len(of.variants)
        rows = self.units * arms
        variant = np.arange(rows) % arms
        if self.shares is not None:
            variant = random.choice(arms, size=rows, p=self.shares)
        exposed_ms = np.sort(random.integers(START_MS, START_MS + DAYS * DAY_MS, rows))
        cluster, other = None, None
        unit = np.arange(rows)
        noise = np.zeros(rows)
        if of.slice_ms:
            cluster = exposed_ms // of.slice_ms
            arm_of = random.integers(0, arms, int(cluster.max()) + 1)
            arm_of[: 2 * (len(arm_of) // 2)] = np.tile([0, 1], len(arm_of) // 2)
            variant = arm_of[cluster]
        elif self.clusters is not None:
            cluster = random.integers(0, self.clusters, rows)
            noise = random.normal(size=self.clusters)[cluster]
            if of.other_unit:
                other = (cluster % arms).astype(np.int64)
            else:
                variant = cluster % arms
        keeps = exposed_ms < START_MS + self.as_of_days * DAY_MS
        before = random.normal(size=rows)
        as_of_ms = int(START_MS + self.as_of_days * DAY_MS)
        metrics = {}
        for name in of.metrics:
            lift = np.array([0.0, *self.lifts.get(name, (0.0,) * (arms - 1))])
            values = 10 + 2 * before + noise + 3.5 * random.normal(size=rows) + lift[variant]
            matured_ms = exposed_ms + WINDOW_MS
            mature = matured_ms <= as_of_ms
            below = np.where(mature, random.integers(1, 5, rows), 0).astype(np.float64)
            ratio = self.ratio and name == of.primary
            metrics[name] = MetricColumns(
                numerator=np.where(mature, values * (below if ratio else 1.0), 0.0)[keeps],
                denominator=below[keeps] if ratio else None,
                mature=mature[keeps],
                matured_ms=matured_ms[keeps],
            )
        covariates = {}
        if of.covariates:
            covariates["spend_before"] = (before + self.before_lift * variant)[keeps]
        region = np.array(["CN", "US", ""], dtype=object)[random.integers(0, 3, rows)]
        variant = variant.astype(np.int64)[keeps]
        return UnitTable(
            variants=of.variants,
            unit=unit[keeps],
            variant=variant,
            exposed_ms=exposed_ms[keeps],
            cluster=None if cluster is None else cluster[keeps],
            other_variant=None if other is None else other[keeps],
            metrics=metrics,
            covariates=covariates,
            segments={"region": region[keeps]} if of.segments else {},
            daily={
                name: daily_sums(metric, variant, of.variants, of.report_time_zone)
                for name, metric in metrics.items()
            },
            overlaps={"price_test": random.integers(-1, 2, rows)[keeps]},
            overlap_variants={"price_test": ("cheap", "dear")},
            credits=(),
            excluded={},
            exposures=int(keeps.sum()),
            revisions=(3,),
            position=12_345,
            as_of_ms=as_of_ms,
            slopes=(random.normal(size=rows)[keeps] - self.fading * variant)
            * metrics[of.primary].mature,
        )
