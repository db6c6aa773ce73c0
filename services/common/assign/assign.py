"""Which variants somebody is in: one pure function of the definitions and of who asks.

Where GrowthBook's public specification of its SDKs speaks, it is followed to the letter (hashes
``fnv1`` and ``fnv2``, ranges, namespaces, filters, conditions, prerequisites, sticky buckets,
flags). Beside it stand the hash ``xxh3``, layers, the global holdout, kill switches, schedules,
steps of coverage, and units other than the visitor.

In order: forced by the caller; not known here; not running; killed; outside its schedule; no unit;
held out; not in the layer; then, unless a sticky document says which variant: filters or namespace,
attributes that are needed, the condition, prerequisites, and the bucket.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from services.common.assign.asking import Asking
from services.common.assign.compiled import Compiled
from services.common.assign.hashing import bucket_of
from services.common.assign.model import (
    EVALUATOR_VERSION,
    Assignment,
    Common,
    Context,
    Definitions,
    Evaluation,
    Experiment,
    Filter,
    Flag,
    FlagValue,
    Holdout,
    Layer,
    Prerequisite,
    Reason,
    Rollout,
    Rule,
    Step,
    Sticky,
    StickyDocument,
    Variant,
)
from services.common.assign.ranges import bucket_ranges
from services.common.errors import InvalidArgument, NotFound

__all__ = [
    "EVALUATOR_VERSION",
    "Assignment",
    "Common",
    "Context",
    "Definitions",
    "Evaluation",
    "Experiment",
    "Filter",
    "Flag",
    "FlagValue",
    "Holdout",
    "Layer",
    "Prerequisite",
    "Reason",
    "Rollout",
    "Rule",
    "Step",
    "Sticky",
    "StickyDocument",
    "Variant",
    "assign",
    "bucket_of",
    "bucket_ranges",
    "bundle_wanted",
    "evaluate",
    "evaluate_flag",
    "interleaved",
    "objective_weights",
    "units_of",
]


def units_of(user_id: str, device_id: str) -> dict[str, str]:
    """Raw ids of a visitor by unit type; those that are missing are absent."""
    units = {"user": user_id, "device": device_id}
    return {kind: unit_id for kind, unit_id in units.items() if unit_id}


def evaluate(definitions: Definitions, context: Context, keys: Collection[str] = ()) -> Evaluation:
    """Assigns somebody, and tells which sticky documents changed.

    Gives the experiments in ``keys``, or else all that are running, and those forced, in key order;
    those that flags run among them. Raises ``NotFound`` (UNKNOWN_EXPERIMENT) and
    ``InvalidArgument`` (UNKNOWN_VARIANT).
    """
    compiled = definitions.compiled
    if keys or context.forced:
        _require_known(compiled, keys, context.forced)
    asking = Asking(context, definitions.common.aliases)
    forced = context.forced
    if keys or forced:
        found = [
            decider.decide(asking)
            for key, decider in compiled.deciders.items()
            if (key in keys if keys else decider.is_running) or key in forced
        ]
    else:
        found = compiled.decide(asking)
    if compiled.in_flags:
        found += [
            compiled.assigned_in_flags(key, asking)
            for key in compiled.in_flags
            if not keys or key in keys or key in forced
        ]
        found.sort()
    return Evaluation(found, asking.changes)


def evaluate_flag(definitions: Definitions, key: str, context: Context) -> FlagValue:
    """What a flag has for somebody, as GrowthBook's ``evalFeature`` tells it."""
    return definitions.compiled.flag(key, Asking(context, definitions.common.aliases))


def assign(
    definitions: Definitions,
    units: Mapping[str, str],
    forced: Mapping[str, str] | None = None,
    keys: Collection[str] = (),
    *,
    attributes: Mapping[str, object] | None = None,
    now_ms: int = 0,
) -> list[Assignment]:
    """Assigns one visitor without sticky documents; ``units`` are raw ids by unit type. As
    ``evaluate``."""
    context = Context(units, attributes or {}, forced or {}, None, now_ms)
    return evaluate(definitions, context, keys).assignments


def objective_weights(
    definitions: Definitions, assignments: Sequence[Assignment]
) -> dict[str, float]:
    """Objective weights that the variants replace; a later experiment in key order wins.

    A variant that interleaves counts as the first of its two.
    """
    replaced: dict[str, float] = {}
    for assignment in assignments:
        experiment = definitions.experiments.get(assignment.experiment_key)
        variant = experiment.variant(assignment.variant_key) if experiment else None
        if experiment is not None and variant is not None and variant.interleave is not None:
            variant = experiment.variant(variant.interleave[0])
        if variant is not None:
            replaced.update(variant.objective_weights)
    return replaced


def bundle_wanted(definitions: Definitions, assignments: Sequence[Assignment]) -> str:
    """Version of the bundle that the variants name, a later experiment's in key order; or empty."""
    wanted = ""
    for assignment in assignments:
        experiment = definitions.experiments.get(assignment.experiment_key)
        variant = experiment.variant(assignment.variant_key) if experiment else None
        if variant is not None and variant.bundle:
            wanted = variant.bundle
    return wanted


def interleaved(
    definitions: Definitions, assignments: Sequence[Assignment]
) -> dict[str, list[Assignment]]:
    """Assignments of the two rankings to interleave, by the variant that is credited.

    Empty where no variant interleaves; of several experiments the last in key order counts.
    """
    for at in reversed(range(len(assignments))):
        assignment = assignments[at]
        experiment = definitions.experiments.get(assignment.experiment_key)
        variant = experiment.variant(assignment.variant_key) if experiment else None
        if variant is not None and variant.interleave is not None:
            return {
                key: [
                    *assignments[:at],
                    assignment._replace(variant_key=key),
                    *assignments[at + 1 :],
                ]
                for key in variant.interleave
            }
    return {}


def _require_known(compiled: Compiled, keys: Collection[str], forced: Mapping[str, str]) -> None:
    for key in (*keys, *forced):
        if key not in compiled.deciders and key not in compiled.in_flags:
            raise NotFound(f"there is no experiment {key!r}", reason="UNKNOWN_EXPERIMENT")
    for key, variant in forced.items():
        known = compiled.variants(key)
        if variant not in known:
            raise InvalidArgument.field(
                f"forced_variants.{key}",
                f"{variant!r} is not one of {', '.join(known)}",
                reason="UNKNOWN_VARIANT",
            )
