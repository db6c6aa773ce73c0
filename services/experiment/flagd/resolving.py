"""What a flag has for somebody, as OpenFeature tells it: value, variant, reason, metadata.

A key is that of a flag, or else of an experiment. A flag has the value of its first rule that
applies. An experiment has the ``value`` of the unit's variant, or, where none of its variants has
one, the variant's key. No value means that the caller's default counts.

The reason is never STATIC, which would let providers keep a value for everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from services.common.assign.asking import Asking
from services.common.assign.assign import Assignment, Context, Definitions, Experiment
from services.common.assign.assign import Reason as AssignmentReason
from services.common.assign.javascript import is_number
from services.common.errors import InvalidArgument, NotFound

FLAG_NOT_FOUND: Final = "FLAG_NOT_FOUND"
TYPE_MISMATCH: Final = "TYPE_MISMATCH"

MAX_INT: Final = (1 << 63) - 1
DEFAULT_VARIANT: Final = "default"
"""Name of a flag's own default: providers take a DEFAULT without a name for the caller's."""


class Reason(StrEnum):
    """OpenFeature's words for why."""

    SPLIT = "SPLIT"
    TARGETING_MATCH = "TARGETING_MATCH"
    DEFAULT = "DEFAULT"
    DISABLED = "DISABLED"


Metadata = Mapping[str, str | float]


class Resolution(NamedTuple):
    """What a flag has for somebody. ``value`` is what JSON knows; None, with no ``variant``, where
    the caller's default counts."""

    value: object
    variant: str
    reason: Reason
    metadata: Metadata


class Kind(NamedTuple):
    """A type that callers ask for."""

    name: str
    holds: Callable[[object], bool]


def _is_whole(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (isinstance(value, int) or value.is_integer()) and abs(value) <= MAX_INT


BOOLEAN: Final = Kind("boolean", lambda value: isinstance(value, bool))
STRING: Final = Kind("string", lambda value: isinstance(value, str))
NUMBER: Final = Kind("number", is_number)
WHOLE: Final = Kind("whole number", _is_whole)
OBJECT: Final = Kind("object", lambda value: isinstance(value, Mapping))

_OFF: Final = frozenset(
    {
        AssignmentReason.NOT_RUNNING,
        AssignmentReason.KILLED,
        AssignmentReason.NOT_SCHEDULED,
        AssignmentReason.UNSUPPORTED,
    }
)
_FLAG_REASONS: Final = {
    "experiment": Reason.SPLIT,
    "force": Reason.TARGETING_MATCH,
    "defaultValue": Reason.DEFAULT,
}
"""By GrowthBook's word for where a flag's value comes from; any other has none."""


def resolve(definitions: Definitions, key: str, context: Context) -> Resolution:
    """What the flag or experiment ``key`` has. Raises ``NotFound`` (FLAG_NOT_FOUND)."""
    return _resolved(definitions, key, Asking(context, definitions.common.aliases))


def resolve_all(definitions: Definitions, context: Context) -> dict[str, Resolution]:
    """What all flags and experiments have that have something for somebody, by key."""
    asking = Asking(context, definitions.common.aliases)
    keys = dict.fromkeys((*definitions.flags, *definitions.experiments))
    found = {key: _resolved(definitions, key, asking) for key in keys}
    return {key: resolution for key, resolution in found.items() if resolution.value is not None}


def require_kind(key: str, value: object, kind: Kind) -> None:
    """Raises ``InvalidArgument`` (TYPE_MISMATCH) for a value of another type."""
    if not kind.holds(value):
        raise InvalidArgument.field(
            "flag_key", f"{key!r} has no {kind.name} for a value", reason=TYPE_MISMATCH
        )


def _resolved(definitions: Definitions, key: str, asking: Asking) -> Resolution:
    if key in definitions.flags:
        return _of_flag(definitions, key, asking)
    experiment = definitions.experiments.get(key)
    if experiment is None:
        raise NotFound(f"there is no flag or experiment {key!r}", reason=FLAG_NOT_FOUND)
    return _of_experiment(definitions, experiment, asking)


def _of_flag(definitions: Definitions, key: str, asking: Asking) -> Resolution:
    found = definitions.compiled.flag(key, asking)
    reason = _FLAG_REASONS.get(found.source, Reason.DISABLED)
    metadata: dict[str, str | float] = {"definitions_hash": definitions.hash}
    if found.rule_id:
        metadata["rule_id"] = found.rule_id
    variant = DEFAULT_VARIANT if reason is Reason.DEFAULT else found.rule_id
    if found.assignment is not None:
        metadata |= _about(found.assignment)
        variant = found.assignment.variant_key
    if found.value is None:
        kept = reason is Reason.DISABLED
        return Resolution(None, "", reason if kept else Reason.DEFAULT, metadata)
    return Resolution(found.value, variant, reason, metadata)


def _of_experiment(definitions: Definitions, experiment: Experiment, asking: Asking) -> Resolution:
    assignment = definitions.compiled.deciders[experiment.key].decide(asking)
    metadata = {"definitions_hash": definitions.hash, **_about(assignment)}
    variant = experiment.variant(assignment.variant_key)
    if variant is None:
        off = assignment.reason in _OFF
        return Resolution(None, "", Reason.DISABLED if off else Reason.DEFAULT, metadata)
    has_values = any(v.value is not None for v in experiment.variants)
    value = variant.value if has_values else variant.key
    if value is None:
        return Resolution(None, "", Reason.DEFAULT, metadata)
    return Resolution(value, variant.key, Reason.SPLIT, metadata)


def _about(assignment: Assignment) -> Metadata:
    """What an exposure says of an assignment."""
    metadata: dict[str, str | float] = {
        "experiment_key": assignment.experiment_key,
        "variant_key": assignment.variant_key,
        "assignment_reason": assignment.reason.name,
        "unit_type": assignment.unit_type,
        "revision": assignment.revision,
    }
    if assignment.bucket is not None:
        metadata["bucket"] = assignment.bucket
    if assignment.other_variant_key:
        metadata["other_variant_key"] = assignment.other_variant_key
    return metadata
