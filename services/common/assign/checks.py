"""What is wrong with definitions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from services.common.assign.analysis_checks import analysis_errors
from services.common.assign.canonical import (
    EXPERIMENT,
    FLAG,
    LAYER,
    SAVED_GROUP,
    Item,
    item_problem,
    items_of,
)
from services.common.assign.conditions import (
    ConditionError,
    SavedGroups,
    compile_condition,
    known_groups,
)
from services.common.assign.hashing import FNV1, FNV2, XXH3
from services.common.assign.model import (
    ENTITY_UNITS,
    TIME_SLICE,
    UNIT_TYPES,
    Definitions,
    Experiment,
    Prerequisite,
)
from services.common.assign.ranges import overlap

Location = tuple[int | str, ...]
Found = Iterator[tuple[Location, str]]
"""(where, what is wrong)."""

WEIGHT_TOLERANCE = 1e-9
FNV_WEIGHT_TOLERANCE = 0.01
"""GrowthBook's own: weights that sum to 0.99 or 1.01 are taken as they are."""

MAX_CHAIN = 64
"""Most flags and experiments that may need each other in a row."""

MAX_RUNNING = 1_000
"""Most experiments of visitors that run at once."""

HASHES = (XXH3, FNV1, FNV2)

_PLACES = {
    EXPERIMENT: "experiments",
    FLAG: "flags",
    LAYER: "layers",
    SAVED_GROUP: "saved_groups",
}


def place_of(kind: str, key: str) -> Location:
    """Where a definition stands in an experiments file; nowhere for what goes for all."""
    return (_PLACES[kind], key) if kind in _PLACES else ()


def errors_of(definitions: Definitions, objectives: Collection[str] | None = None) -> Found:
    """What is wrong, with where: names of ``definitions``' fields and keys. ``objectives``: those
    that variants may weigh; None for any."""
    groups = known_groups(definitions.saved_groups)
    for key, experiment in definitions.experiments.items():
        at: Location = ("experiments", key)
        yield from _experiment_errors(at, experiment, groups)
        yield from _unit_errors(at, experiment, definitions)
        yield from _version_errors(at, experiment)
        yield from _interleaving_errors(at, experiment)
        yield from _objective_errors(at, experiment, objectives)
        if experiment.analysis is not None:
            for where, problem in analysis_errors(experiment, experiment.analysis, None):
                yield (*at, "analysis", *where), problem
        for index, needed in enumerate(experiment.prerequisites):
            if needed.id not in definitions.experiments and needed.id not in definitions.flags:
                yield (*at, "prerequisites", index, "id"), f"there is no {needed.id!r}"
    for key, flag in definitions.flags.items():
        for number, rule in enumerate(flag.rules):
            here: Location = ("flags", key, "rules", number)
            yield from _condition_errors((*here, "condition"), rule.condition, groups)
            yield from _prerequisite_errors(here, rule.prerequisites)
            if rule.experiment is not None:
                at = (*here, "experiment")
                if rule.experiment.key in definitions.experiments:
                    yield (*at, "key"), f"{rule.experiment.key!r} is an experiment of its own, too"
                yield from _experiment_errors(at, rule.experiment, groups)
    yield from _text_errors(items_of(definitions).values())
    yield from _one_slate_errors(definitions)
    yield from _salt_errors(definitions)
    yield from _layer_errors(definitions)
    yield from _cycle_errors(definitions)


def _text_errors(items: Iterable[Item]) -> Found:
    for item in items:
        problem = item_problem(item)
        if problem is not None:
            yield place_of(item.kind, item.key), problem


def _experiment_errors(at: Location, experiment: Experiment, groups: SavedGroups) -> Found:
    weights = [variant.weight for variant in experiment.variants]
    if experiment.hash not in HASHES:
        yield (*at, "hash"), f"{experiment.hash!r} is not one of {', '.join(HASHES)}"
    if experiment.ranges is None:
        total = math.fsum(weights)
        tolerance = WEIGHT_TOLERANCE if experiment.hash == XXH3 else FNV_WEIGHT_TOLERANCE
        if abs(total - 1) > tolerance + 1e-12:
            yield (*at, "variants"), f"the weights sum to {total:g}, must sum to 1"
    elif len(experiment.ranges) != len(experiment.variants):
        yield (*at, "ranges"), f"must be {len(experiment.variants)}, one a variant"
    elif experiment.ramp:
        yield (*at, "ramp"), "can't go with ranges, which have no coverage"
    else:
        shared = overlap(experiment.ranges)
        if shared is not None and experiment.hash == XXH3:
            yield (*at, "ranges"), f"overlap from {shared[0]:g} to {shared[1]:g}"
    moments = [step.at_ms for step in experiment.ramp]
    if moments != sorted(set(moments)):
        yield (*at, "ramp"), "must be in order of time"
    start_ms, end_ms = experiment.start_ms, experiment.end_ms
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        yield (*at, "end"), "must be after the start"
    if experiment.sticky is not None and any(v.bundle for v in experiment.variants):
        yield (*at, "sticky"), "can't go with bundles: one is chosen before the user's row is read"
    yield from _condition_errors((*at, "condition"), experiment.condition, groups)
    yield from _prerequisite_errors(at, experiment.prerequisites)


