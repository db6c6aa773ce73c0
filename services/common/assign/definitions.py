"""Experiment definitions from YAML (``config/experiments.yaml``).

Mistakes are reported with file, line and field.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.common.assign.assign import EVALUATOR_VERSION, Definitions, Experiment, Variant
from services.common.domain import Domain
from services.common.yaml_config import Location, canonical_hash, load_yaml

_WEIGHT_TOLERANCE = 1e-9

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Weight = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VariantDefinition(_Strict):
    """One arm. ``objective_weights`` replace the surface's, by objective of the domain.

    ``interleave``: two other variants, whose rankings this one shows in one slate (team draft);
    it has no objective weights of its own. ``bundle``: version of the bundle that answers; rankers
    serve it once ``podium bundle experiment`` has named it.
    """

    weight: float = Field(ge=0, le=1)
    objective_weights: dict[str, Weight] = {}
    interleave: tuple[Key, Key] | None = None
    bundle: Key | None = None


class ExperimentDefinition(_Strict):
    """One experiment. ``salt`` decides who lands where: a new salt shuffles all units.

    ``coverage`` is the share of units that take part. ``revision`` is raised by the author with
    every change. The order of the variants is the order of their bucket ranges.
    """

    description: str = ""
    unit: Literal["user", "device"]
    salt: Key
    running: bool
    revision: int = Field(ge=1)
    coverage: float = Field(default=1.0, ge=0, le=1)
    variants: dict[Key, VariantDefinition] = Field(min_length=1)


class ExperimentsFile(_Strict):
    """The whole file."""

    experiments: dict[Key, ExperimentDefinition]


def load_experiments(path: Path, domain: Domain | None) -> Definitions:
    """Reads the definitions; with a ``domain`` the objectives they name must exist in it.

    Raises ``ConfigError`` naming file, line and field.
    """
    parsed = load_yaml(path, ExperimentsFile, lambda file: _errors(file, domain))
    experiments = {
        key: _experiment(key, parsed.experiments[key]) for key in sorted(parsed.experiments)
    }
    # Ranges follow the order of the variants, which canonical JSON, sorting keys, forgets.
    order = [(key, [v.key for v in experiment.variants]) for key, experiment in experiments.items()]
    text = f"{EVALUATOR_VERSION}:{canonical_hash(parsed)}:{order}"
    return Definitions(experiments, hashlib.sha256(text.encode()).hexdigest())


def _experiment(key: str, definition: ExperimentDefinition) -> Experiment:
    return Experiment(
        key=key,
        unit=definition.unit,
        salt=definition.salt,
        variants=tuple(
            Variant(
                name,
                variant.weight,
                dict(variant.objective_weights),
                variant.interleave,
                variant.bundle or "",
            )
            for name, variant in definition.variants.items()
        ),
        coverage=definition.coverage,
        running=definition.running,
        revision=definition.revision,
        description=definition.description,
    )


def _errors(file: ExperimentsFile, domain: Domain | None) -> Iterator[tuple[Location, str]]:
    salts: dict[str, str] = {}
    interleaving: str | None = None
    naming: str | None = None
    for key, experiment in file.experiments.items():
        at: Location = ("experiments", key)
        yield from _interleaving_errors(at, experiment)
        if experiment.running and any(v.interleave for v in experiment.variants.values()):
            if interleaving is not None:
                yield (*at, "running"), f"{interleaving} interleaves, too: one slate can't do both"
            interleaving = key
        if experiment.running and any(v.bundle for v in experiment.variants.values()):
            if naming is not None:
                yield (*at, "running"), f"{naming} names bundles, too: one request is of one bundle"
            naming = key
        total = math.fsum(v.weight for v in experiment.variants.values())
        if abs(total - 1) > _WEIGHT_TOLERANCE:
            yield (*at, "variants"), f"the weights sum to {total:g}, must sum to 1"
        other = salts.setdefault(experiment.salt, key)
        if other != key:
            yield (*at, "salt"), f"is also that of {other}: their variants would go together"
        if domain is None:
            continue
        for name, variant in experiment.variants.items():
            for objective in variant.objective_weights:
                if objective not in domain.objectives:
                    known = ", ".join(sorted(domain.objectives))
                    yield (
                        (*at, "variants", name, "objective_weights", objective),
                        f"{objective!r} is not one of {known}",
                    )


def _interleaving_errors(
    at: Location, experiment: ExperimentDefinition
) -> Iterator[tuple[Location, str]]:
    for name, variant in experiment.variants.items():
        if variant.interleave is None:
            continue
        here: Location = (*at, "variants", name)
        if variant.objective_weights:
            yield (*here, "objective_weights"), "are those of the variants that are interleaved"
        if variant.interleave[0] == variant.interleave[1]:
            yield (*here, "interleave"), "must be two different variants"
        for index, key in enumerate(variant.interleave):
            other = experiment.variants.get(key)
            if other is None or other.interleave is not None:
                yield (
                    (*here, "interleave", index),
                    f"{key!r} is not another variant that does not interleave itself",
                )
            elif other.bundle is not None and other.bundle != variant.bundle:
                yield (*here, "bundle"), f"must be that of {key}: one slate is of one bundle"
