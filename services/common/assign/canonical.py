"""Definitions as canonical JSON: what is hashed, told to watchers and kept on disk.

Each definition is an item of its own, with its revision and the version of the rules that it is
decided by. Fields at their defaults are left out; lists and objects keep their order, which counts
for variants, and in conditions that compare objects.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from services.common.assign.model import (
    EVALUATOR_VERSION,
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
from services.common.assign.registered import (
    Analysis,
    Covariate,
    Guardrail,
    Inside,
    Segment,
    Switchback,
)
from services.common.assign.typed import made

EXPERIMENT: Final = "experiment"
FLAG: Final = "flag"
LAYER: Final = "layer"
SAVED_GROUP: Final = "saved_group"
COMMON: Final = "common"

ItemKey = tuple[str, str]
"""(kind, key)."""

MAX_DEFINITION_BYTES: Final = 512 << 10
"""Of one definition: it is told in one step of a watch."""


class DefinitionError(ValueError):
    """A definition can't be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """One definition. ``text`` is its canonical JSON."""

    kind: str
    key: str
    revision: int
    evaluator_version: int
    text: str

    @property
    def id(self) -> ItemKey:
        """(kind, key)."""
        return self.kind, self.key


def items_of(definitions: Definitions) -> dict[ItemKey, Item]:
    """All definitions by kind and key, in a fixed order."""
    found = [
        Item(COMMON, "", 1, EVALUATOR_VERSION, _text(definitions.common)),
        *(Item(LAYER, k, 1, EVALUATOR_VERSION, _text(v)) for k, v in definitions.layers.items()),
        *(
            Item(SAVED_GROUP, k, 1, EVALUATOR_VERSION, _text(list(v)))
            for k, v in definitions.saved_groups.items()
        ),
        *(
            Item(FLAG, k, v.revision, v.evaluator_version, _text(v))
            for k, v in definitions.flags.items()
        ),
        *(
            Item(EXPERIMENT, k, v.revision, v.evaluator_version, _text(v))
            for k, v in definitions.experiments.items()
        ),
    ]
    # What is not known here is passed on as it came.
    items = {item.id: item for item in found} | dict(definitions.foreign)
    return {key: items[key] for key in sorted(items)}


def item_problem(item: Item) -> str | None:
    """Why a definition can't be told, or None."""
    try:
        item.key.encode()
        size = len(item.text.encode())
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no text"
    if "\0" in item.key:
        return "has a NUL in its key"
    if size > MAX_DEFINITION_BYTES:
        return f"has {size} bytes as canonical JSON, at most {MAX_DEFINITION_BYTES} are allowed"
    return None


def definitions_hash(items: Iterable[Item]) -> str:
    """SHA-256 over all items: equal hashes give equal assignments."""
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.id):
        parts = (item.kind, item.key, str(item.revision), str(item.evaluator_version), item.text)
        digest.update(json.dumps(parts).encode())
    return digest.hexdigest()


def hashed(definitions: Definitions) -> Definitions:
    """The same definitions in key order, with their hash."""
    ordered = dataclasses.replace(
        definitions,
        experiments=dict(sorted(definitions.experiments.items())),
        flags=dict(sorted(definitions.flags.items())),
        layers=dict(sorted(definitions.layers.items())),
        saved_groups=dict(sorted(definitions.saved_groups.items())),
    )
    return dataclasses.replace(ordered, hash=definitions_hash(items_of(ordered).values()))


def definitions_of(items: Iterable[Item]) -> Definitions:
    """The definitions again. What is of a version that is not known stays, and decides nothing.

    Raises ``DefinitionError`` for an item that can't be read.
    """
    kept = sorted(items, key=lambda item: item.id)
    common = Common()
    unsupported = False
    experiments: dict[str, Experiment] = {}
    flags: dict[str, Flag] = {}
    layers: dict[str, Layer] = {}
    groups: dict[str, Sequence[object]] = {}
    foreign = {item.id: item for item in kept if item.evaluator_version != EVALUATOR_VERSION}
    for item in kept:
        known = item.id not in foreign
        version = item.evaluator_version
        try:
            data: Any = json.loads(item.text) if known else {}
            if item.kind == EXPERIMENT:
                experiments[item.key] = (
                    _experiment(data)
                    if known
                    else Experiment(
                        item.key, "", "", (), revision=item.revision, evaluator_version=version
                    )
                )
            elif item.kind == FLAG:
                flags[item.key] = (
                    _flag(data)
                    if known
                    else Flag(item.key, revision=item.revision, evaluator_version=version)
                )
            elif item.kind == LAYER and known:
                layers[item.key] = made(Layer, data)
            elif item.kind == SAVED_GROUP and known:
                groups[item.key] = _list(data)
            elif item.kind == COMMON and known:
                common = _common(data)
            else:
                # Of what goes for others it can't be told for which.
                unsupported = True
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DefinitionError(f"{item.kind} {item.key!r} can't be read: {error}") from error
    found = definitions_hash(kept)
    return Definitions(experiments, found, flags, layers, groups, common, unsupported, foreign)


