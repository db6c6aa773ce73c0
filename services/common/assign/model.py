"""What is defined (experiments, flags, layers) and what comes out (assignments): plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from services.common.assign.hashing import FNV1, FNV2, XXH3
from services.common.assign.ranges import Range, bucket_ranges, growthbook_ranges
from services.common.assign.registered import Analysis

if TYPE_CHECKING:
    from services.common.assign.canonical import Item, ItemKey
    from services.common.assign.compiled import Compiled

EVALUATOR_VERSION: Final = 1
"""Of the rules by which definitions decide. Whoever does not know a definition's version assigns
nothing by it."""

UNREADABLE: Final = 0
"""Evaluator version of what can't be read. Nobody knows it."""

VISITOR_UNITS: Final = ("user", "device")
ENTITY_UNITS: Final = ("host", "room")
TIME_SLICE: Final = "time_slice"
UNIT_TYPES: Final = frozenset({*VISITOR_UNITS, *ENTITY_UNITS, TIME_SLICE})
"""Units with a type of their own. Any other name is that of an attribute whose value is hashed."""


class Reason(Enum):
    """Why a unit was, or was not, given a variant."""

    SPLIT = "split"
    NOT_COVERED = "not_covered"
    MISSING_UNIT = "missing_unit"
    NOT_RUNNING = "not_running"
    FORCED = "forced"
    NOT_SCHEDULED = "not_scheduled"
    KILLED = "killed"
    HOLDOUT = "holdout"
    NOT_IN_LAYER = "not_in_layer"
    FILTERED = "filtered"
    NOT_TARGETED = "not_targeted"
    MISSING_ATTRIBUTE = "missing_attribute"
    PREREQUISITE = "prerequisite"
    STICKY = "sticky"
    STICKY_BLOCKED = "sticky_blocked"
    OTHER_RULE = "other_rule"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Variant:
    """One arm. ``objective_weights`` replace the surface's, by objective. ``interleave``: instead,
    the rankings of the two variants of these keys are interleaved. ``bundle``: version of the one
    that answers; empty where the variant leaves that open. ``value``: what a flag has in this arm.

    ``named`` is false for a key that was made up for an imported variant, which sticky documents
    can't name; ``passthrough``: the flag's next rules decide for its units. ``value_factor``:
    what the values of items of this arm's hosts or rooms are multiplied by.
    """

    key: str
    weight: float
    objective_weights: Mapping[str, float] = field(default_factory=dict)
    interleave: tuple[str, str] | None = None
    bundle: str = ""
    value: object = None
    named: bool = True
    passthrough: bool = False
    value_factor: float = 1.0


@dataclass(frozen=True)
class Prerequisite:
    """``condition`` is over {"value": v}: what the flag ``id`` has, or the variant key of the
    experiment ``id``. ``gate``: where it fails in a rule of a flag, the flag has no value."""

    id: str
    condition: Mapping[str, object] = field(default_factory=dict)
    gate: bool = False


@dataclass(frozen=True)
class Filter:
    """Lets units in whose bucket lies in ``ranges``."""

    salt: str
    ranges: tuple[Range, ...]
    unit: str
    hash: str = FNV2


@dataclass(frozen=True)
class Sticky:
    """Units keep the variant that they were given. ``fallback_unit``: the one that counts where the
    experiment's is missing. A new ``version`` gives variants anew; units with a variant of a
    version below ``min_version`` are out."""

    fallback_unit: str = ""
    version: int = 0
    min_version: int = 0


@dataclass(frozen=True)
class Step:
    """From ``at_ms`` (epoch) on the coverage is ``coverage``."""

    at_ms: int
    coverage: float


@dataclass(frozen=True)
class Experiment:
    """One experiment. ``unit`` is what is randomised; the variants' weights sum to 1.

    ``ranges``, one a variant, replace weights and coverage. ``layer`` and ``layer_ranges``: only
    units of these buckets of the layer take part. ``holdout`` false: units in the global holdout
    do, too. It decides from ``start_ms`` until before ``end_ms`` (epoch). Steps of the ``ramp`` are
    in order of time. A ``slice_ms`` long time slice has one variant. ``other_unit``: of a two-sided
    experiment, the type of the unit on the other side, whose arm is drawn apart. ``analysis``: what
    it will be judged by.
    """

    key: str
    unit: str
    salt: str
    variants: tuple[Variant, ...]
    coverage: float = 1.0
    running: bool = True
    revision: int = 1
    description: str = ""
    hash: str = XXH3
    ranges: tuple[Range, ...] | None = None
    killed: bool = False
    layer: str = ""
    layer_ranges: tuple[Range, ...] = ()
    holdout: bool = True
    start_ms: int | None = None
    end_ms: int | None = None
    ramp: tuple[Step, ...] = ()
    slice_ms: int = 0
    other_unit: str = ""
    condition: Mapping[str, object] | None = None
    prerequisites: tuple[Prerequisite, ...] = ()
    namespace: tuple[str, float, float] | None = None
    filters: tuple[Filter, ...] = ()
    sticky: Sticky | None = None
    analysis: Analysis | None = None
    evaluator_version: int = EVALUATOR_VERSION

    def variant(self, key: str) -> Variant | None:
        """The variant of that key."""
        return next((v for v in self.variants if v.key == key), None)

    @cached_property
    def arms(self) -> list[tuple[str, float, float]]:
        """(variant key, start, end) of each bucket range, before any step."""
        return self.arms_at(self.coverage)

    def arms_at(self, coverage: float) -> list[tuple[str, float, float]]:
        """(variant key, start, end) of each bucket range at a coverage."""
        ranges: Sequence[Range]
        weights = [variant.weight for variant in self.variants]
        if self.ranges is not None:
            ranges = self.ranges
        elif self.hash in (FNV1, FNV2):
            ranges = growthbook_ranges(weights, coverage)
        else:
            ranges = bucket_ranges(weights, coverage)
        return [(v.key, *bounds) for v, bounds in zip(self.variants, ranges, strict=True)]


