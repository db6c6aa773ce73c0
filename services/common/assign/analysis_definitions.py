"""The ``analysis`` section of an experiment in YAML."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.common.assign.registered import (
    Analysis,
    Correction,
    Covariate,
    Guardrail,
    Inside,
    Method,
    Segment,
    Switchback,
)
from services.common.durations import duration_ms

MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


def _is_duration(text: str) -> str:
    duration_ms(text)
    return text


Duration = Annotated[str, AfterValidator(_is_duration)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GuardrailDefinition(_Strict):
    """A metric that must not get worse by more than ``margin``, a share of the control's mean."""

    margin: float = Field(default=0.0, ge=0, lt=1)


class SegmentDefinition(_Strict):
    """Either an attribute of the ``exposure`` event, or one of the ``user``."""

    exposure: str | None = Field(default=None, min_length=1, max_length=64)
    user: MetricName | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SegmentDefinition:
        if (self.exposure is None) == (self.user is None):
            raise ValueError("exactly one of exposure, user is required")
        return self


class CovariateDefinition(_Strict):
    """What the events of ``metric`` came to in the ``window`` before the first exposure."""

    metric: MetricName
    window: Duration


class InsideDefinition(_Strict):
    """Units within what is randomised; see ``Inside``."""

    entered_by: list[MetricName] = Field(min_length=1)


class SwitchbackDefinition(_Strict):
    """How slices of time are compared; see ``Switchback``."""

    burn_in: Duration | None = None
    block_slices: int = Field(default=1, ge=1, le=100_000)


class AnalysisDefinition(_Strict):
    """What the experiment will be judged by; see ``Analysis``."""

    primary: MetricName
    guardrails: dict[MetricName, GuardrailDefinition] = {}
    secondary: list[MetricName] = []
    segments: dict[MetricName, SegmentDefinition] = {}
    covariates: dict[MetricName, CovariateDefinition] = {}
    control: str = ""
    alpha: float = Field(default=0.05, gt=0, le=0.5)
    method: Method = "fixed"
    correction: Correction = "holm"
    inside: InsideDefinition | None = None
    switchback: SwitchbackDefinition = SwitchbackDefinition()
    planned_units: int | None = Field(default=None, ge=2, le=10**12)


def analysis_of(definition: AnalysisDefinition) -> Analysis:
    """The section as plain data."""
    inside = definition.inside
    return Analysis(
        primary=definition.primary,
        guardrails={k: Guardrail(g.margin) for k, g in definition.guardrails.items()},
        secondary=tuple(definition.secondary),
        segments={k: _segment(s) for k, s in definition.segments.items()},
        covariates={
            k: Covariate(c.metric, duration_ms(c.window)) for k, c in definition.covariates.items()
        },
        control=definition.control,
        alpha=definition.alpha,
        method=definition.method,
        correction=definition.correction,
        inside=None if inside is None else Inside(tuple(inside.entered_by)),
        switchback=_switchback(definition.switchback),
        planned_units=definition.planned_units,
    )


def _switchback(definition: SwitchbackDefinition) -> Switchback:
    burn_in = definition.burn_in
    return Switchback(0 if burn_in is None else duration_ms(burn_in), definition.block_slices)


def _segment(definition: SegmentDefinition) -> Segment:
    if definition.user is not None:
        return Segment("user", definition.user)
    return Segment("exposure", definition.exposure or "")