def _version_errors(at: Location, experiment: Experiment) -> Found:
    """Units would be out as soon as they are kept. GrowthBook's SDKs do so where a payload says so;
    whoever writes a definition here does not mean it."""
    sticky = experiment.sticky
    if sticky is not None and sticky.min_version > sticky.version:
        yield (*at, "sticky", "min_version"), f"must be at most {sticky.version}"


def _unit_errors(at: Location, experiment: Experiment, all_: Definitions) -> Found:
    unit, other = experiment.unit, experiment.other_unit
    if unit not in UNIT_TYPES and experiment.hash == XXH3 and unit not in all_.common.aliases:
        yield (*at, "unit"), f"{unit!r} is not one of {', '.join(sorted(UNIT_TYPES))}"
    if (unit == TIME_SLICE) != (experiment.slice_ms > 0):
        yield (*at, "slice"), f"is for the unit {TIME_SLICE}, and needed there"
    of_entities = unit in ENTITY_UNITS
    for name in ("condition", "prerequisites", "sticky"):
        if of_entities and getattr(experiment, name):
            yield (*at, name), f"is about a visitor's request, which {unit}s have none of"
    for variant in experiment.variants:
        if variant.value_factor != 1 and not (of_entities or other):
            yield (*at, "variants", variant.key, "value_factor"), "is for hosts and rooms alone"
    if other and (other not in ENTITY_UNITS or unit in (*ENTITY_UNITS, TIME_SLICE)):
        yield (*at, "other_unit"), "must be host or room, and the unit a visitor's"


def _condition_errors(at: Location, condition: object, groups: SavedGroups) -> Found:
    if condition is None:
        return
    try:
        compile_condition(condition, groups)
    except ConditionError as error:
        yield (*at, *error.path), error.problem


def _prerequisite_errors(at: Location, prerequisites: Sequence[Prerequisite]) -> Found:
    for index, needed in enumerate(prerequisites):
        try:
            compile_condition(needed.condition, {})
        except ConditionError as error:
            yield (*at, "prerequisites", index, "condition", *error.path), error.problem


def _interleaving_errors(at: Location, experiment: Experiment) -> Found:
    for variant in experiment.variants:
        if variant.interleave is None:
            continue
        here: Location = (*at, "variants", variant.key)
        if variant.objective_weights:
            yield (*here, "objective_weights"), "are those of the variants that are interleaved"
        if variant.interleave[0] == variant.interleave[1]:
            yield (*here, "interleave"), "must be two different variants"
        for index, key in enumerate(variant.interleave):
            other = experiment.variant(key)
            if other is None or other.interleave is not None:
                yield (
                    (*here, "interleave", index),
                    f"{key!r} is not another variant that does not interleave itself",
                )
            elif other.bundle and other.bundle != variant.bundle:
                yield (*here, "bundle"), f"must be that of {key}: one slate is of one bundle"


def _objective_errors(
    at: Location, experiment: Experiment, objectives: Collection[str] | None
) -> Found:
    if objectives is None:
        return
    for variant in experiment.variants:
        for objective in variant.objective_weights:
            if objective not in objectives:
                yield (
                    (*at, "variants", variant.key, "objective_weights", objective),
                    f"{objective!r} is not one of {', '.join(sorted(objectives))}",
                )


def _one_slate_errors(definitions: Definitions) -> Found:
    """One slate can't do two of these, nor be logged with too many assignments."""
    interleaving = naming = ""
    of_visitors = 0
    for key, experiment in definitions.experiments.items():
        at: Location = ("experiments", key, "running")
        of_visitors += experiment.running and experiment.unit not in ENTITY_UNITS
        if of_visitors > MAX_RUNNING:
            yield at, f"{MAX_RUNNING} run already, the most that one slate is logged with"
            return
        if experiment.running and any(v.interleave for v in experiment.variants):
            if interleaving:
                yield at, f"{interleaving} interleaves, too: one slate can't do both"
            interleaving = key
        if experiment.running and any(v.bundle for v in experiment.variants):
            if naming:
                yield at, f"{naming} names bundles, too: one request is of one bundle"
            naming = key


def _salt_errors(definitions: Definitions) -> Found:
    """Two experiments of one salt would give their variants together."""
    salts: dict[str, tuple[str, ...]] = {}
    named: list[tuple[tuple[str, ...], str]] = [
        (("layers", key), layer.salt) for key, layer in definitions.layers.items()
    ]
    if definitions.common.holdout is not None:
        named.append((("holdout",), definitions.common.holdout.salt))
    for key, experiment in definitions.experiments.items():
        # The hashes of GrowthBook come with whatever salts their experiments have.
        if experiment.hash == XXH3:
            named.append((("experiments", key), experiment.salt))
    for at, salt in named:
        other = salts.setdefault(salt, at)
        if other != at:
            yield (*at, "salt"), f"is also that of {other[-1]}: their variants would go together"


