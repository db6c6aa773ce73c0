"""What may not change while experiments run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.common.assign.checks import Found
from services.common.assign.model import EVALUATOR_VERSION, Definitions, Experiment

_NAMED = 3
"""Experiments that a message names."""


def change_errors(before: Definitions, after: Definitions) -> Found:
    """What changed of running experiments that would move their units, or the goal."""
    for key, old in before.experiments.items():
        new = after.experiments.get(key)
        if new is None or new == old or old.evaluator_version != EVALUATOR_VERSION:
            continue
        yield from _experiment_errors(old, new)
    for name, layer in before.layers.items():
        running = [
            key
            for key, old in before.experiments.items()
            if old.layer == name
            and old.running
            and key in after.experiments
            and after.experiments[key].running
        ]
        if running and name in after.layers and after.layers[name].salt != layer.salt:
            yield ("layers", name, "salt"), f"can't change while {', '.join(running)} runs"
    yield from _holdout_errors(before, after)


def _experiment_errors(old: Experiment, new: Experiment) -> Found:
    at = ("experiments", old.key)
    if new.revision <= old.revision:
        yield (*at, "revision"), f"must be above {old.revision}: the definition changed"
    if not (old.running and new.running):
        return
    for name in ("salt", "unit", "hash", "slice_ms", "other_unit", "layer", "namespace"):
        if getattr(old, name) != getattr(new, name):
            yield (*at, name), "can't change while the experiment runs: it would move its units"
    if old.analysis != new.analysis:
        yield (*at, "analysis"), "can't change while the experiment runs: it says what decides"
    arms = _arms(old)
    if arms and arms != _arms(new):
        where = (*at, "variants")
        yield where, "can't change their ranges while the experiment runs: units would move"


def _holdout_errors(before: Definitions, after: Definitions) -> Found:
    """A holdout may grow: its units leave, as with a lowered coverage. Those that left it would be
    in experiments that it is to be compared with."""
    old, new = before.common.holdout, after.common.holdout
    if old is None or old == new:
        return
    then, now = _splitting(before), _splitting(after)
    running = [key for key in then if key in now]
    if not running:
        return
    more = len(running) - _NAMED
    names = ", ".join(running[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    if new is None:
        yield ("holdout",), f"can't go while {names} runs: its units would be in it"
    elif new.salt != old.salt:
        yield ("holdout", "salt"), f"can't change while {names} runs: units would move"
    elif new.share < old.share:
        why = f"must be at least {old.share:g} while {names} runs: units would move into it"
        yield ("holdout", "share"), why


def _splitting(definitions: Definitions) -> Sequence[str]:
    """Running experiments that leave the holdout out and split the others, those that flags run
    among them. One that is rolled out has an arm for all: who comes to it later was in no other."""
    return [
        experiment.key
        for experiment in _all(definitions)
        if experiment.running
        and experiment.holdout
        and sum(end > start for _, start, end in _arms(experiment)) > 1
    ]


def _all(definitions: Definitions) -> Iterator[Experiment]:
    yield from definitions.experiments.values()
    for flag in definitions.flags.values():
        yield from (rule.experiment for rule in flag.rules if rule.experiment is not None)


def _arms(experiment: Experiment) -> list[tuple[str, float, float]]:
    """Arms at full coverage, which ramps and raised coverage leave alone; none of an experiment
    that nobody can be in."""
    try:
        return experiment.arms_at(1.0)
    except ValueError:
        return []
