"""What one experiment decides: its definition worked out once, then a few comparisons a unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from services.common.assign.asking import Asking
from services.common.assign.conditions import (
    ConditionError,
    Predicate,
    SavedGroups,
    attributes_named,
)
from services.common.assign.conditions import compile_condition as compiled_condition
from services.common.assign.hashing import Bucket, Hashes
from services.common.assign.model import (
    EVALUATOR_VERSION,
    TIME_SLICE,
    Assignment,
    Common,
    Experiment,
    Filter,
    Layer,
    Prerequisite,
    Reason,
)
from services.common.assign.ranges import Range, within
from services.common.assign.sticky import BLOCKED, NOT_FOUND, StickyBuckets

PrerequisiteValue = Callable[[Asking, str], object]
"""What the flag or experiment of an id has for somebody, None where it has nothing."""

# Looking up a member of an enum takes as long as hashing a unit.
_SPLIT = Reason.SPLIT
_NOT_COVERED = Reason.NOT_COVERED
_tuple = tuple.__new__

Arms = Sequence[tuple[str, float, float]]

Decision = Callable[[Asking], Assignment]
"""Assigns whoever asks in one experiment."""

Namespace = tuple[Bucket | None, Sequence[Range]]
"""Whose buckets by this hash lie in the ranges."""


class Filters:
    """Lets units in by other hashes than the experiment's own."""

    def __init__(self, filters: Sequence[Filter], hashes: Hashes) -> None:
        self._filters = [(f.unit, hashes.bucketing(f.hash, f.salt), f.ranges) for f in filters]

    def lets_in(self, asking: Asking) -> bool:
        """Whether a unit passes all."""
        for unit, bucket, ranges in self._filters:
            unit_id = asking.unit_id(unit)
            if not unit_id or bucket is None or not within(bucket(unit_id), ranges):
                return False
        return True


class Prerequisites:
    """What other flags and experiments must have."""

    def __init__(
        self,
        prerequisites: Sequence[Prerequisite],
        value_of: PrerequisiteValue,
        refused: list[ConditionError],
    ) -> None:
        self._tests = [
            (p.id, compiled_condition(p.condition, {}, refused), p.gate) for p in prerequisites
        ]
        self._value_of = value_of

    def failed(self, asking: Asking) -> Prerequisite | None:
        """The first that fails."""
        for key, test, gate in self._tests:
            if not test({"value": self._value_of(asking, key)}):
                return Prerequisite(key, gate=gate)
        return None