def _layer_errors(definitions: Definitions) -> Found:
    members: dict[str, list[Experiment]] = {}
    for key, experiment in definitions.experiments.items():
        at: Location = ("experiments", key, "layer")
        layer = definitions.layers.get(experiment.layer)
        if not experiment.layer:
            continue
        if layer is None:
            yield (*at, "name"), f"there is no layer {experiment.layer!r}"
        elif layer.unit != experiment.unit:
            yield (*at, "name"), f"is a layer of {layer.unit}s, not of {experiment.unit}s"
        elif experiment.running:
            members.setdefault(layer.key, []).append(experiment)
    for name, experiments in members.items():
        near = _near(experiments)
        for one in experiments if near else ():
            together = [other for other in experiments if _at_once(one, other)]
            total = math.fsum(e - s for other in together for s, e in other.layer_ranges)
            if total > 1 + WEIGHT_TOLERANCE:
                where = ("experiments", one.key, "layer", "ranges")
                yield where, f"layer {name} is given away to {total:.0%}, at most 100% are there"
                break
        for first, second in near:
            one, other = experiments[first], experiments[second]
            shared = overlap((*one.layer_ranges, *other.layer_ranges))
            if _at_once(one, other) and shared is not None:
                where = ("experiments", other.key, "layer", "ranges")
                yield where, f"{shared[0]:g} to {shared[1]:g} is {one.key}'s, too"
        lengths = {experiment.slice_ms for experiment in experiments}
        for one, other in combinations(experiments, 2) if len(lengths) > 1 else ():
            if _at_once(one, other) and one.slice_ms != other.slice_ms:
                why = f"is of another length than {one.key}'s: a layer's slices are all alike"
                yield ("experiments", other.key, "slice"), why


def _near(experiments: Sequence[Experiment]) -> list[tuple[int, int]]:
    """Places of experiments of a layer, two by two, of which one begins before the other ends: of
    all pairs of thousands of them hardly any."""
    ranges = sorted((*r, i) for i, one in enumerate(experiments) for r in one.layer_ranges)
    found: set[tuple[int, int]] = set()
    for place, (_, end, one) in enumerate(ranges):
        later = place + 1
        while later < len(ranges) and ranges[later][0] < end:
            other = ranges[later][2]
            later += 1
            if one == other:
                # What overlaps itself is told at each of the others.
                found |= {(min(one, i), max(one, i)) for i in range(len(experiments)) if i != one}
            else:
                found.add((min(one, other), max(one, other)))
    return sorted(found)


def _at_once(one: Experiment, other: Experiment) -> bool:
    """Whether two schedules have a moment in common."""
    starts = (one.start_ms or 0, other.start_ms or 0)
    ends = [e.end_ms if e.end_ms is not None else math.inf for e in (one, other)]
    return max(starts) < min(ends)


def _cycle_errors(definitions: Definitions) -> Found:
    """What needs itself, over others."""
    needs: dict[str, Collection[str]] = {
        **{k: [p.id for p in e.prerequisites] for k, e in definitions.experiments.items()},
        **{
            k: [
                p.id
                for rule in flag.rules
                for p in (
                    *rule.prerequisites,
                    *(rule.experiment.prerequisites if rule.experiment is not None else ()),
                )
            ]
            for k, flag in definitions.flags.items()
        },
    }
    cleared: dict[str, None] = {}
    for key in needs:
        cycle = _cycle_from(key, needs, cleared)
        if cycle:
            kind = "flags" if cycle[0] in definitions.flags else "experiments"
            yield (kind, cycle[0]), f"needs itself: {' needs '.join(cycle)}"
            return
    lengths: dict[str, int] = {}
    # What is needed comes before what needs it.
    for key in cleared:
        lengths[key] = 1 + max((lengths.get(other, 0) for other in needs.get(key, ())), default=0)
        if lengths[key] > MAX_CHAIN:
            kind = "flags" if key in definitions.flags else "experiments"
            yield (kind, key), f"needs more than {MAX_CHAIN - 1} others, one after another"
            return


def _cycle_from(
    start: str, needs: Mapping[str, Collection[str]], cleared: dict[str, None]
) -> list[str]:
    """A cycle that is reached from ``start``, its first key again at the end; or nothing.

    ``cleared`` takes what needs no cycle, each after all that it needs.
    """
    path: list[str] = []
    walking = [(start, iter(needs.get(start, ())))]
    path.append(start)
    while walking:
        key, others = walking[-1]
        following = next((other for other in others if other not in cleared), None)
        if following is None:
            cleared[key] = None
            walking.pop()
            path.pop()
        elif following in path:
            return [*path[path.index(following) :], following]
        else:
            path.append(following)
            walking.append((following, iter(needs.get(following, ()))))
    return []
