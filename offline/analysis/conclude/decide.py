"""What may be concluded from metrics, health and the plan: the decision with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from offline.analysis.model import (
    SAMPLE_RATIO,
    Decision,
    Effect,
    Finding,
    Metric,
    Outcome,
    Period,
    Preference,
    Reason,
)
from offline.analysis.wording import day, interval, listed, of_unit, readable, share

_Fate = Literal["ship", "harmed", "unsafe", "worse", "undecided"]


@dataclass(frozen=True)
class Standing:
    """What, beside figures, decides whether anything may be concluded. ``looks`` is as in
    ``Method``; ``exposed`` counts units, ``excluded`` those that are left out."""

    registered: bool
    looks: Literal["fixed", "always_valid"]
    period: Period
    control: str
    exposed: int
    excluded: int

    @property
    def ended(self) -> bool:
        """Whether all windows of units exposed until the planned end have ended."""
        horizon_ms = self.period.horizon_ms
        return horizon_ms is not None and self.period.as_of_ms >= horizon_ms

    @property
    def too_early(self) -> bool:
        """Whether a look counts only later, or never: a fixed plan that has not ended."""
        return self.looks == "fixed" and not self.ended


def decide(
    standing: Standing,
    health: Sequence[Finding],
    metrics: Sequence[Metric],
    preferences: Sequence[Preference],
) -> Decision:
    """The decision. ``metrics`` hold the primary one.

    In this order: arms of the wrong sizes, nothing exposed or mature, two rankings in one slate
    alone, a plan of afterwards, arms that differed before exposure, and looks that are too early
    conclude nothing. Then a variant whose primary metric is better and whose guardrails hold is to
    be shipped; the best of them by relative change.
    """
    primary = next(metric for metric in metrics if metric.role == "primary")
    blocked = _blocked(standing, health, primary, preferences)
    if blocked is not None:
        return blocked
    guardrails = [metric for metric in metrics if metric.role == "guardrail"]
    fates = {e.variant: _fate(e, _of(guardrails, e.variant)) for e in primary.effects}
    good = [effect for effect in primary.effects if fates[effect.variant] == "ship"]
    if good:
        return _shipped(max(good, key=lambda e: _gain(e, primary)), primary, guardrails)
    reasons = [
        _reason(effect, fates[effect.variant], primary, guardrails, standing.control)
        for effect in primary.effects
    ]
    variants = [effect.variant for effect in primary.effects]
    one = variants[0] if len(variants) == 1 else None
    if all(fate in {"worse", "harmed"} for fate in fates.values()):
        return Decision("do_not_ship", one, tuple(reasons))
    if not standing.ended:
        text = "It can't be decided yet."
        return Decision("keep_running", one, (Reason("undecided", text), *reasons))
    if "unsafe" in fates.values():
        return Decision("do_not_ship", one, tuple(reasons))
    undecided_first = sorted(reasons, key=lambda reason: reason.code != "no_difference_shown")
    return Decision("no_conclusion", None, tuple(undecided_first))


def _blocked(
    standing: Standing,
    health: Sequence[Finding],
    primary: Metric,
    preferences: Sequence[Preference],
) -> Decision | None:
    alarms = [f for f in health if f.level == "alarm"]
    for finding in alarms:
        if finding.check == SAMPLE_RATIO:
            return _nothing("sample_ratio", finding.text)
    if not standing.exposed:
        left_out = f" {standing.excluded:,} units are left out." if standing.excluded else ""
        return _nothing("nothing_exposed", f"Nobody was exposed yet.{left_out}")
    if not primary.effects:
        return _nothing("interleaving", _preferred(preferences))
    period = standing.period
    if not any(mean.units for mean in primary.means):
        text = f"No window of {readable(primary.name)} has ended yet."
        return _nothing("no_mature_units", text, "keep_running")
    if not standing.registered:
        text = "The plan was made up after the start: what it finds is an idea, not a result."
        return _nothing("not_registered", text)
    if any(finding.check == "self_check" for finding in alarms):
        text = "The arms differed before anybody was exposed: a difference now may be that one."
        return _nothing("not_alike_before", text)
    if standing.too_early and period.planned_end_ms is None:
        text = "The plan allows one look, at its end, and names no end: any look may be too early."
        return _nothing("no_horizon", text)
    if standing.too_early:
        text = (
            f"This is a look before {day(period.horizon_ms, period.time_zone)}, when the last"
            " windows end. The plan allows one look, then: nothing is concluded from this one."
        )
        return _nothing("peek", text, "keep_running")
    if all(effect.verdict == "not_measured" for effect in primary.effects):
        return _nothing("not_measured", f"{readable(primary.name)} could not be compared.")
    return None


def _nothing(code: str, text: str, outcome: Outcome = "no_conclusion") -> Decision:
    return Decision(outcome, None, (Reason(code, text),))


def _fate(effect: Effect, guardrails: Sequence[Effect]) -> _Fate:
    verdicts = {guardrail.verdict for guardrail in guardrails}
    if effect.verdict == "worse":
        return "worse"
    if "broken" in verdicts:
        return "harmed"
    if effect.verdict != "better":
        return "undecided"
    return "ship" if verdicts <= {"held", "no_harm_shown"} else "unsafe"


def _of(metrics: Sequence[Metric], variant: str) -> list[Effect]:
    return [effect for metric in metrics for effect in metric.effects if effect.variant == variant]


def _gain(effect: Effect, metric: Metric) -> float:
    change_of = effect.effect.relative if effect.effect.relative is not None else 0.0
    return change_of if metric.direction == "increase" else -change_of


def _shipped(effect: Effect, primary: Metric, guardrails: Sequence[Metric]) -> Decision:
    reasons = [Reason("primary_better", _changed(effect, primary))]
    held = [readable(m.name) for m in guardrails if _verdict(m, effect.variant) == "held"]
    unharmed = [
        readable(m.name) for m in guardrails if _verdict(m, effect.variant) == "no_harm_shown"
    ]
    if held:
        within = "its margin" if len(held) == 1 else "their margins"
        reasons.append(
            Reason("guardrails_held", f"{_capital(listed(held))} stayed within {within}.")
        )
    if unharmed:
        text = f"No harm to {listed(unharmed)} was shown."
        reasons.append(Reason("no_harm_shown", text))
    return Decision("ship", effect.variant, tuple(reasons))


def _reason(
    effect: Effect, fate: _Fate, primary: Metric, guardrails: Sequence[Metric], control: str
) -> Reason:
    if fate == "worse":
        return Reason("primary_worse", _changed(effect, primary))
    if fate == "harmed":
        broken = [m for m in guardrails if _verdict(m, effect.variant) == "broken"]
        texts = [
            _changed(_only(m, effect.variant), m, short=place > 0) for place, m in enumerate(broken)
        ]
        return Reason("guardrail_broken", " ".join(texts))
    if fate == "unsafe":
        open_ones = [
            f"{readable(m.name)} loses less than {share(m.margin)}"
            for m in guardrails
            if _verdict(m, effect.variant) not in {"held", "no_harm_shown"}
        ]
        text = f"{_changed(effect, primary)} But it is not shown that {listed(open_ones)}."
        return Reason("guardrail_not_shown", text)
    within = interval(effect.effect, primary.unit)
    text = (
        f"No difference in {readable(primary.name)} was shown between “{effect.variant}” and"
        f" “{control}”: the change may be anything from {within}."
    )
    return Reason("no_difference_shown", text)


def _changed(effect: Effect, metric: Metric, *, short: bool = False) -> str:
    estimate = effect.effect.estimate or 0.0
    did = "raised" if estimate > 0 else "lowered"
    size = effect.effect.relative
    by = share(abs(size)) if size is not None else of_unit(abs(estimate), metric.unit)
    subject = "It" if short else f"“{effect.variant}”"
    allowed = ""
    if metric.role == "guardrail" and metric.margin:
        allowed = f", where {share(metric.margin)} is put up with"
    return f"{subject} {did} {readable(metric.name)} by {by}{allowed}."


def _preferred(preferences: Sequence[Preference]) -> str:
    if not preferences:
        return "There is no variant to compare with the control."
    first = preferences[0]
    better, other = first.treatment, first.control
    if first.preference < 0:
        better, other = other, better
    persons = (
        f"{share(0.5 + abs(first.preference))} of persons, those to whom both brought the same"
        f" counted half (p = {first.p_value:.2g}),"
    )
    of = readable(first.metric)
    if first.lower <= 0 <= first.upper:
        return (
            f"Neither ranking is shown to be preferred by {of}: {persons} got more from items of"
            f" “{better}” than of “{other}”."
        )
    return f"By {of} “{better}” is preferred to “{other}”: {persons} got more from its items."


def _verdict(metric: Metric, variant: str) -> str:
    return _only(metric, variant).verdict


def _only(metric: Metric, variant: str) -> Effect:
    return next(effect for effect in metric.effects if effect.variant == variant)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