@dataclass(frozen=True)
class Rollout:
    """A share of units: those in ``range``, or else with a bucket of at most ``coverage``."""

    unit: str
    salt: str
    hash: str
    coverage: float | None = None
    range: Range | None = None
    fallback_unit: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule of a flag: a forced ``value`` (where ``experiment`` is None), or an experiment."""

    id: str = ""
    prerequisites: tuple[Prerequisite, ...] = ()
    filters: tuple[Filter, ...] = ()
    condition: Mapping[str, object] | None = None
    rollout: Rollout | None = None
    value: object = None
    experiment: Experiment | None = None


@dataclass(frozen=True)
class Flag:
    """A named value: that of the first rule that applies, or else ``default``."""

    key: str
    default: object = None
    rules: tuple[Rule, ...] = ()
    revision: int = 1
    evaluator_version: int = EVALUATOR_VERSION


@dataclass(frozen=True)
class Layer:
    """Experiments of which a unit is in one at most: each has ranges of the layer's buckets."""

    key: str
    unit: str
    salt: str


@dataclass(frozen=True)
class Holdout:
    """Units with a bucket below ``share`` are in no experiment."""

    salt: str
    share: float


@dataclass(frozen=True)
class Common:
    """What goes for all definitions. ``killed``: no experiment assigns anybody. ``aliases``: types
    of units by another name for them; ``from_features``: attributes that the feature service knows:
    a condition on one can't be decided where it isn't given."""

    killed: bool = False
    holdout: Holdout | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    from_features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Definitions:
    """Experiments by key, in key order, and what they refer to. Equal hashes give equal
    assignments. ``unsupported``: something that goes for all is of a version that is not known.
    ``foreign``: what is of such a version, as it came, to be passed on."""

    experiments: Mapping[str, Experiment]
    hash: str
    flags: Mapping[str, Flag] = field(default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)
    saved_groups: Mapping[str, Sequence[object]] = field(default_factory=dict)
    common: Common = Common()
    unsupported: bool = False
    foreign: Mapping[ItemKey, Item] = field(default_factory=dict)

    @cached_property
    def compiled(self) -> Compiled:
        """What decides: conditions as closures, ranges worked out."""
        from services.common.assign.compiled import Compiled

        return Compiled(self)

    @cached_property
    def factored(self) -> tuple[Experiment, ...]:
        """Experiments of which a variant changes the values of its hosts' or rooms' items."""
        return tuple(
            experiment
            for experiment in self.experiments.values()
            if any(variant.value_factor != 1 for variant in experiment.variants)
        )

    @cached_property
    def of_entities(self) -> tuple[Experiment, ...]:
        """Running experiments in which hosts or rooms have an arm."""
        return tuple(
            experiment
            for experiment in self.experiments.values()
            if experiment.running and (experiment.unit in ENTITY_UNITS or experiment.other_unit)
        )

    @cached_property
    def has_sticky(self) -> bool:
        """Whether some experiment's units keep what they were given."""
        in_flags = [r.experiment for f in self.flags.values() for r in f.rules if r.experiment]
        return any(e.sticky is not None for e in (*self.experiments.values(), *in_flags))

    @cached_property
    def naming_bundles(self) -> tuple[str, ...]:
        """Keys of the experiments of which a variant names a bundle."""
        return tuple(k for k, e in self.experiments.items() if any(v.bundle for v in e.variants))


class Assignment(NamedTuple):
    """The outcome of one experiment. ``variant_key`` is empty when the unit is not in it;
    ``bucket`` in [0, 1) is None when no hash was computed. ``other_variant_key``: the arm of the
    unit on the other side of a two-sided experiment, where it was given."""

    experiment_key: str
    variant_key: str
    reason: Reason
    bucket: float | None
    unit_type: str
    revision: int
    other_variant_key: str = ""


@dataclass(frozen=True)
class StickyDocument:
    """Variants that a unit was given: their keys by ``EXPERIMENT__VERSION`` (GrowthBook's form)."""

    unit: str
    unit_id: str
    assignments: Mapping[str, str]

    @property
    def key(self) -> str:
        """That of the document."""
        return document_key(self.unit, self.unit_id)


def document_key(unit: str, unit_id: str) -> str:
    """Key of a unit's sticky document."""
    return f"{unit}||{unit_id}"


@dataclass(frozen=True)
class Context:
    """Whom to assign. ``units`` are raw ids by unit type; ``attributes`` JSON values by name;
    ``forced`` variant keys by experiment. ``sticky``: documents by key; None where nothing is to be
    kept. ``now_ms``: the server's clock, epoch milliseconds."""

    units: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, object] = field(default_factory=dict)
    forced: Mapping[str, str] = field(default_factory=dict)
    sticky: Mapping[str, StickyDocument] | None = None
    now_ms: int = 0


class Evaluation(NamedTuple):
    """Assignments in key order, and the sticky documents that changed, by key."""

    assignments: list[Assignment]
    sticky_changes: dict[str, StickyDocument]


class FlagValue(NamedTuple):
    """What a flag has for somebody. ``source`` is GrowthBook's word for where it comes from;
    ``assignment`` that of the experiment which decided."""

    value: object
    source: str
    rule_id: str = ""
    assignment: Assignment | None = None
