"""What a set of features reads of events, each thing once, as ``compile_aggregates`` says it for
the online path. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from offline.dataset.distinct import Distinct
from offline.dataset.schema import entity_column, value_column
from services.common.domain import Domain
from services.common.domain_features import (
    DistinctFeature,
    ExtremeFeature,
    Feature,
    LastFeature,
    LastNFeature,
    MeanFeature,
    RecencyFeature,
    SumFeature,
)
from services.common.durations import duration_ms
from services.feature.definitions import (
    USER_ENTITY,
    Fold,
    ViewFeature,
    WindowAggregate,
    value_dtype,
    window_aggregates,
)


@dataclass(frozen=True)
class Contribution:
    """What an event of some types adds: one, what ``column`` holds, or one where it holds
    something (fold "values")."""

    events: tuple[str, ...]
    column: str | None
    fold: Fold


@dataclass(frozen=True)
class Kind:
    """Events of some types, those of them in which ``column`` holds something."""

    events: tuple[str, ...]
    column: str | None


@dataclass
class FeaturePlan:
    """Names of what is computed, for features of one entity type.

    ``totals``: integers to run over, and ``prefixed`` the windows over them; ``extremes``: values
    that windows in ``tiled`` fold; both windows with the contribution's name. ``kinds``: events to
    number; ``distincts`` by feature. ``columns``: of events that are read beside.
    """

    totals: dict[Contribution, str] = field(default_factory=dict)
    prefixed: dict[WindowAggregate, str] = field(default_factory=dict)
    extremes: dict[Contribution, str] = field(default_factory=dict)
    tiled: dict[WindowAggregate, str] = field(default_factory=dict)
    kinds: dict[Kind, str] = field(default_factory=dict)
    distincts: dict[str, Distinct] = field(default_factory=dict)
    columns: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, domain: Domain, features: Iterable[ViewFeature]) -> FeaturePlan:
        """What ``features`` read."""
        plan = cls()
        for feature in features:
            plan._add(domain, feature)
        return plan

    @property
    def event_types(self) -> list[str]:
        """Types of the events that are read."""
        read: set[str] = set()
        for types in (
            *(contribution.events for contribution in (*self.totals, *self.extremes)),
            *(kind.events for kind in self.kinds),
            *(distinct.events for distinct in self.distincts.values()),
        ):
            read.update(types)
        return sorted(read)

    def window_name(self, window: WindowAggregate) -> str:
        """Column of a window's number."""
        index = [*self.prefixed, *self.tiled].index(window)
        return f"window_{index}"

    def contribution(self, window: WindowAggregate) -> str:
        """Column of what events add to a window."""
        return self.prefixed.get(window) or self.tiled[window]

    def _add(self, domain: Domain, column: ViewFeature) -> None:
        definition = column.definition
        for window in window_aggregates(definition):
            self._add_window(window, _value_column(domain, definition))
        kind = kind_of(domain, definition)
        if kind is not None:
            self.kinds.setdefault(kind, f"kind_{len(self.kinds)}")
            self.columns |= {kind.column} if kind.column is not None else set()
        if isinstance(definition, DistinctFeature):
            other = named_by(definition.of)
            window_ms = duration_ms(definition.window)
            events = tuple(sorted(set(definition.events)))
            self.distincts[column.name] = Distinct(events, other, window_ms)
            self.columns.add(other)

    def _add_window(self, window: WindowAggregate, column: str | None) -> None:
        contribution = Contribution(window.events, column if window.value else None, window.fold)
        exact = column is None or column == value_column(window.value or "")
        if window.fold in ("count", "values") or (window.fold == "sum" and exact):
            name = self.totals.setdefault(contribution, f"total_{len(self.totals)}")
            self.prefixed[window] = name
        else:
            contribution = Contribution(window.events, column, "sum")
            name = self.extremes.setdefault(contribution, f"value_{len(self.extremes)}")
            self.tiled[window] = name


def kind_of(domain: Domain, definition: Feature) -> Kind | None:
    """The events of which a feature reads the last ones, if it does."""
    match definition:
        case RecencyFeature():
            return Kind(tuple(sorted(set(definition.events))), None)
        case LastFeature():
            return Kind(tuple(sorted(set(definition.events))), _value_column(domain, definition))
        case LastNFeature():
            return Kind(tuple(sorted(set(definition.events))), entity_column(definition.of))
        case _:
            return None


def named_by(of: str) -> str:
    """Column of whom an event names as an entity of this type; users are who acted."""
    return "actor" if of == USER_ENTITY else entity_column(of)


def _value_column(domain: Domain, definition: Feature) -> str | None:
    if isinstance(definition, SumFeature | MeanFeature | ExtremeFeature | LastFeature):
        return value_column(definition.value, value_dtype(domain, definition))
    return None
