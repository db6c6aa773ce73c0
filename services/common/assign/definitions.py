"""Experiment definitions from YAML (``config/experiments.yaml``).

Mistakes are reported with file, line and field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from services.common.assign import javascript
from services.common.assign.analysis_checks import analysis_errors
from services.common.assign.analysis_definitions import AnalysisDefinition, analysis_of
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

MAX_REVISION = 10**9
"""As an author gives it: assignments tell it as an int32, and a registry adds one a change."""

MIN_YEAR, MAX_YEAR = 1970, 9998
MAX_VALUE_DEPTH = 16
"""Of what flags and variants have: messages are no deeper than 100, and one in here is three."""

Weight = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("must begin before it ends")
    return bounds


def _is_duration(text: str) -> str:
    duration_ms(text)
    return text


def _in_years(moment: datetime) -> datetime:
    # Other zones may be a day off, and there are no years 0 and 10000.
    if not MIN_YEAR <= moment.year <= MAX_YEAR:
        raise ValueError(f"must be in the years {MIN_YEAR} to {MAX_YEAR}")
    return moment


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must hold no NUL")
    return text


def _tellable(value: JsonValue) -> JsonValue:
    """A value as every caller can be told it: JSON's own numbers, and not too deep."""
    level: list[JsonValue] = [value]
    for depth in range(MAX_VALUE_DEPTH + 1):
        if any(isinstance(p, int) and math.isinf(javascript.number(p)) for p in level):
            raise ValueError("must hold no number beyond 64-bit floats")
        inner = [part for part in level if isinstance(part, list | dict)]
        if inner and depth == MAX_VALUE_DEPTH:
            raise ValueError(f"must be nested at most {MAX_VALUE_DEPTH} deep")
        level = [p for part in inner for p in (part if isinstance(part, list) else part.values())]
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_in_years)]
VariantKey = Annotated[Text, AfterValidator(_without_nul)]
Value = Annotated[JsonValue, AfterValidator(_tellable)]
Revision = Annotated[int, Field(ge=1, le=MAX_REVISION)]
Bounds = Annotated[tuple[Share, Share], AfterValidator(_in_order)]
Duration = Annotated[str, AfterValidator(_is_duration)]


class _Strict(BaseModel):
    # JSON knows no NaN and nothing infinite.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
    value: Value = None
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

    at: Moment
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
    revision: Revision
    coverage: Share = 1.0
    variants: dict[VariantKey, VariantDefinition] = Field(min_length=1)
    hash: str = XXH3
    ranges: list[Bounds] | None = None
    killed: bool = False
    layer: LayerShareDefinition | None = None
    holdout: bool = True
    start: Moment | None = None
    end: Moment | None = None
    ramp: list[StepDefinition] = []
    slice: Duration | None = None
    other_unit: str = ""
    condition: dict[str, JsonValue] | None = None
    prerequisites: list[PrerequisiteDefinition] = []
    namespace: tuple[str, float, float] | None = None
    filters: list[FilterDefinition] = []
    sticky: StickyDefinition | None = None
    analysis: AnalysisDefinition | None = None


class DraftDefinition(ExperimentDefinition):
    """An experiment that may leave out what a registry sets."""

    running: bool = True
    revision: Revision = 1


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
    value: Value = None
    experiment: FlagExperimentDefinition | None = None


class FlagDefinition(_Strict):
    """A named value. The first rule that applies decides."""

    default: Value = None
    rules: list[RuleDefinition] = []
    revision: Revision = 1


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
    """Reads the definitions; with a ``domain`` the objectives and metrics they name must exist in
    it.

    Raises ``ConfigError`` naming file, line and field.
    """

    def errors(file: ExperimentsFile) -> Iterator[tuple[Location, str]]:
        yield from errors_within(definitions_in(file), domain)

    return hashed(definitions_in(load_yaml(path, ExperimentsFile, errors)))


def errors_within(
    definitions: Definitions, domain: Domain | None
) -> Iterator[tuple[Location, str]]:
    """What is wrong with definitions, with where; with a ``domain`` the objectives and metrics they
    name must exist in it."""
    yield from errors_of(definitions, None if domain is None else tuple(domain.objectives))
    for key, experiment in definitions.experiments.items():
        if domain is not None and experiment.analysis is not None:
            for at, problem in analysis_errors(experiment, experiment.analysis, domain):
                yield ("experiments", key, "analysis", *at), problem


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
        analysis=None if definition.analysis is None else analysis_of(definition.analysis),
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
