"""The domain as data: entities, events, features, surfaces, objectives, model inputs.

One YAML file (``config/*.yaml``) describes a domain; this module is its schema. Nothing in the
code names a course or a room: a new catalogue needs a YAML file only.
"""

from __future__ import annotations

import zoneinfo
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.common.crosses import Cross
from services.common.domain_features import (
    AttributeDType,
    DType,
    Duration,
    Feature,
    Name,
    Number,
)
from services.common.domain_filters import Filter
from services.common.domain_metrics import Metric
from services.common.domain_references import reference_errors
from services.common.domain_selection import Margin, Selection
from services.common.domain_sources import MAX_SOURCES, Source
from services.common.yaml_config import canonical_hash, load_yaml


def _checked_zone(name: str) -> str:
    known = zoneinfo.available_timezones()
    if known and name not in known:
        raise ValueError(f"{name!r} is not an IANA time zone")
    return name


TimeZone = Annotated[str, AfterValidator(_checked_zone)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TowerFields(_Strict):
    """What the item tower reads of an entity.

    ``fields`` maps a vocabulary to the attribute whose value is looked up in it; the attribute
    ``id`` is the entity's own id. Vocabularies are shared by all entities that name them.
    """

    fields: dict[Name, str]
    numeric: list[Name] = []


class Carries(_Strict):
    """What an entity carries of another that it names at the moment, as a room of its course.

    ``by``: its string feature that holds the other's id. ``features`` of the ``entity``: to the
    ranker they are features of the entity that carries them, missing while what it names is not
    known or withdrawn.
    """

    by: Name
    entity: Name
    features: list[Name] = Field(min_length=1)


class Entity(_Strict):
    """A catalogue type, a kind of actor, or a key that events lead to.

    ``derived_from``: no event has to name it; it is what an attribute says of an entity that the
    event names, as the log had it when the event came. {course: category} makes an event about a
    course one about its category, too; of several the first in this order counts.
    ``pair``: two entity types; one such key stands for what both are named in, e.g. [user, host].
    ``filterable``: features that a caller's own filter may ask for; "id" is the entity's own id.
    ``carries``: features it has of what it names.
    """

    attributes: dict[Name, AttributeDType] = {}
    title: Name | None = None
    tower: TowerFields | None = None
    derived_from: dict[Name, Name] = {}
    pair: tuple[Name, Name] | None = None
    filterable: list[str] = []
    carries: Carries | None = None


class EventType(_Strict):
    """A kind of event. ``attributes`` are the ones that features and objectives may read."""

    attributes: dict[Name, DType] = {}


class Attribution(_Strict):
    """How an event is credited to an impression.

    An event that carries a rank_id belongs to that slate's item. One without is credited to the
    ``touch`` (first or last) impression of the same user within ``window`` before it that matches
    on ``match``: "item" (same subject entity) or an entity type both name (e.g. "course").
    Unless ``across_surfaces``, the event must name the impression's surface.
    """

    window: Duration
    touch: Literal["first", "last"] = "last"
    across_surfaces: bool = False
    match: Name = "item"


class Objective(_Strict):
    """What the ranker predicts for an impression, and its weight in the value.

    Exactly one of: ``events`` (one of these was credited; ``at_least`` sets minimal attribute
    values), ``repeat_of`` (the objective named was met, and met again by the same user within
    ``within``), ``reversal_of`` (the purchase credited to the objective named was refunded).
    ``reversed_by_refund``: a full refund within ``refund_delay`` undoes the label. A label is
    mature once window, ``within`` and ``refund_delay`` have passed.

    ``money``: its probability counts times what the item earns, the surface's ``margin``.
    """

    weight: Number
    money: bool = False
    attribution: Attribution | None = None
    events: list[Name] = []
    at_least: dict[Name, int] = {}
    repeat_of: Name | None = None
    within: Duration | None = None
    reversal_of: Name | None = None
    reversed_by_refund: bool = False
    refund_delay: Duration | None = None

    @model_validator(mode="after")
    def _one_definition(self) -> Objective:
        if sum((bool(self.events), bool(self.repeat_of), bool(self.reversal_of))) != 1:
            raise ValueError("exactly one of events, repeat_of, reversal_of is required")
        if self.events and self.attribution is None:
            raise ValueError("attribution is required with events")
        if self.repeat_of and self.within is None:
            raise ValueError("within is required with repeat_of")
        if (self.reversed_by_refund or self.reversal_of) and self.refund_delay is None:
            raise ValueError("refund_delay is required where refunds count")
        return self


class Surface(_Strict):
    """A named place in the app that asks for a slate of one entity type.

    ``candidates``: how many are gathered; ``scored``: how many of them, the best by the first pass,
    the ranker gets, all without it. ``caps``: at most so many items of one value of an attribute.
    ``margin``: what an item earns, for the objectives of money.
    """

    entity: Name
    default_k: int = Field(default=20, ge=1, le=200)
    candidates: int = Field(default=500, ge=1, le=5_000)
    scored: int | None = Field(default=None, ge=1, le=5_000)
    sources: list[Source] = Field(min_length=1, max_length=MAX_SOURCES)
    filters: list[Filter] = []
    caps: dict[Name, Annotated[int, Field(ge=1)]] = {}
    selling_attribute: str | None = None
    objective_weights: dict[Name, Number] = {}
    selection: Selection = Selection()
    margin: Margin | None = None

    @property
    def takes_candidates(self) -> bool:
        """Whether requests may name candidates of their own."""
        return any(source.kind == "caller" for source in self.sources)


class Sequence(_Strict):
    """The history the user tower reads: two aligned last_n features over one entity type."""

    items: Name
    actions: Name
    entity: Name
    length: int = Field(ge=1, le=500)


class Retrieval(_Strict):
    """Shape and training of the sequence retrieval model.

    ``ahead``: what a position of a history learns to predict is one of the user's next ``ahead``
    events, drawn anew each epoch. 1, the very next, suits a log of one-off choices; more suits
    one where several events follow one another on the same item.

    ``layers``: of the transformer, each of ``heads``; with 0 a history is summed, which is faster
    and enough where the order of events says little.

    ``trend``: a count feature of the sequence entity that is an item feature of the ranker too,
    over events of the sequence, of a log with impressions that is split by time. What it says is
    taken as given while the towers learn, so that they learn what is personal beyond it; the ranker
    adds it with its value of the moment. The personal source retrieves without it: what everybody
    buys is for a trending source to bring.
    """

    dim: int = Field(default=64, ge=4, le=512)
    layers: int = Field(default=2, ge=0, le=8)
    heads: int = Field(default=2, ge=1, le=16)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    epochs: int = Field(default=10, ge=1)
    ahead: int = Field(default=1, ge=1)
    trend: Name | None = None
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)


