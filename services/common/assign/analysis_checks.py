"""What is wrong with a registered analysis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.common.assign.model import ENTITY_UNITS, TIME_SLICE, Experiment
from services.common.assign.registered import Analysis, Switchback

if TYPE_CHECKING:
    from services.common.domain import Domain

Found = Iterator[tuple[tuple[int | str, ...], str]]
"""(where in the analysis, what is wrong)."""

_USER = "user"


def analysis_errors(experiment: Experiment, analysis: Analysis, domain: Domain | None) -> Found:
    """What is wrong with an analysis of an experiment; names of metrics, events and attributes are
    checked where the ``domain`` is given."""
    if analysis.control and experiment.variant(analysis.control) is None:
        keys = ", ".join(variant.key for variant in experiment.variants)
        yield ("control",), f"{analysis.control!r} is not one of {keys}"
    if analysis.primary in analysis.guardrails:
        yield ("guardrails", analysis.primary), "is the primary metric already"
    for index, name in enumerate(analysis.secondary):
        if name == analysis.primary or name in analysis.guardrails:
            yield ("secondary", index), f"{name!r} is the primary metric or a guardrail already"
    of_groups = experiment.unit in (*ENTITY_UNITS, TIME_SLICE)
    if analysis.inside is not None and not of_groups:
        yield ("inside",), f"is for hosts, rooms and time slices; the unit is {experiment.unit}"
    if analysis.covariates and experiment.unit == TIME_SLICE and analysis.inside is None:
        yield ("covariates",), "are of who was there before: slices of time need an inside"
    yield from _switchback_errors(experiment, analysis.switchback)
    if domain is not None:
        yield from _reference_errors(analysis, domain)
        if analysis.switchback.burn_in_ms and analysis.inside is None:
            yield from _untimed_errors(analysis, domain)


def _switchback_errors(experiment: Experiment, switchback: Switchback) -> Found:
    if experiment.unit != TIME_SLICE:
        if switchback != Switchback():
            yield ("switchback",), f"is for time slices; the unit is {experiment.unit}"
        return
    if switchback.burn_in_ms >= experiment.slice_ms:
        text = f"must be shorter than a slice, which has {experiment.slice_ms} ms"
        yield ("switchback", "burn_in"), text


def _untimed_errors(analysis: Analysis, domain: Domain) -> Found:
    """A slice that is cut has less time. What is counted can be told by time, and a ratio needs
    none; a share of slices, a quantile and a cut mean can't."""
    for name in analysis.metrics:
        metric = domain.metrics.get(name)
        if metric is None or metric.kind == "ratio":
            continue
        if not (metric.kind == "total" and metric.statistic == "mean"):
            text = (
                f"leaves slices of unlike lengths: {name} needs an inside, to be a total or ratio"
            )
            yield ("switchback", "burn_in"), text


def _reference_errors(analysis: Analysis, domain: Domain) -> Found:
    metrics = f"one of {', '.join(sorted(domain.metrics)) or 'none'}, the metrics of {domain.name}"
    named: list[tuple[tuple[int | str, ...], str]] = [
        (("primary",), analysis.primary),
        *((("guardrails", name), name) for name in analysis.guardrails),
        *((("secondary", index), name) for index, name in enumerate(analysis.secondary)),
        *((("covariates", key, "metric"), c.metric) for key, c in analysis.covariates.items()),
    ]
    for at, name in named:
        if name not in domain.metrics:
            yield at, f"{name!r} is not {metrics}"
    user = domain.entities.get(_USER)
    told = user.attributes if user is not None else {}
    for key, segment in analysis.segments.items():
        if segment.source == "user" and told.get(segment.attribute) != "string":
            at = ("segments", key, "user")
            yield at, f"{segment.attribute!r} is not a string attribute of {_USER}"
    if analysis.inside is not None:
        for index, event in enumerate(analysis.inside.entered_by):
            if event not in domain.events:
                yield ("inside", "entered_by", index), f"{event!r} is not a declared event"
