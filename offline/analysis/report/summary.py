"""A report in a few sentences, for who has no time for statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from offline.analysis import wording
from offline.analysis.model import Effect, Metric, Report

Tone = Literal["good", "bad", "waiting", "none"]

TONES: dict[str, Tone] = {
    "ship": "good",
    "do_not_ship": "bad",
    "keep_running": "waiting",
    "no_conclusion": "none",
}
# What is told at the top of each variant; the others are told in the table.
MOST_VARIANTS = 3
# Where nothing is concluded for these reasons, figures at the top would be taken for results.
_UNSURE = {
    "peek": (
        "Not at all yet. Effects of a look before the end come and go, and who stops on a good day"
        " finds effects that are not there."
    ),
    "no_horizon": (
        "Not at all. Who may look on any day and stop on a good one finds effects that are not"
        " there."
    ),
    "not_alike_before": "Not at all: the arms were not alike to begin with.",
    "not_registered": (
        "Less than the figures below say: who looks at many metrics finds some that differ by"
        " chance."
    ),
}

_NEXT = {
    "sample_ratio": (
        "Find out where units are lost or counted twice before looking at any figure. The figures"
        " are left out here on purpose; after the repair, start again with a new salt."
    ),
    "nothing_exposed": (
        "See whether the experiment is running, whether its condition lets anybody in, and whether"
        " exposures reach the event log."
    ),
    "no_mature_units": "Ask again when the first windows have ended.",
    "not_alike_before": (
        "Find out why the arms differed before anybody was exposed; what is seen afterwards may be"
        " the same difference."
    ),
    "not_registered": (
        "Take this as an idea. To conclude anything, register the metric as primary and run a new"
        " experiment."
    ),
    "no_horizon": (
        "Register when the experiment ends, or the method always_valid, which allows any number of"
        " looks."
    ),
    "peek": "Leave it running as it is; change neither shares nor variants, and look then.",
    "undecided": "Leave it running as it is; change neither shares nor variants.",
    "interleaving": (
        "Run the ranking that is preferred as a variant of its own: only that tells what it does to"
        " the metrics."
    ),
    "not_measured": "See the notes for why there was nothing to compare.",
    "no_difference_shown": (
        "Keep the control, or plan a larger experiment if a change as small as the interval still"
        " allows would be worth it."
    ),
    "guardrail_broken": "Find out what harms the guardrail; do not ship the variant as it is.",
    "guardrail_not_shown": (
        "Look at the guardrail before shipping: the experiment was too small to show that it holds."
    ),
    "primary_worse": "Keep the control.",
    "primary_better": "Give the variant to everybody, conclude the experiment, and watch on.",
}


@dataclass(frozen=True)
class Summary:
    """The sentences. ``headline`` is the decision; the others answer what was tested, whether it
    worked, how sure that is, and what comes next."""

    tone: Tone
    headline: str
    tested: str
    worked: tuple[str, ...]
    sure: tuple[str, ...]
    next_step: tuple[str, ...]


def summary(report: Report) -> Summary:
    """The sentences of ``report``. Where the sample ratio alarms they tell nothing of effects."""
    decision = report.decision
    return Summary(
        tone="bad" if report.withheld else TONES[decision.outcome],
        headline=_headline(report),
        tested=_tested(report),
        worked=tuple(reason.text for reason in decision.reasons),
        sure=(*_sure(report), *_doubts(report)),
        next_step=_next_step(report),
    )


def _next_step(report: Report) -> tuple[str, ...]:
    codes = [reason.code for reason in report.decision.reasons]
    if report.decision.outcome == "keep_running":
        codes = codes[:1]
    steps = [_NEXT[code] for code in codes if code in _NEXT]
    if _doubts(report):
        steps = ["Find out what set off the alarm before acting on any figure.", *steps]
    return tuple(dict.fromkeys(steps))[:2]


def _doubts(report: Report) -> tuple[str, ...]:
    """Alarms that hold no conclusion back; nothing where one does, which tells its alarm."""
    blocking = {"sample_ratio", "not_alike_before"}
    if any(reason.code in blocking for reason in report.decision.reasons):
        return ()
    alarms = dict.fromkeys(f.text for f in report.health if f.level == "alarm")
    return tuple(f"An alarm casts doubt on every figure: {text}" for text in alarms)


def _headline(report: Report) -> str:
    decision = report.decision
    first = decision.reasons[0].code
    if decision.outcome == "ship":
        return f"Ship “{decision.variant}”"
    if decision.outcome == "do_not_ship":
        return f"Do not ship “{decision.variant}”" if decision.variant else "Do not ship"
    if decision.outcome == "keep_running":
        return "Too early: keep it running" if first == "peek" else "Keep it running"
    if report.withheld:
        return "No conclusion: the arms are not alike"
    if first == "interleaving":
        return "No conclusion yet: two rankings were compared in one slate"
    if first == "no_difference_shown":
        return "No conclusion: no difference was shown"
    return "No conclusion can be drawn"


def _tested(report: Report) -> str:
    period = report.period
    variants = [f"“{arm.variant}”" for arm in report.arms]
    if len(variants) > MOST_VARIANTS + 2:
        others = f"{len(variants) - 1} variants"
    else:
        others = wording.listed(variants[1:]) if variants[1:] else "nothing"
    control = report.experiment.control
    compares = f"Compares {others} with the control"
    if control != "control":
        compares = f"Compares {others} with “{control}”, the control"
    if period.first_exposure_ms is None:
        return f"{compares}. Nobody was exposed yet."
    first, last = period.first_exposure_ms, period.last_exposure_ms
    text = (
        f"{compares}, over {_units(report)} exposed from {wording.day(first, period.time_zone)} to"
        f" {wording.day(last, period.time_zone)}."
    )
    primary = report.primary
    if primary is not None:
        text += f" What decides is {wording.readable(primary.name)}: {primary.definition}."
    return text


def _units(report: Report) -> str:
    experiment = report.experiment
    units = sum(arm.units for arm in report.arms)
    if experiment.cluster is None:
        return f"{units:,} {_plural(experiment.unit, units)}"
    if report.method.design == "two_sided":
        return f"{units:,} pairs of a {experiment.unit} and a {experiment.cluster}"
    clusters = sum(arm.clusters or 0 for arm in report.arms)
    return f"{units:,} persons in {clusters:,} {_plural(experiment.cluster, clusters)}"


def _sure(report: Report) -> tuple[str, ...]:
    primary = report.primary
    if report.withheld:
        return ("The arms are not alike, so that no figure of them can be believed.",)
    first = report.decision.reasons[0].code
    if first in _UNSURE:
        return (_UNSURE[first],)
    if report.preferences and not (primary and primary.effects):
        told = report.preferences[0]
        lower, upper = (wording.share(0.5 + end) for end in (told.lower, told.upper))
        within = wording.between(lower, upper)
        level = f"{1 - report.method.alpha:.0%}"
        return (
            f"With {level} confidence {within} of persons prefer “{told.treatment}”, those without"
            " a preference counted half.",
        )
    if primary is None or not any(e.effect.estimate is not None for e in primary.effects):
        return ("There is nothing to be sure of yet.",)
    shown = _shown(report, primary)
    sentences = [_interval(report, primary, effect) for effect in shown]
    if len(primary.effects) > len(shown):
        more = len(primary.effects) - len(shown)
        sentences.append(f"{more} more {'is' if more == 1 else 'are'} in the table below.")
    if report.method.looks == "always_valid":
        sentences.append("That holds however often and whenever one looks.")
    return tuple(sentences)


def _shown(report: Report, primary: Metric) -> list[Effect]:
    """The decision's variant, or else the first few."""
    chosen = [e for e in primary.effects if e.variant == report.decision.variant]
    return chosen or list(primary.effects[:MOST_VARIANTS])


def _interval(report: Report, primary: Metric, effect: Effect) -> str:
    within = wording.interval(effect.effect, primary.unit)
    if within == wording.NONE:
        return f"Of “{effect.variant}” nothing is known yet."
    text = (
        f"With {1 - report.method.alpha:.0%} confidence “{effect.variant}” changes"
        f" {wording.readable(primary.name)} by {within}."
    )
    # Who looks again and again sees any chance sooner or later.
    if effect.chances is not None and report.method.looks == "fixed":
        chance = wording.chance(effect.chances.better)
        text += f" The chance that it is better than the control is {chance}."
    return text


def _plural(unit: str, units: int) -> str:
    name = {"time_slice": "slice of time"}.get(unit, unit)
    if units == 1:
        return name
    return "slices of time" if unit == "time_slice" else f"{name}s"