def _text(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if type(value) is str:
        # What saved groups hold, by the hundred thousand.
        return value
    if dataclasses.is_dataclass(value):
        return {
            f.name: _plain(getattr(value, f.name))
            for f in fields(value)
            if getattr(value, f.name) != _default(f) or f.default is MISSING
        }
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _default(field: dataclasses.Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _pairs(ranges: Any) -> tuple[tuple[float, float], ...]:
    return tuple((start, end) for start, end in ranges)


def _variant(data: dict[str, Any]) -> Variant:
    two = data.get("interleave")
    return made(Variant, {**data, "interleave": (two[0], two[1]) if two else None})


def _list(data: Any) -> list[object]:
    if not isinstance(data, list):
        raise TypeError("must be a list")
    return data


def _filters(data: Any) -> tuple[Filter, ...]:
    return tuple(made(Filter, {**part, "ranges": _pairs(part["ranges"])}) for part in data)


def _prerequisites(data: Any) -> tuple[Prerequisite, ...]:
    return tuple(made(Prerequisite, part) for part in data)


def _experiment(data: dict[str, Any]) -> Experiment:
    if not data["variants"]:
        raise ValueError("it has no variants")
    parts: dict[str, Any] = {
        "variants": tuple(_variant(part) for part in data["variants"]),
        "layer_ranges": _pairs(data.get("layer_ranges", ())),
        "ramp": tuple(made(Step, part) for part in data.get("ramp", ())),
        "prerequisites": _prerequisites(data.get("prerequisites", ())),
        "filters": _filters(data.get("filters", ())),
    }
    if "ranges" in data:
        parts["ranges"] = _pairs(data["ranges"])
    if "namespace" in data:
        name, start, end = data["namespace"]
        parts["namespace"] = (name, start, end)
    if "sticky" in data:
        parts["sticky"] = made(Sticky, data["sticky"])
    if "analysis" in data:
        parts["analysis"] = _analysis(data["analysis"])
    return made(Experiment, {**data, **parts})


def _analysis(data: dict[str, Any]) -> Analysis:
    parts: dict[str, Any] = {
        "guardrails": {k: made(Guardrail, v) for k, v in data.get("guardrails", {}).items()},
        "secondary": tuple(data.get("secondary", ())),
        "segments": {k: made(Segment, v) for k, v in data.get("segments", {}).items()},
        "covariates": {k: made(Covariate, v) for k, v in data.get("covariates", {}).items()},
    }
    if "inside" in data:
        parts["inside"] = made(Inside, {"entered_by": tuple(data["inside"]["entered_by"])})
    if "switchback" in data:
        parts["switchback"] = made(Switchback, data["switchback"])
    return made(Analysis, {**data, **parts})


def _rule(data: dict[str, Any]) -> Rule:
    parts: dict[str, Any] = {
        "prerequisites": _prerequisites(data.get("prerequisites", ())),
        "filters": _filters(data.get("filters", ())),
    }
    if "rollout" in data:
        rollout = dict(data["rollout"])
        if "range" in rollout:
            rollout["range"] = tuple(rollout["range"])
        parts["rollout"] = made(Rollout, rollout)
    if "experiment" in data:
        parts["experiment"] = _experiment(data["experiment"])
    return made(Rule, {**data, **parts})


def _flag(data: dict[str, Any]) -> Flag:
    return made(Flag, {**data, "rules": tuple(_rule(part) for part in data.get("rules", ()))})


def _common(data: dict[str, Any]) -> Common:
    parts: dict[str, Any] = {"from_features": tuple(data.get("from_features", ()))}
    if "holdout" in data:
        parts["holdout"] = made(Holdout, data["holdout"])
    return made(Common, {**data, **parts})