class Ranker(_Strict):
    """Shape and training of the multi-task ranker."""

    hidden: list[Annotated[int, Field(ge=1, le=4096)]] = [64, 32]
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)


class ModelInputs(_Strict):
    """What the models read, and their shapes. ``crosses``: what the ranker reads of an item and its
    user together."""

    sequence: Sequence
    user_features: list[Name] = []
    item_features: list[Name] = []
    crosses: dict[Name, Cross] = {}
    retrieval: Retrieval = Retrieval()
    ranker: Ranker = Ranker()


class Split(_Strict):
    """What is held out. ``leave_last``: each user's last interaction is the test, the one before
    the validation. ``time``: the last ``test`` of the log, and ``validation`` before it."""

    kind: Literal["leave_last", "time"]
    validation: Duration | None = None
    test: Duration | None = None

    @model_validator(mode="after")
    def _durations(self) -> Split:
        if self.kind == "time" and (self.validation is None or self.test is None):
            raise ValueError("validation and test are required with kind time")
        return self


class LogProperties(_Strict):
    """What the log can support.

    ``times``: "wall_clock", or "ordinal" where only each user's own order is known: features over
    other users' windows are refused. ``impressions`` false: no impression is logged, a choice
    is held against what else retrieval yields, and position is absent.
    """

    times: Literal["wall_clock", "ordinal"] = "wall_clock"
    impressions: bool = True


class Domain(_Strict):
    """A whole domain. See ``config/live_courses.yaml``.

    ``currency`` is what money is counted in. ``currency_rates``: how many of its minor units one
    minor unit of another currency is worth. ``metrics``: what experiments are judged by.
    """

    name: Name
    report_time_zone: TimeZone = "UTC"
    currency: Currency = "USD"
    currency_rates: dict[Currency, Rate] = {}
    log: LogProperties = LogProperties()
    entities: dict[Name, Entity] = Field(min_length=1)
    events: dict[Name, EventType] = Field(min_length=1)
    features: dict[Name, Feature]
    objectives: dict[Name, Objective] = Field(min_length=1)
    surfaces: dict[Name, Surface] = Field(min_length=1)
    model: ModelInputs
    split: Split
    metrics: dict[Name, Metric] = {}

    @property
    def config_hash(self) -> str:
        """Hash over the whole domain but its metrics, by which nothing is logged or served."""
        return canonical_hash(self, without={"metrics"})


def load_domain(path: Path) -> Domain:
    """Reads a domain file. Raises ``ConfigError`` naming file, line and field."""
    return load_yaml(path, Domain, reference_errors)


def features_of(domain: Domain, entity: str) -> dict[str, Feature]:
    """Features that rows of ``entity`` have, by name, in declared order."""
    return {n: f for n, f in domain.features.items() if entity in f.entities}
