"""Which variant a unit is in: a pure function of the definitions and the unit's id.

Bucket of a unit in an experiment, version 1 (frozen: a running experiment must keep every unit
where it is; ``tests/golden/assign_v1.json`` holds values):

    XXH3-64 of UTF-8(salt) + one zero byte + UTF-8(unit id), its upper 53 bits divided by 2**53

Variant i takes the buckets in [c, c + coverage * weight_i), where c is the sum of the weights
before it. So raising the coverage adds units and moves none (the rule is GrowthBook's
``getBucketRanges``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from itertools import accumulate

import xxhash

from services.common.errors import InvalidArgument, NotFound

EVALUATOR_VERSION = 1


class Reason(Enum):
    """Why a unit was, or was not, given a variant."""

    SPLIT = "split"
    NOT_COVERED = "not_covered"
    MISSING_UNIT = "missing_unit"
    NOT_RUNNING = "not_running"
    FORCED = "forced"


@dataclass(frozen=True)
class Variant:
    """One arm. ``objective_weights`` replace the surface's, by objective. ``interleave``: instead,
    the rankings of the two variants of these keys are interleaved. ``bundle``: version of the one
    that answers; empty where the variant leaves that open."""

    key: str
    weight: float
    objective_weights: Mapping[str, float] = field(default_factory=dict)
    interleave: tuple[str, str] | None = None
    bundle: str = ""


@dataclass(frozen=True)
class Experiment:
    """One experiment. ``unit`` is "user" or "device"; the variants' weights sum to 1."""

    key: str
    unit: str
    salt: str
    variants: tuple[Variant, ...]
    coverage: float = 1.0
    running: bool = True
    revision: int = 1
    description: str = ""

    def variant(self, key: str) -> Variant | None:
        """The variant of that key."""
        return next((v for v in self.variants if v.key == key), None)

    @cached_property
    def arms(self) -> list[tuple[str, float, float]]:
        """(variant key, start, end) of each bucket range."""
        ranges = bucket_ranges([v.weight for v in self.variants], self.coverage)
        return [(v.key, *bounds) for v, bounds in zip(self.variants, ranges, strict=True)]


@dataclass(frozen=True)
class Definitions:
    """Experiments by key, in key order. Equal hashes give equal assignments."""

    experiments: Mapping[str, Experiment]
    hash: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """The outcome of one experiment. ``variant_key`` is empty when the unit is not in it;
    ``bucket`` in [0, 1) is None when no hash was computed."""

    experiment_key: str
    variant_key: str
    reason: Reason
    bucket: float | None
    unit_type: str
    revision: int


def bucket_of(salt: str, unit_id: str) -> float:
    """Position of a unit in [0, 1)."""
    digest = xxhash.xxh3_64_intdigest(salt.encode() + b"\0" + unit_id.encode())
    return (digest >> 11) / (1 << 53)


def bucket_ranges(weights: Sequence[float], coverage: float) -> list[tuple[float, float]]:
    """[start, end) of each variant. ``weights`` sum to 1; at full coverage they leave no hole."""
    starts = [0.0, *accumulate(weights)][:-1]
    ranges = [(start, start + coverage * w) for start, w in zip(starts, weights, strict=True)]
    if coverage == 1.0:
        # A sum of weights may fall short of 1 by rounding, and nobody may fall out of the end.
        last = max(i for i, weight in enumerate(weights) if weight > 0)
        ranges[last] = (ranges[last][0], 1.0)
    return ranges


def units_of(user_id: str, device_id: str) -> dict[str, str]:
    """Raw ids of a visitor by unit type; those that are missing are absent."""
    units = {"user": user_id, "device": device_id}
    return {kind: unit_id for kind, unit_id in units.items() if unit_id}


def assign(
    definitions: Definitions,
    units: Mapping[str, str],
    forced: Mapping[str, str] | None = None,
    keys: Collection[str] = (),
) -> list[Assignment]:
    """Assigns one visitor; ``units`` are raw ids by unit type.

    Gives the experiments in ``keys``, or else all that are running, and those in ``forced``
    (variant wanted by experiment), in key order. Raises ``NotFound`` (UNKNOWN_EXPERIMENT) and
    ``InvalidArgument`` (UNKNOWN_VARIANT).
    """
    forced = forced or {}
    experiments = definitions.experiments
    for key in (*keys, *forced):
        if key not in experiments:
            raise NotFound(f"there is no experiment {key!r}", reason="UNKNOWN_EXPERIMENT")
    wanted = [
        experiment
        for experiment in experiments.values()
        if experiment.key in forced or (experiment.key in keys if keys else experiment.running)
    ]
    return [_decide(experiment, units, forced.get(experiment.key)) for experiment in wanted]


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
                    replace(assignment, variant_key=key),
                    *assignments[at + 1 :],
                ]
                for key in variant.interleave
            }
    return {}


def _decide(experiment: Experiment, units: Mapping[str, str], forced: str | None) -> Assignment:
    def outcome(variant_key: str, reason: Reason, bucket: float | None = None) -> Assignment:
        return Assignment(
            experiment.key, variant_key, reason, bucket, experiment.unit, experiment.revision
        )

    if forced is not None:
        if experiment.variant(forced) is None:
            known = ", ".join(v.key for v in experiment.variants)
            raise InvalidArgument.field(
                f"forced_variants.{experiment.key}",
                f"{forced!r} is not one of {known}",
                reason="UNKNOWN_VARIANT",
            )
        return outcome(forced, Reason.FORCED)
    if not experiment.running:
        return outcome("", Reason.NOT_RUNNING)
    unit_id = units.get(experiment.unit)
    if not unit_id:
        return outcome("", Reason.MISSING_UNIT)
    bucket = bucket_of(experiment.salt, unit_id)
    for variant_key, start, end in experiment.arms:
        if start <= bucket < end:
            return outcome(variant_key, Reason.SPLIT, bucket)
    return outcome("", Reason.NOT_COVERED, bucket)
