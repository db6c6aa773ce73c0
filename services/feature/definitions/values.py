"""Values that features read and serve, and their types. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from services.common.domain import Domain
from services.common.domain_features import (
    ExtremeFeature,
    Feature,
    LastFeature,
    MeanFeature,
    SumFeature,
    vector_dim,
)
from services.common.formula import names_in, parse_formula
from services.feature.definitions.events import AMOUNT, PURCHASE, REFUND

FeatureDType = Literal["float32", "int64", "string", "list", "vector"]


FeatureValue = float | int | str | tuple[str, ...] | tuple[float, ...]


ATTRIBUTE_DTYPES: Final[Mapping[str, FeatureDType]] = MappingProxyType(
    {"string": "string", "int": "int64", "bool": "int64", "float": "float32", "strings": "list"}
)


Scalar = str | int | float


AttributeValue = Scalar | tuple[str, ...] | tuple[float, ...]


def declared_value(value: Any, dtype: str) -> AttributeValue | None:
    """An attribute's value as its declared dtype is kept: a bool as 0 or 1, a list as a tuple.

    None for a value of another kind. Ingest refuses those; in a bulk log they count as never said.
    """
    if isinstance(value, tuple):
        dim = vector_dim(dtype)
        if dim is None:
            return value if dtype == "strings" and all(isinstance(v, str) for v in value) else None
        numbers = all(isinstance(v, float) for v in value)
        return value if numbers and len(value) == dim else None
    if dtype == "string" or isinstance(value, str):
        return value if dtype == "string" and isinstance(value, str) else None
    if dtype == "bool":
        return int(bool(value)) if isinstance(value, int) else None
    if isinstance(value, bool):
        return None
    if dtype == "float":
        return float(value)
    return value if dtype == "int" and isinstance(value, int) else None


ValueFeature = SumFeature | MeanFeature | ExtremeFeature | LastFeature


def value_dtype(domain: Domain, feature: ValueFeature) -> str:
    """Declared type of the event attribute that a feature reads, the same in all its events."""
    if feature.value == AMOUNT and feature.events[0] in (PURCHASE, REFUND):
        return "int"
    return domain.events[feature.events[0]].attributes.get(feature.value, "int")


def values_read(domain: Domain) -> dict[tuple[str, str], str]:
    """Event attributes that features read: declared type by (event type, attribute)."""
    found: dict[tuple[str, str], str] = {}
    for feature in domain.features.values():
        if feature.kind in ("sum", "mean", "min", "max", "last"):
            dtype = value_dtype(domain, feature)
            found |= {(event, feature.value): dtype for event in feature.events}
    return found


def inputs_of(feature: Feature) -> tuple[str, ...]:
    """Names of the features that an expression reads."""
    return names_in(parse_formula(feature.formula)) if feature.kind == "expression" else ()
