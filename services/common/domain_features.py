"""How a domain declares features. What each means is said in ``services.feature.definitions``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.common.durations import duration_ms

_SHORTEST_WINDOW = "1m"
_LONGEST = "3650d"
MAX_VECTOR_DIM = 1_024
HEARD = "heard"
"""Attribute that every event of a room's state sets: with a time to live, whether it is silent."""
HEARD_AT = "heard_at_ms"
"""The time of that event (epoch ms), for who must tell silence without the feature service."""

_VECTOR = re.compile(r"^vector\[([1-9][0-9]{0,3})\]$")


def _checked_duration(text: str) -> str:
    if duration_ms(text) > duration_ms(_LONGEST):
        raise ValueError(f"{text!r} is longer than {_LONGEST}")
    return text


def _checked_window(text: str) -> str:
    if duration_ms(text) < duration_ms(_SHORTEST_WINDOW):
        raise ValueError(f"{text!r} is shorter than {_SHORTEST_WINDOW}")
    return _checked_duration(text)


def vector_dim(dtype: str) -> int | None:
    """Elements of ``vector[N]``; None for another type."""
    found = _VECTOR.match(dtype)
    return int(found[1]) if found else None


def _checked_attribute_dtype(text: str) -> str:
    dim = vector_dim(text)
    if dim is None and text not in ("string", "int", "float", "bool", "strings"):
        raise ValueError(f"{text!r} is none of string, int, float, bool, strings and vector[N]")
    if dim is not None and dim > MAX_VECTOR_DIM:
        raise ValueError(f"{text!r} has more than {MAX_VECTOR_DIM} elements")
    return text


Duration = Annotated[str, AfterValidator(_checked_duration)]
Window = Annotated[str, AfterValidator(_checked_window)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
DType = Literal["string", "int", "float", "bool"]
AttributeDType = Annotated[str, AfterValidator(_checked_attribute_dtype)]
"""string, int, float, bool, strings (a list, as of tags) or vector[N] (N float32)."""

Transform = Literal["none", "log1p"]
Events = Annotated[list[Name], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _FeatureBase(_Strict):
    entities: list[Name] = Field(min_length=1)
    description: str = ""


class AttributeFeature(_FeatureBase):
    """Latest value of an attribute; STALE once it is older than ``ttl``.

    ``attribute`` defaults to the feature's name.
    """

    kind: Literal["attribute"]
    attribute: Name | None = None
    ttl: Duration | None = None


class CountFeature(_FeatureBase):
    """Number of events in the window. A full refund takes one purchase back."""

    kind: Literal["count"]
    events: Events
    window: Window
    transform: Transform = "log1p"


class SumFeature(_FeatureBase):
    """Sum of an event attribute; ``amount_minor`` of purchases falls by their refunds."""

    kind: Literal["sum"]
    events: Events
    value: Name
    window: Window
    transform: Transform = "log1p"


class MeanFeature(_FeatureBase):
    """Sum of an event attribute over the number of events that have it; NULL without one."""

    kind: Literal["mean"]
    events: Events
    value: Name
    window: Window
    default: Number = 0.0
    transform: Transform = "none"


class ExtremeFeature(_FeatureBase):
    """Least or greatest value of an event attribute; NULL without one. Not reversed by refunds."""

    kind: Literal["min", "max"]
    events: Events
    value: Name
    window: Window
    default: Number = 0.0
    transform: Transform = "none"


class LastFeature(_FeatureBase):
    """The attribute's value in the last event of the window that has it, by event time, then
    arrival; NULL without one. Not reversed by refunds."""

    kind: Literal["last"]
    events: Events
    value: Name
    window: Window
    transform: Transform = "none"


class DistinctFeature(_FeatureBase):
    """How many different entities of type ``of`` the window's events name, ``cap`` at most.

    Exact up to ``cap``. ``of: user`` counts who acted. Not reversed by refunds.
    """

    kind: Literal["distinct"]
    events: Events
    of: Name
    window: Window
    cap: int = Field(default=1_000, ge=1, le=10_000)
    transform: Transform = "log1p"


class RateFeature(_FeatureBase):
    """Events in the window per ``per``: the count x per / window."""

    kind: Literal["rate"]
    events: Events
    window: Window
    per: Duration = "1h"
    transform: Transform = "none"


class Prior(_Strict):
    """Pseudo-counts of a smoothed ratio."""

    numerator: float = Field(ge=0, allow_inf_nan=False)
    denominator: float = Field(gt=0, allow_inf_nan=False)


class RatioFeature(_FeatureBase):
    """(numerator events + prior) / (denominator events + prior) in the window."""

    kind: Literal["ratio"]
    numerator: Events
    denominator: Events
    window: Window
    prior: Prior


class RecencyFeature(_FeatureBase):
    """Seconds since the last such event; ``default`` when there was none."""

    kind: Literal["recency"]
    events: Events
    default: Number = 31_536_000.0
    transform: Transform = "log1p"


class LastNFeature(_FeatureBase):
    """The last ``limit`` events that name an entity of type ``of``, oldest first.

    ``emit`` chooses what is listed: the entity's id or the event's type. Entries older than
    ``ttl`` are left out. Refunds reverse nothing.
    """

    kind: Literal["last_n"]
    events: Events
    of: Name
    limit: int = Field(ge=1, le=500)
    emit: Literal["id", "event_type"] = "id"
    ttl: Duration | None = None


class ExpressionFeature(_FeatureBase):
    """Arithmetic over other numeric features of the entity; see ``services.common.formula``.

    Each stands for what is served, its default included. NULL where the result is not finite.
    """

    kind: Literal["expression"]
    formula: str = Field(min_length=1, max_length=500)
    default: Number = 0.0
    transform: Transform = "none"


class PairsFeature(_FeatureBase):
    """The user's pairs whose other side acted last, the latest first, ``limit`` at most.

    ``of`` is the pair's entity type, ``events`` what its recency is taken from. ``emit`` chooses
    what is listed: "id", the other side's ids, or the name of a numeric feature of the pair, as a
    vector of ``limit`` elements, 0 where there are fewer.
    """

    kind: Literal["pairs"]
    events: Events
    of: Name
    limit: int = Field(ge=1, le=100)
    emit: Name = "id"


Feature = Annotated[
    AttributeFeature
    | CountFeature
    | SumFeature
    | MeanFeature
    | ExtremeFeature
    | LastFeature
    | DistinctFeature
    | RateFeature
    | RatioFeature
    | RecencyFeature
    | LastNFeature
    | ExpressionFeature
    | PairsFeature,
    Field(discriminator="kind"),
]