class Decider:
    """Decides for one experiment. ``refused``: patterns of its conditions that are found nowhere.
    Raises ``ConditionError`` for a malformed condition."""

    def __init__(
        self,
        experiment: Experiment,
        common: Common,
        layers: Mapping[str, Layer],
        groups: SavedGroups,
        value_of: PrerequisiteValue,
        hashes: Hashes,
    ) -> None:
        bucketing = hashes.bucketing
        self.refused: list[ConditionError] = []
        self.experiment = experiment
        self.key = experiment.key
        self.is_running = experiment.running
        self._common = common
        self._layer = layers.get(experiment.layer)
        self._layer_bucket = None if self._layer is None else bucketing("xxh3", self._layer.salt)
        self._bucket = bucketing(experiment.hash, experiment.salt)
        self.is_supported = (
            experiment.evaluator_version == EVALUATOR_VERSION
            and self._bucket is not None
            and (not experiment.layer or self._layer is not None)
        )
        self._never = self._that_never_changes()
        self._plain: Decision | None = None
        self.decide_plainly: Decision = self.decide
        """For a caller who forces nothing and brings no sticky documents."""
        self.is_sticky = experiment.sticky is not None
        if not self.is_supported:
            return
        self._missing = self._outcome("", Reason.MISSING_UNIT)
        self._not_in_layer = self._outcome("", Reason.NOT_IN_LAYER)
        self._not_targeted = self._outcome("", Reason.NOT_TARGETED)
        self._arms: Arms = experiment.arms
        self._steps = [
            (step.at_ms, experiment.arms_at(step.coverage)) for step in reversed(experiment.ramp)
        ]
        self._has_schedule = experiment.start_ms is not None or experiment.end_ms is not None
        holdout = common.holdout if experiment.holdout else None
        self._holdout = holdout
        self._holdout_bucket = None if holdout is None else bucketing("xxh3", holdout.salt)
        self._sticky = StickyBuckets(experiment, experiment.sticky) if experiment.sticky else None
        self._condition = self._compiled_condition(groups)
        self._needed = tuple(
            name
            for name in dict.fromkeys(attributes_named(experiment.condition))
            if name in common.from_features
        )
        self._filters = Filters(experiment.filters, hashes) if experiment.filters else None
        self._namespace: Namespace | None = None
        if experiment.namespace is not None and self._filters is None:
            name, start, end = experiment.namespace
            self._namespace = (bucketing("fnv1", f"__{name}"), ((start, end),))
        self._prerequisites = (
            Prerequisites(experiment.prerequisites, value_of, self.refused)
            if experiment.prerequisites
            else None
        )
        self._is_targeted = any(
            part is not None
            for part in (self._condition, self._filters, self._namespace, self._prerequisites)
        )
        other = experiment.other_unit
        self._other_bucket = bucketing(experiment.hash, other_salt(experiment)) if other else None
        self._plain = self._in_one_step()
        if self._plain is not None:
            self.decide_plainly = self._plain

    def decide(self, asking: Asking) -> Assignment:
        """The assignment. A variant forced by the caller is taken for granted."""
        experiment = self.experiment
        if asking.forced:
            forced = asking.forced.get(self.key)
            if forced is not None:
                return self._outcome(forced, Reason.FORCED)
        elif self._plain is not None and (asking.sticky is None or not self.is_sticky):
            return self._plain(asking)
        if self._never is not None:
            return self._never
        if self._has_schedule and not self._is_scheduled(asking.now_ms):
            return self._outcome("", Reason.NOT_SCHEDULED)
        sticky = None
        if self._sticky is not None and asking.sticky is not None:
            sticky = self._sticky
            unit, unit_id = sticky.unit_of(asking)
        else:
            unit = experiment.unit
            unit_id = asking.units.get(unit) or self._unit_id(asking)
        if not unit_id:
            return self._missing
        if self._holdout is not None and self._is_held_out(asking, unit_id):
            return self._outcome("", Reason.HOLDOUT)
        if self._layer is not None and not self._is_in_layer(asking, unit_id):
            return self._not_in_layer
        kept = NOT_FOUND if sticky is None else sticky.found(asking)
        if self._is_targeted and kept < 0 and (refused := self._refusal(asking, unit_id)):
            return refused
        assignment = self._split(asking, unit, unit_id, kept)
        if sticky is not None and assignment.variant_key:
            sticky.keep(asking, unit, unit_id, assignment.variant_key)
        return assignment

    def _in_one_step(self) -> Decision | None:
        """The same as ``decide`` where the caller forces nothing and keeps nothing; None for an
        experiment with more than a holdout, a layer, a namespace and a condition.

        Most have no more, and what is looked up in one function takes a third of the time.
        """
        more = (
            self._has_schedule
            or self._steps
            or self.experiment.unit == TIME_SLICE
            or self._filters is not None
            or self._prerequisites is not None
            or self._needed
            or self._other_bucket is not None
        )
        bucket_of = self._bucket
        if more or bucket_of is None or self._never is not None:
            return None
        key, unit, revision = self.key, self.experiment.unit, self.experiment.revision
        has_holdout, held_out = self._holdout is not None, self._outcome("", Reason.HOLDOUT)
        layer, layer_ranges = self.experiment.layer, self.experiment.layer_ranges
        namespace, filtered = self._namespace, self._outcome("", Reason.FILTERED)
        missing, not_in_layer, not_targeted = self._missing, self._not_in_layer, self._not_targeted
        condition, arms, layer_bucket = self._condition, tuple(self._arms), self._layer_bucket

        def decide(asking: Asking) -> Assignment:
            unit_id = asking.units.get(unit) or asking.unit_id(unit)
            if not unit_id:
                return missing
            if has_holdout and self._is_held_out(asking, unit_id):
                return held_out
            if layer_bucket is not None:
                share = asking.shares.get(layer)
                if share is None:
                    share = asking.shares[layer] = layer_bucket(unit_id)
                for start, end in layer_ranges:
                    if start <= share < end:
                        break
                else:
                    return not_in_layer
            if namespace is not None and not _has_in_ranges(namespace, unit_id):
                return filtered
            if condition is not None and not condition(asking.attributes):
                return not_targeted
            bucket = bucket_of(unit_id)
            for arm, start, end in arms:
                if start <= bucket < end:
                    return _tuple(Assignment, (key, arm, _SPLIT, bucket, unit, revision, ""))
            return _tuple(Assignment, (key, "", _NOT_COVERED, bucket, unit, revision, ""))

        return decide

    def arm_of(self, bucket: float, now_ms: int) -> str:
        """The variant that has a bucket then; empty for none."""
        arms = self._arms
        for at_ms, later in self._steps:
            if now_ms >= at_ms:
                arms = later
                break
        for key, start, end in arms:
            if start <= bucket < end:
                return key
        return ""

    def other_arm_of(self, unit_id: str, now_ms: int) -> str:
        """The variant of a unit on the other side of a two-sided experiment; empty for none."""
        if not self.is_supported or self._other_bucket is None:
            return ""
        return self.arm_of(self._other_bucket(unit_id), now_ms)

    def _split(self, asking: Asking, unit: str, unit_id: str, kept: int) -> Assignment:
        experiment = self.experiment
        bucket = self._bucket(unit_id) if self._bucket is not None else 0.0
        if kept >= 0:
            key, reason = experiment.variants[kept].key, Reason.STICKY
        elif kept == BLOCKED:
            key, reason = "", Reason.STICKY_BLOCKED
        else:
            key = self.arm_of(bucket, asking.now_ms)
            reason = _SPLIT if key else _NOT_COVERED
        other = ""
        if key and self._other_bucket is not None:
            other_id = asking.units.get(experiment.other_unit)
            if other_id:
                other = self.other_arm_of(other_id, asking.now_ms)
        # Seven fields at once: the class's own constructor takes twice as long.
        return _tuple(Assignment, (self.key, key, reason, bucket, unit, experiment.revision, other))

    def _refusal(self, asking: Asking, unit_id: str) -> Assignment | None:
        if self._filters is not None:
            if not self._filters.lets_in(asking):
                return self._outcome("", Reason.FILTERED)
        elif self._namespace is not None and not _has_in_ranges(self._namespace, unit_id):
            return self._outcome("", Reason.FILTERED)
        for name in self._needed:
            if name not in asking.attributes:
                return self._outcome("", Reason.MISSING_ATTRIBUTE)
        if self._condition is not None and not self._condition(asking.attributes):
            return self._not_targeted
        if self._prerequisites is not None and self._prerequisites.failed(asking) is not None:
            return self._outcome("", Reason.PREREQUISITE)
        return None

    def _unit_id(self, asking: Asking) -> str:
        experiment = self.experiment
        if experiment.unit != TIME_SLICE:
            return asking.unit_id(experiment.unit)
        if not asking.now_ms or not experiment.slice_ms:
            return ""
        return str(asking.now_ms // experiment.slice_ms)

    def _is_scheduled(self, now_ms: int) -> bool:
        start_ms, end_ms = self.experiment.start_ms, self.experiment.end_ms
        return (start_ms is None or now_ms >= start_ms) and (end_ms is None or now_ms < end_ms)

    def _is_held_out(self, asking: Asking, unit_id: str) -> bool:
        known = asking.held_out.get(unit_id)
        if known is None:
            holdout, bucket = self._holdout, self._holdout_bucket
            known = holdout is not None and bucket is not None and bucket(unit_id) < holdout.share
            asking.held_out[unit_id] = known
        return known

    def _is_in_layer(self, asking: Asking, unit_id: str) -> bool:
        layer, bucket = self._layer, self._layer_bucket
        if layer is None or bucket is None:
            return True
        share = asking.shares.get(layer.key)
        if share is None:
            share = asking.shares[layer.key] = bucket(unit_id)
        return within(share, self.experiment.layer_ranges)

    def _compiled_condition(self, groups: SavedGroups) -> Predicate | None:
        condition = self.experiment.condition
        return None if condition is None else compiled_condition(condition, groups, self.refused)

    def _that_never_changes(self) -> Assignment | None:
        """The outcome of an experiment that takes nobody in."""
        if not self.is_supported:
            return self._outcome("", Reason.UNSUPPORTED)
        if not self.is_running:
            return self._outcome("", Reason.NOT_RUNNING)
        killed = self.experiment.killed or self._common.killed
        return self._outcome("", Reason.KILLED) if killed else None

    def _outcome(self, variant_key: str, reason: Reason) -> Assignment:
        return Assignment(
            self.key, variant_key, reason, None, self.experiment.unit, self.experiment.revision
        )


def _has_in_ranges(namespace: Namespace, unit_id: str) -> bool:
    bucket, ranges = namespace
    return bucket is not None and within(bucket(unit_id), ranges)


def other_salt(experiment: Experiment) -> str:
    """Salt of the arms on the other side of a two-sided experiment."""
    return f"{experiment.salt}:{experiment.other_unit}"
