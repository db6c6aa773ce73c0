"""Definitions worked out for deciding: experiments as deciders, flags as rules in order."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from services.common.assign.asking import Asking
from services.common.assign.conditions import (
    ConditionError,
    Predicate,
    compile_condition,
    known_groups,
)
from services.common.assign.deciding import Decider, Decision, Filters, Prerequisites
from services.common.assign.hashing import Bucket, Hashes
from services.common.assign.model import (
    EVALUATOR_VERSION,
    Assignment,
    Definitions,
    Experiment,
    FlagValue,
    Reason,
    Rollout,
    Rule,
)


class _Rule(NamedTuple):
    rule: Rule
    prerequisites: Prerequisites | None
    filters: Filters | None
    condition: Predicate | None
    rollout: tuple[Rollout, Bucket | None] | None
    decider: Decider | None


class Compiled:
    """Deciders of all experiments by key, and the flags."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._hashes = Hashes()
        self._groups = known_groups(definitions.saved_groups)
        self.refused: list[str] = []
        """Patterns that are found nowhere since they can't be searched for, with whose they are.
        Checks refuse them; definitions of another release may hold them."""
        self.deciders: dict[str, Decider] = {
            key: self._decider(experiment) for key, experiment in definitions.experiments.items()
        }
        running = [decider for decider in self.deciders.values() if decider.is_running]
        self._plainly: list[Decision] = [decider.decide_plainly for decider in running]
        self._keeping: list[Decision] = [
            d.decide if d.is_sticky else d.decide_plainly for d in running
        ]
        self._fully: list[Decision] = [decider.decide for decider in running]
        self._flags = {
            key: (flag, [self._rule(key, rule) for rule in flag.rules])
            for key, flag in definitions.flags.items()
        }
        self.in_flags: dict[str, list[str]] = {}
        """Keys of the flags that run an experiment, by its key."""
        for key, (_, rules) in self._flags.items():
            for rule in rules:
                if rule.decider is not None and rule.decider.key not in self.deciders:
                    flags = self.in_flags.setdefault(rule.decider.key, [])
                    if key not in flags:
                        flags.append(key)

    def decide(self, asking: Asking) -> list[Assignment]:
        """Assigns in all experiments that are running, those that flags run aside."""
        if asking.forced:
            decisions = self._fully
        else:
            decisions = self._plainly if asking.sticky is None else self._keeping
        return [decide(asking) for decide in decisions]

    def variants(self, experiment_key: str) -> list[str]:
        """Keys of the variants of an experiment, those that flags run among them."""
        if experiment_key in self.deciders:
            return [v.key for v in self.deciders[experiment_key].experiment.variants]
        found = self._in_flag(experiment_key)
        return [] if found is None else [v.key for v in found.experiment.variants]

    def assigned_in_flags(self, experiment_key: str, asking: Asking) -> Assignment:
        """What flags decided, or would have, for one of their experiments."""
        for flag in self.in_flags[experiment_key]:
            self.flag(flag, asking)
        met = asking.met.get(experiment_key)
        if met is not None:
            return met
        decider = self._in_flag(experiment_key)
        if decider is None or not decider.is_supported:
            return Assignment(experiment_key, "", Reason.UNSUPPORTED, None, "", 0)
        experiment = decider.experiment
        if experiment_key in asking.forced:
            return decider.decide(asking)
        return Assignment(
            experiment_key, "", Reason.OTHER_RULE, None, experiment.unit, experiment.revision
        )

    def flag(self, key: str, asking: Asking) -> FlagValue:
        """What a flag has for somebody."""
        known = asking.flags.get(key)
        if known is None:
            # Definitions with a cycle are refused; what is asked for again meanwhile has no value.
            asking.flags[key] = FlagValue(None, "cyclicPrerequisite")
            known = asking.flags[key] = self._evaluated(key, asking)
        return known

    def _evaluated(self, key: str, asking: Asking) -> FlagValue:
        if key not in self._flags:
            return FlagValue(None, "unknownFeature")
        flag, rules = self._flags[key]
        if flag.evaluator_version != EVALUATOR_VERSION or self._definitions.unsupported:
            return FlagValue(None, "unsupported")
        for rule in rules:
            failed = rule.prerequisites.failed(asking) if rule.prerequisites is not None else None
            if failed is not None:
                if failed.gate:
                    return FlagValue(None, "prerequisite")
                continue
            if rule.filters is not None and not rule.filters.lets_in(asking):
                continue
            if rule.decider is not None:
                assignment = rule.decider.decide(asking)
                asking.met_in_flag(assignment)
                variant = rule.decider.experiment.variant(assignment.variant_key)
                if variant is not None and not variant.passthrough:
                    return FlagValue(variant.value, "experiment", rule.rule.id, assignment)
            elif self._forces(rule, asking):
                return FlagValue(rule.rule.value, "force", rule.rule.id)
        return FlagValue(flag.default, "defaultValue")

    def _forces(self, rule: _Rule, asking: Asking) -> bool:
        if rule.condition is not None and not rule.condition(asking.attributes):
            return False
        if rule.rollout is None:
            return True
        rollout, bucket_of = rule.rollout
        if rollout.range is None and not rollout.coverage:
            return False
        unit_id = asking.unit_id(rollout.unit)
        if not unit_id and rollout.fallback_unit and asking.sticky is not None:
            unit_id = asking.unit_id(rollout.fallback_unit)
        if not unit_id or bucket_of is None:
            return False
        bucket = bucket_of(unit_id)
        if rollout.range is not None:
            return rollout.range[0] <= bucket < rollout.range[1]
        return rollout.coverage is not None and bucket <= rollout.coverage

    def _decider(self, experiment: Experiment) -> Decider:
        definitions = self._definitions
        if definitions.unsupported:
            experiment = replace(experiment, evaluator_version=-1)
        decider = Decider(
            experiment,
            definitions.common,
            definitions.layers,
            self._groups,
            self._value_of,
            self._hashes,
        )
        self._refuse(f"experiment {experiment.key!r}", decider.refused)
        return decider

    def _rule(self, flag_key: str, rule: Rule) -> _Rule:
        rollout, needed = rule.rollout, rule.prerequisites
        refused: list[ConditionError] = []
        made = _Rule(
            rule,
            Prerequisites(needed, self._value_of, refused) if needed else None,
            Filters(rule.filters, self._hashes) if rule.filters else None,
            None
            if rule.condition is None
            else compile_condition(rule.condition, self._groups, refused),
            None
            if rollout is None
            else (rollout, self._hashes.bucketing(rollout.hash, rollout.salt)),
            None if rule.experiment is None else self._decider(rule.experiment),
        )
        self._refuse(f"flag {flag_key!r}", refused)
        return made

    def _refuse(self, what: str, refused: list[ConditionError]) -> None:
        self.refused += [f"{what}: {'.'.join(map(str, e.path))}: {e.problem}" for e in refused]

    def _in_flag(self, experiment_key: str) -> Decider | None:
        for flag in self.in_flags.get(experiment_key, ()):
            for rule in self._flags[flag][1]:
                if rule.decider is not None and rule.decider.key == experiment_key:
                    return rule.decider
        return None

    def _value_of(self, asking: Asking, key: str) -> object:
        """What a prerequisite looks at: a flag's value, or the variant of an experiment."""
        if key in self._flags or key not in self.deciders:
            return self.flag(key, asking).value
        variant_key = asking.decided.get(key)
        if variant_key is None:
            variant_key = asking.decided[key] = self.deciders[key].decide(asking).variant_key
        return variant_key or None
