"""How a surface selects its slate: diversity, exploration, pacing, fixed positions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.domain_features import Duration, Name

MAX_DRAWN = 5_000
_LAST_POSITION = 199

Position = Annotated[int, Field(ge=0, le=_LAST_POSITION)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Margin(_Strict):
    """What an item earns: price x share, in the domain's currency.

    ``price``: a feature in minor units. ``share``: a number, or a feature that holds it.
    ``currency``: a feature that holds the price's currency code, by which ``currency_rates`` are
    looked up; without it prices are in the domain's own.
    """

    price: Name
    share: Share | Name
    currency: Name | None = None


class Diversity(_Strict):
    """Unlikeness on the items' vectors: an item is worth its value less (1 - relevance) / relevance
    x spread x its likeness to what stands above, on earlier pages too; spread is the standard
    deviation of the candidates' values.

    ``kind`` mmr: maximal marginal relevance (Carbonell & Goldstein 1998); likeness is the largest
    cosine similarity to one item above, where that is above 0. ``kind`` dpp: a determinantal point
    process (Chen, Zhang & Zhou 2018); likeness is what all items above together say of it already,
    -log of the share of its volume that is left, at most 4.6. ``relevance``, lambda or theta in the
    papers: how much the value counts.
    """

    kind: Literal["mmr", "dpp"] = "mmr"
    relevance: float = Field(gt=0, le=1, allow_inf_nan=False)


class ExplorationPolicy(_Strict):
    """On ``share`` of the requests, each position that is not fixed is drawn: softmax over what is
    feasible, at ``temperature`` in units of the candidates' spread of values. At most the best
    ``candidates`` can be drawn; all of them are logged."""

    share: Share = 0.02
    temperature: float = Field(gt=0, le=100, allow_inf_nan=False)
    candidates: int = Field(default=500, ge=1, le=MAX_DRAWN)


class NewItems(_Strict):
    """New items are guaranteed ``until`` impressions by the feature ``impressions``: ``position``
    is for those that are behind. With ``published`` (epoch ms) an item is new, and is to have them,
    while it is younger than ``younger_than``; without it until it has them."""

    position: Position
    impressions: Name
    until: int = Field(ge=1, le=1_000_000)
    published: Name | None = None
    younger_than: Duration | None = None

    @model_validator(mode="after")
    def _age(self) -> NewItems:
        if (self.published is None) != (self.younger_than is None):
            raise ValueError("published and younger_than go together")
        return self


class LoadCap(_Strict):
    """An item whose ``load`` is at least ``at`` x its ``capacity`` (both features) is left out, or
    worth less by the share ``discount`` of its value. Without a capacity there is no limit."""

    load: Name
    capacity: Name
    at: float = Field(default=1.0, gt=0, le=10, allow_inf_nan=False)
    discount: Share | None = None


class ImpressionFloor(_Strict):
    """Groups (as hosts) whose items had less than ``floor`` x an equal share of the impressions.

    Their items are worth more by the share ``boost`` of their value, and the best item of the group
    that is furthest below gets ``position``; at least one of the two is given.
    """

    group: Name
    impressions: Name
    floor: Share
    boost: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)
    position: Position | None = None

    @model_validator(mode="after")
    def _something_given(self) -> ImpressionFloor:
        if not self.boost and self.position is None:
            raise ValueError("boost or position is required")
        return self


class Pin(_Strict):
    """``position`` is the item's of that ``id``, or the first's that the source named ``source``
    yielded, where it is among the candidates that the filters left."""

    position: Position
    id: str | None = Field(default=None, min_length=1, max_length=128)
    source: Name | None = None

    @model_validator(mode="after")
    def _one_item(self) -> Pin:
        if (self.id is None) == (self.source is None):
            raise ValueError("exactly one of id and source is required")
        return self


class Selection(_Strict):
    """What a surface does beyond taking the best under its caps. Positions count from 0."""

    diversity: Diversity | None = None
    exploration: ExplorationPolicy | None = None
    new_items: NewItems | None = None
    load_cap: LoadCap | None = None
    impression_floor: ImpressionFloor | None = None
    pins: list[Pin] = []
