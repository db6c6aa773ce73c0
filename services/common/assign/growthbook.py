"""Reads the payload of GrowthBook's SDK endpoint: features, their rules, saved groups.

Every unit keeps its bucket and every feature its value: rules become those of flags, with the
hashes, ranges and conditions that they have there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.assign.javascript import truthy
from services.common.errors import InvalidArgument

_HASHES = {1: "fnv1", 2: "fnv2"}
_DEFAULT_UNIT = "id"


@dataclass(frozen=True)
class Imported:
    """``file``: the content of an experiments file. ``left_out``: what it has not, and why."""

    file: dict[str, Any]
    left_out: list[str]


def imported(payload: object, aliases: Mapping[str, str]) -> Imported:
    """The experiments file that decides as the payload does. ``aliases``: types of units by hash
    attribute. Raises ``InvalidArgument`` for what is no such payload."""
    features = payload.get("features") if isinstance(payload, Mapping) else None
    if not isinstance(payload, Mapping) or not isinstance(features, Mapping):
        encrypted = isinstance(payload, Mapping) and "encryptedFeatures" in payload
        raise InvalidArgument.field(
            "features", "is encrypted: export it plain" if encrypted else "must be a mapping"
        )
    left_out: list[str] = []
    flags = {key: _flag(key, feature, left_out) for key, feature in features.items()}
    for auto in payload.get("experiments") or ():
        key = auto.get("key", "?") if isinstance(auto, Mapping) else "?"
        left_out.append(f"experiment {key}: runs in web pages (visual editor or redirect)")
    found: dict[str, Any] = {"flags": flags}
    if groups := payload.get("savedGroups"):
        found["saved_groups"] = dict(groups)
    if aliases:
        found["aliases"] = dict(aliases)
    return Imported(found, left_out)


def _flag(key: str, feature: object, left_out: list[str]) -> dict[str, Any]:
    if not isinstance(feature, Mapping):
        raise InvalidArgument.field(f"features.{key}", "must be a mapping")
    rules: list[dict[str, Any]] = []
    for index, rule in enumerate(feature.get("rules") or ()):
        where = f"features.{key}.rules.{index}"
        if not isinstance(rule, Mapping):
            raise InvalidArgument.field(where, "must be a mapping")
        try:
            rules.append(dict(_rule(key, rule)))
        except _LeftOut as reason:
            left_out.append(f"{where}: {reason}")
            if rule.get("parentConditions"):
                rules.append(_only_prerequisites(rule["parentConditions"]))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidArgument.field(where, f"is not understood: {error}") from error
    found: dict[str, Any] = {"default": feature.get("defaultValue")}
    if rules:
        found["rules"] = rules
    return found


class _LeftOut(Exception):
    """A rule that never decides there."""


def _rule(flag: str, rule: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    if rule.get("id"):
        yield "id", rule["id"]
    if rule.get("parentConditions"):
        yield "prerequisites", [_prerequisite(part) for part in rule["parentConditions"]]
    if rule.get("filters"):
        yield "filters", [_filter(part) for part in rule["filters"]]
    if "force" not in rule:
        variations = rule.get("variations")
        if not variations or len(variations) < 2:
            raise _LeftOut("has neither a value nor two variations")
        yield "experiment", dict(_experiment(flag, rule, variations))
        return
    yield "value", rule["force"]
    if truthy(rule.get("condition")):
        yield "condition", rule["condition"]
    if rule.get("range") or rule.get("coverage") is not None:
        yield "rollout", dict(_rollout(flag, rule))


def _only_prerequisites(parents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A rule for nobody, whose gates shut all the same."""
    nobody = {"unit": _DEFAULT_UNIT, "salt": "", "hash": "fnv1", "coverage": 0.0}
    return {"prerequisites": [_prerequisite(part) for part in parents], "rollout": nobody}


def _prerequisite(parent: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": parent["id"],
        "condition": parent.get("condition") or {},
        "gate": truthy(parent.get("gate")),
    }


def _filter(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "salt": part["seed"],
        "ranges": [list(bounds) for bounds in part["ranges"]],
        "unit": part.get("attribute") or _DEFAULT_UNIT,
        "hash": _hash(part.get("hashVersion") or 2),
    }


def _rollout(flag: str, rule: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "unit", rule.get("hashAttribute") or _DEFAULT_UNIT
    yield "salt", rule.get("seed") or flag
    yield "hash", _hash(rule.get("hashVersion") or 1)
    if rule.get("range"):
        yield "range", list(rule["range"])
    elif rule.get("coverage") is not None:
        yield "coverage", rule["coverage"]
    if rule.get("fallbackAttribute") and not rule.get("disableStickyBucketing"):
        yield "fallback_unit", rule["fallbackAttribute"]


def _experiment(
    flag: str, rule: Mapping[str, Any], variations: Sequence[object]
) -> Iterator[tuple[str, object]]:
    key = rule.get("key") or flag
    meta = list(rule.get("meta") or ())
    yield "key", key
    if rule.get("name"):
        yield "description", rule["name"]
    yield "unit", rule.get("hashAttribute") or _DEFAULT_UNIT
    yield "salt", rule.get("seed") or key
    yield "hash", _hash(rule.get("hashVersion") or 1)
    yield "running", True
    yield "revision", 1
    weights = _weights(rule.get("weights"), len(variations))
    variants: dict[str, dict[str, Any]] = {}
    for index, value in enumerate(variations):
        about = meta[index] if index < len(meta) else {}
        name = about.get("key") or str(index)
        if name in variants:
            raise ValueError(f"two variations have the key {name!r}")
        variants[name] = {"weight": weights[index], "value": value}
        if not about.get("key"):
            variants[name]["named"] = False
        if about.get("passthrough"):
            variants[name]["passthrough"] = True
    yield "variants", variants
    if "coverage" in rule:
        yield "coverage", min(max(rule["coverage"], 0), 1)
    if rule.get("ranges"):
        yield "ranges", _ranges(rule["ranges"], len(variations))
    if truthy(rule.get("condition")):
        yield "condition", rule["condition"]
    if rule.get("filters"):
        yield "filters", [_filter(part) for part in rule["filters"]]
    elif rule.get("namespace"):
        yield "namespace", list(rule["namespace"])
    if not rule.get("disableStickyBucketing"):
        sticky = {
            "fallback_unit": rule.get("fallbackAttribute") or "",
            "version": rule.get("bucketVersion") or 0,
            "min_version": rule.get("minBucketVersion") or 0,
        }
        yield "sticky", sticky


def _weights(given: Sequence[float] | None, count: int) -> list[float]:
    """As the SDK takes them: equal ones where they don't fit or don't sum to about 1."""
    equal = [1 / count] * count
    if given is None or len(given) != count:
        return equal
    total = 0.0
    for weight in given:
        total += weight
    return list(given) if 0.99 <= total <= 1.01 else equal


def _ranges(given: Sequence[Sequence[float]], count: int) -> list[list[float]]:
    """One range a variation. A missing one has nobody; one too many means the first variation
    without an experiment, for which there is no form here."""
    if len(given) > count:
        raise ValueError(f"has {len(given)} ranges for {count} variations")
    return [list(bounds) for bounds in given] + [[0.0, 0.0]] * (count - len(given))


def _hash(version: object) -> str:
    name = _HASHES.get(version) if isinstance(version, int) else None
    if name is None:
        raise _LeftOut(f"its hash version {version!r} is not one of {sorted(_HASHES)}")
    return name
