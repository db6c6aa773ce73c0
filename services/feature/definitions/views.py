"""Feature views: columns, and the hash that names them. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from services.common.domain import Domain, features_of
from services.common.domain_features import (
    Feature,
    vector_dim,
)
from services.feature.definitions.values import (
    ATTRIBUTE_DTYPES,
    FeatureDType,
    FeatureValue,
    inputs_of,
    value_dtype,
)
from services.feature.definitions.windows import smoothed_ratio


@dataclass(frozen=True)
class ViewFeature:
    """One column of a view.

    ``default`` is served when the value is not PRESENT; its type is the dtype's: float, int, str,
    a tuple of str, or of ``dim`` floats. ``attribute`` is the attribute read, for kind "attribute".
    """

    name: str
    kind: str
    dtype: FeatureDType
    default: FeatureValue
    definition: Feature
    attribute: str | None = None
    dim: int = 0


@dataclass(frozen=True)
class FeatureView:
    """All features of one entity type in declared order. ``hash`` covers name and definitions."""

    entity: str
    name: str
    hash: str
    features: tuple[ViewFeature, ...]

    def names(self, dtype: FeatureDType) -> tuple[str, ...]:
        """Columns of ``dtype``, in order."""
        return self._names.get(dtype, ())

    @cached_property
    def vector_dims(self) -> tuple[int, ...]:
        """Elements of each vector, in order."""
        return tuple(feature.dim for feature in self.features if feature.dtype == "vector")

    @cached_property
    def _names(self) -> Mapping[FeatureDType, tuple[str, ...]]:
        names: dict[FeatureDType, list[str]] = {}
        for feature in self.features:
            names.setdefault(feature.dtype, []).append(feature.name)
        return {dtype: tuple(found) for dtype, found in names.items()}


def compile_views(domain: Domain) -> dict[str, FeatureView]:
    """The view of every entity type that has features, by entity type in declared order."""
    views: dict[str, FeatureView] = {}
    for entity in domain.entities:
        columns = tuple(
            _view_feature(domain, entity, name, feature)
            for name, feature in features_of(domain, entity).items()
        )
        if columns:
            name = f"{domain.name}.{entity}"
            views[entity] = FeatureView(
                entity, name, _view_hash(domain, entity, name, columns), columns
            )
    return views


def _view_feature(domain: Domain, entity: str, name: str, feature: Feature) -> ViewFeature:
    attribute: str | None = None
    dim = 0
    dtype: FeatureDType
    default: FeatureValue
    match feature.kind:
        case "attribute":
            attribute = feature.attribute or name
            declared = domain.entities[entity].attributes[attribute]
            dim = vector_dim(declared) or 0
            dtype = "vector" if dim else ATTRIBUTE_DTYPES[declared]
            default = _NO_VALUE[dtype] if not dim else (0.0,) * dim
        case "count" | "distinct":
            dtype, default = "int64", 0
        case "sum":
            dtype = "float32" if value_dtype(domain, feature) == "float" else "int64"
            default = _NO_VALUE[dtype]
        case "min" | "max":
            floats = value_dtype(domain, feature) == "float"
            dtype = "float32" if floats else "int64"
            default = feature.default if floats else int(feature.default)
        case "last":
            dtype = ATTRIBUTE_DTYPES[value_dtype(domain, feature)]
            default = _NO_VALUE[dtype]
        case "rate":
            dtype, default = "float32", 0.0
        case "mean" | "recency" | "expression":
            dtype, default = "float32", feature.default
        case "ratio":
            dtype = "float32"
            default = smoothed_ratio(0, 0, feature.prior.numerator, feature.prior.denominator)
        case "pairs" if feature.emit != "id":
            dtype, dim = "vector", feature.limit
            default = (0.0,) * dim
        case _:
            dtype, default = "list", ()
    return ViewFeature(name, feature.kind, dtype, default, feature, attribute, dim)


_NO_VALUE: Final[Mapping[FeatureDType, FeatureValue]] = MappingProxyType(
    {"string": "", "int64": 0, "float32": 0.0, "list": ()}
)


def _view_hash(domain: Domain, entity: str, name: str, columns: tuple[ViewFeature, ...]) -> str:
    described: list[Any] = [_described(domain, column) for column in columns]
    keyed = _keyed(domain, entity)
    if keyed:
        described.append(keyed)
    text = json.dumps([name, described], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _described(domain: Domain, column: ViewFeature) -> dict[str, Any]:
    # What a feature says about itself and which other entities have it do not change its values;
    # what is not said must not either, so that a later option leaves the hash as it was.
    described: dict[str, Any] = {
        "name": column.name,
        "dtype": column.dtype,
        "attribute": column.attribute,
        "definition": column.definition.model_dump(
            mode="json", exclude={"entities", "description"}, exclude_defaults=True
        ),
    }
    if column.dim:
        described["dim"] = column.dim
    definition = column.definition
    if definition.kind in ("distinct", "pairs"):
        keyed = _keyed(domain, definition.of)
        if keyed:
            described["of"] = keyed
    if definition.kind == "pairs" and definition.emit != "id":
        emitted = domain.features[definition.emit]
        described["emitted"] = [
            _described(domain, _view_feature(domain, definition.of, name, domain.features[name]))
            for name in (definition.emit, *inputs_of(emitted))
        ]
    return described


def _keyed(domain: Domain, entity: str) -> dict[str, Any]:
    """What leads events to keys of this type, if they are not named outright."""
    declared = domain.entities[entity]
    keyed: dict[str, Any] = {}
    if declared.derived_from:
        # Their order counts.
        keyed["derived_from"] = list(declared.derived_from.items())
    if declared.pair is not None:
        keyed["pair"] = [[member, _keyed(domain, member)] for member in declared.pair]
    return keyed
