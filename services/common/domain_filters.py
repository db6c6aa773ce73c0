"""How a surface declares its filters: what must not be shown, and to whom.

``services.ranker.filters`` has one rule for each kind. What a kind does with a value that is
missing is said there, and here where it can be configured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.domain_features import Duration, Name

Missing = Literal["keep", "remove"]
"""What becomes of an item that lacks the value a filter reads."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RequireFilter(_Strict):
    """Keeps items whose boolean attribute is true; a missing value is removed."""

    kind: Literal["require"]
    attribute: Name


class ExcludeFilter(_Strict):
    """Removes items with a boolean attribute that is true; unknown is kept.

    Exactly one of ``attribute`` and ``attributes``: each flag is counted under its own name.
    """

    kind: Literal["exclude"]
    attribute: Name | None = None
    attributes: list[Name] = []

    @model_validator(mode="after")
    def _one_way(self) -> ExcludeFilter:
        if (self.attribute is None) == (not self.attributes):
            raise ValueError("exactly one of attribute and attributes is required")
        return self

    @property
    def flags(self) -> list[str]:
        """The attributes, however they were given."""
        return self.attributes if self.attribute is None else [self.attribute]


class PositiveFilter(_Strict):
    """Keeps items whose number is above zero or unknown, e.g. seats left."""

    kind: Literal["positive"]
    attribute: Name


class OpenWindowFilter(_Strict):
    """Keeps items while now lies within two epoch-millisecond attributes; unknown means open."""

    kind: Literal["open_window"]
    opens: Name
    closes: Name


class LiveOrStartingFilter(_Strict):
    """Keeps rooms that are ``live``, and those whose ``starts`` (epoch ms) lies ahead by at most
    ``within``. A room of which neither is known is removed.

    ``heard``: a flag that a live room must have, too, as one that tells rooms fallen silent; a room
    that is yet to start has not been heard.
    """

    kind: Literal["live_or_starting"]
    live: Name
    heard: Name | None = None
    starts: Name
    within: Duration


class HeardWithinFilter(_Strict):
    """Keeps items last heard of (``attribute``, epoch ms) no longer than ``within`` ago; unknown is
    kept. It holds without the feature service, too, whose word on silence may be an old one."""

    kind: Literal["heard_within"]
    attribute: Name
    within: Duration


class LanguageFilter(_Strict):
    """Keeps items in the language of the request's locale, or in one of the user's.

    ``attribute`` is a BCP 47 tag or a list of them, of which the language alone counts: "en-GB" is
    shown to "en-US". ``feature``: the user's own languages. Who says no language is shown all.
    """

    kind: Literal["language"]
    attribute: Name
    feature: Name | None = None
    missing: Missing = "keep"


class RegionFilter(_Strict):
    """Keeps items whose regions include the request's; without a region of the request, those that
    are not limited to any. ``attribute`` is one region or a list of them."""

    kind: Literal["region"]
    attribute: Name
    missing: Missing = "keep"


class AgeFilter(_Strict):
    """Keeps items whose minimum age the user has reached; of no known age, those without one.

    The age is the request's attribute ``context``, or else the user's ``feature``.
    """

    kind: Literal["age"]
    attribute: Name
    context: Name | None = None
    feature: Name | None = None

    @model_validator(mode="after")
    def _some_age(self) -> AgeFilter:
        if self.context is None and self.feature is None:
            raise ValueError("context or feature is required: where the age comes from")
        return self


class PriceCapFilter(_Strict):
    """Keeps items that cost at most the least of the caps there are: ``most``, the request's
    attribute ``context``, the user's ``feature``. All in the units of ``attribute``."""

    kind: Literal["price_cap"]
    attribute: Name
    most: Annotated[int, Field(ge=0)] | None = None
    context: Name | None = None
    feature: Name | None = None
    missing: Missing = "keep"

    @model_validator(mode="after")
    def _some_cap(self) -> PriceCapFilter:
        if self.most is None and self.context is None and self.feature is None:
            raise ValueError("most, context or feature is required: what the price is held to")
        return self


class PrerequisitesFilter(_Strict):
    """Keeps items of which all required ids, a list attribute, are in the user's list feature;
    without a requirement an item is kept."""

    kind: Literal["prerequisites"]
    attribute: Name
    feature: Name


class NotInListFilter(_Strict):
    """Removes items whose ``attribute`` ("id" for their own) is in the user's list feature."""

    kind: Literal["not_in_list"]
    feature: Name
    attribute: str = "id"


class SeenFilter(_Strict):
    """Removes items whose ``attribute`` ("id" for their own) stands at least ``times`` times in the
    user's list feature, whose ttl is the window."""

    kind: Literal["seen"]
    feature: Name
    attribute: str = "id"
    times: int = Field(default=1, ge=1, le=500)


Filter = Annotated[
    RequireFilter
    | ExcludeFilter
    | PositiveFilter
    | OpenWindowFilter
    | LiveOrStartingFilter
    | HeardWithinFilter
    | LanguageFilter
    | RegionFilter
    | AgeFilter
    | PriceCapFilter
    | PrerequisitesFilter
    | NotInListFilter
    | SeenFilter,
    Field(discriminator="kind"),
]


def context_numbers(filters: Iterable[Filter]) -> frozenset[str]:
    """Attributes of the request that filters read as numbers."""
    read = (rule.context for rule in filters if isinstance(rule, AgeFilter | PriceCapFilter))
    return frozenset(name for name in read if name is not None)
