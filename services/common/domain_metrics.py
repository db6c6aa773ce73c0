"""Metrics: what experiments are judged by, as the domain YAML declares them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.domain_features import Duration, Name

Better = Literal["increase", "decrease"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Counted(_Strict):
    """Events that are counted or, with ``value``, an int attribute of them that is summed.
    ``at_least``: minimal values of attributes that an event must have to count. Purchases that were
    given back don't count, and amounts fall by what was given back."""

    events: list[Name] = Field(min_length=1)
    value: Name | None = None
    at_least: dict[Name, int] = {}


class _Metric(_Strict):
    """What every metric says.

    ``window``: what happens so long after a unit's first exposure counts; the unit itself counts
    from when it is over. ``refund_delay``: refunds within that time of a purchase count and the
    unit is waited for so much longer; without it all that are known count. ``better``: which way is
    good.
    """

    description: str = ""
    window: Duration
    refund_delay: Duration | None = None
    better: Better = "increase"


class _Events(_Metric):
    events: list[Name] = Field(min_length=1)
    at_least: dict[Name, int] = {}


class ConversionMetric(_Events):
    """Share of units that did one of ``events`` within the window."""

    kind: Literal["conversion"]


class RepurchaseMetric(_Events):
    """Share of units that did one of ``events`` within the window, and again within ``within`` of
    that."""

    kind: Literal["repurchase"]
    within: Duration


class TotalMetric(_Events):
    """What a unit did within the window: the number of ``events``, or the sum of their int
    attribute ``value`` (amount_minor is money of the domain's currency; duration_ms is watch time).

    ``statistic``: the mean over units; the ``quantile`` of them; or the mean of values that are cut
    at the quantile ``winsorise``, told from all arms together.
    """

    kind: Literal["total"]
    value: Name | None = None
    statistic: Literal["mean", "quantile", "winsorised_mean"] = "mean"
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    winsorise: Annotated[float, Field(gt=0.5, lt=1)] | None = None

    @model_validator(mode="after")
    def _level_given(self) -> TotalMetric:
        for name, statistic in (("quantile", "quantile"), ("winsorise", "winsorised_mean")):
            if (getattr(self, name) is not None) != (self.statistic == statistic):
                raise ValueError(f"{name} is for the statistic {statistic}, and needed there")
        return self


class RatioMetric(_Metric):
    """Sum of the ``numerator`` over the units' sum of the ``denominator``, e.g. clicks by
    impressions."""

    kind: Literal["ratio"]
    numerator: Counted
    denominator: Counted


Metric = Annotated[
    ConversionMetric | RepurchaseMetric | TotalMetric | RatioMetric, Field(discriminator="kind")
]


def counted_by(metric: Metric) -> tuple[Counted, ...]:
    """What a metric counts: its numerator, and the denominator of a ratio."""
    if isinstance(metric, RatioMetric):
        return metric.numerator, metric.denominator
    value = metric.value if isinstance(metric, TotalMetric) else None
    return (Counted(events=metric.events, value=value, at_least=metric.at_least),)


def attributes_read(metric: Metric) -> tuple[str, ...]:
    """Attributes of events that a metric reads."""
    parts = counted_by(metric)
    named = [n for part in parts for n in (*part.at_least, *([part.value] if part.value else []))]
    return tuple(dict.fromkeys(named))
