"""Experiment definitions from YAML (``config/experiments.yaml``).

Mistakes are reported with file, line and field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from services.common.assign.canonical import hashed
from services.common.assign.checks import Location, errors_of
from services.common.assign.hashing import FNV2, XXH3
from services.common.assign.model import (
    Common,
    Definitions,
    Experiment,
    Filter,
    Flag,
    Holdout,
    Layer,
    Prerequisite,
    Rollout,
    Rule,
    Step,
    Sticky,
    Variant,
)
from services.common.domain import Domain
from services.common.durations import duration_ms
from services.common.yaml_config import load_yaml

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Text = Annotated[str, Field(min_length=1, max_length=256)]
"""What an import may bring: keys and salts in any characters."""

Weight = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("must begin before it ends")
    return bounds


def _is_duration(text: str) -> str:
    duration_ms(text)
    return text


Bounds = Annotated[tuple[Share, Share], AfterValidator(_in_order)]
Duration = Annotated[str, AfterValidator(_is_duration)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VariantDefinition(_Strict):
    """One arm. ``objective_weights`` replace the surface's, by objective of the domain.

    ``interleave``: two other variants, whose rankings this one shows in one slate (team draft);
    it has no objective weights of its own. ``bundle``: version of the bundle that answers; rankers
    serve it once ``podium bundle experiment`` has named it. The rest is for flags: see ``Variant``.
    """

    weight: float = Field(ge=0, le=1)
    objective_weights: dict[str, Weight] = {}
    interleave: tuple[Key, Key] | None = None
    bundle: Key | None = None
    value: JsonValue = None
    named: bool = True
    passthrough: bool = False
    value_factor: float = Field(default=1.0, ge=0, le=100)


class PrerequisiteDefinition(_Strict):
    """A flag or experiment that must have what ``condition`` says of ``value``."""

    id: Text
    condition: dict[str, JsonValue] = {}
    gate: bool = False


class FilterDefinition(_Strict):
    """Lets in whose bucket by this salt lies in one of the ranges."""

    salt: str = Field(max_length=256)
    ranges: list[Bounds]
    unit: Text
    hash: str = FNV2


class StickyDefinition(_Strict):
    """Units keep their variant; see ``Sticky``."""

    fallback_unit: str = ""
    version: int = Field(default=0, ge=0, le=1_000)
    min_version: int = Field(default=0, ge=0, le=1_000)


class LayerShareDefinition(_Strict):
    """The buckets of a layer that an experiment has."""

    name: Key
    ranges: list[Bounds] = Field(min_length=1)


class StepDefinition(_Strict):
    """From ``at`` on the coverage is ``coverage``."""

    at: AwareDatetime
    coverage: Share


class ExperimentDefinition(_Strict):
    """One experiment. ``salt`` decides who lands where: a new salt shuffles all units.

    ``coverage`` is the share of units that take part, and ``ramp`` changes it in time. ``revision``
    is raised by the author with every change. The order of the variants is the order of their
    bucket ranges. ``slice`` is the length of a time slice, for that unit. The other fields are
    described at ``Experiment``.
    """

    description: str = ""
    unit: Text
    salt: Text
    running: bool
    revision: int = Field(ge=1)
    coverage: Share = 1.0
    variants: dict[Text, VariantDefinition] = Field(min_length=1)
    hash: str = XXH3
    ranges: list[Bounds] | None = None
    killed: bool = False
    layer: LayerShareDefinition | None = None
    holdout: bool = True
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    ramp: list[StepDefinition] = []
    slice: Duration | None = None
    other_unit: str = ""
    condition: dict[str, JsonValue] | None = None
    prerequisites: list[PrerequisiteDefinition] = []
    namespace: tuple[str, float, float] | None = None
    filters: list[FilterDefinition] = []
    sticky: StickyDefinition | None = None


class RolloutDefinition(_Strict):
    """A share of units that a rule goes for."""

    unit: Text
    salt: str = Field(max_length=256)
    hash: str
    coverage: float | None = None
    range: Bounds | None = None
    fallback_unit: str = ""


class FlagExperimentDefinition(ExperimentDefinition):
    """An experiment that a rule of a flag runs."""

    key: Text


class RuleDefinition(_Strict):
    """One rule: an ``experiment``, or the ``value`` for those whom it goes for."""

    id: str = ""
    prerequisites: list[PrerequisiteDefinition] = []
    filters: list[FilterDefinition] = []
    condition: dict[str, JsonValue] | None = None
    rollout: RolloutDefinition | None = None
    value: JsonValue = None
    experiment: FlagExperimentDefinition | None = None


class FlagDefinition(_Strict):
    """A named value. The first rule that applies decides."""

    default: JsonValue = None
    rules: list[RuleDefinition] = []
    revision: int = Field(default=1, ge=1)


class LayerDefinition(_Strict):
    """A layer: a unit is in one of its experiments at most."""

    unit: Text
    salt: Text


class HoldoutDefinition(_Strict):
    """A share of all units that is in no experiment."""

    salt: Text
    share: Share


class ExperimentsFile(_Strict):
    """The whole file. ``killed`` stops all experiments. ``aliases``: by a name that imported
    definitions have for a unit, the type of it here. ``from_features``: attributes that callers may
    leave to the feature service; ``saved_groups``: lists of values that conditions name."""

    experiments: dict[Key, ExperimentDefinition] = {}
    flags: dict[Text, FlagDefinition] = {}
    layers: dict[Key, LayerDefinition] = {}
    holdout: HoldoutDefinition | None = None
    killed: bool = False
    saved_groups: dict[Text, list[JsonValue]] = {}
    aliases: dict[Text, Key] = {}
    from_features: list[Text] = []


def load_experiments(path: Path, domain: Domain | None) -> Definitions:
    """Reads the definitions; with a ``domain`` the objectives they name must exist in it.

    Raises ``ConfigError`` naming file, line and field.
    """
    objectives = None if domain is None else tuple(domain.objectives)

    def errors(file: ExperimentsFile) -> Iterator[tuple[Location, str]]:
        yield from errors_of(definitions_in(file), objectives)

    return hashed(definitions_in(load_yaml(path, ExperimentsFile, errors)))


def definitions_in(file: ExperimentsFile) -> Definitions:
    """What a file defines, unchecked and without its hash."""
    holdout = None
    if file.holdout is not None:
        holdout = Holdout(file.holdout.salt, file.holdout.share)
    return Definitions(
        {key: _experiment(key, definition) for key, definition in file.experiments.items()},
        "",
        {key: _flag(key, definition) for key, definition in file.flags.items()},
        {key: Layer(key, layer.unit, layer.salt) for key, layer in file.layers.items()},
        dict(file.saved_groups),
        Common(file.killed, holdout, dict(sorted(file.aliases.items())), tuple(file.from_features)),
    )


def _experiment(key: str, definition: ExperimentDefinition) -> Experiment:
    layer, sticky = definition.layer, definition.sticky
    return Experiment(
        key=key,
        unit=definition.unit,
        salt=definition.salt,
        variants=tuple(_variant(name, v) for name, v in definition.variants.items()),
        coverage=definition.coverage,
        running=definition.running,
        revision=definition.revision,
        description=definition.description,
        hash=definition.hash,
        ranges=None if definition.ranges is None else tuple(definition.ranges),
        killed=definition.killed,
        layer="" if layer is None else layer.name,
        layer_ranges=() if layer is None else tuple(layer.ranges),
        holdout=definition.holdout,
        start_ms=_moment_ms(definition.start),
        end_ms=_moment_ms(definition.end),
        ramp=tuple(Step(_moment_ms(s.at) or 0, s.coverage) for s in definition.ramp),
        slice_ms=0 if definition.slice is None else duration_ms(definition.slice),
        other_unit=definition.other_unit,
        condition=definition.condition,
        prerequisites=_prerequisites(definition.prerequisites),
        namespace=definition.namespace,
        filters=_filters(definition.filters),
        sticky=None if sticky is None else Sticky(**sticky.model_dump()),
    )


def _variant(key: str, definition: VariantDefinition) -> Variant:
    return Variant(
        key,
        definition.weight,
        dict(definition.objective_weights),
        definition.interleave,
        definition.bundle or "",
        definition.value,
        definition.named,
        definition.passthrough,
        definition.value_factor,
    )


def _prerequisites(definitions: Iterable[PrerequisiteDefinition]) -> tuple[Prerequisite, ...]:
    return tuple(Prerequisite(d.id, d.condition, d.gate) for d in definitions)


def _filters(definitions: Iterable[FilterDefinition]) -> tuple[Filter, ...]:
    return tuple(Filter(d.salt, tuple(d.ranges), d.unit, d.hash) for d in definitions)


def _rule(definition: RuleDefinition) -> Rule:
    rollout = definition.rollout
    experiment = definition.experiment
    return Rule(
        definition.id,
        _prerequisites(definition.prerequisites),
        _filters(definition.filters),
        definition.condition,
        None if rollout is None else Rollout(**rollout.model_dump()),
        definition.value,
        None if experiment is None else _experiment(experiment.key, experiment),
    )


def _flag(key: str, definition: FlagDefinition) -> Flag:
    rules: Sequence[RuleDefinition] = definition.rules
    return Flag(key, definition.default, tuple(map(_rule, rules)), definition.revision)


def _moment_ms(moment: AwareDatetime | None) -> int | None:
    return None if moment is None else int(moment.astimezone(UTC).timestamp() * 1000)
