"""Checks that the sources of a surface name what is there and holds what they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from services.common.domain_feature_references import NUMERIC, held_by, shown_by
from services.common.domain_sources import (
    FollowedHostsSource,
    HistorySource,
    ItemKnnSource,
    NewItemsSource,
    RecentSource,
    ReEngagementSource,
    SameCategorySource,
    Source,
    TrendingSource,
)
from services.common.yaml_config import Location

if TYPE_CHECKING:
    from services.common.domain import Domain, Surface

_USER = "user"


def source_errors(domain: Domain, at: Location, surface: Surface) -> Iterator[tuple[Location, str]]:
    """What is wrong with a surface's sources; ``at`` is where the surface stands."""
    held = shown_by(domain, surface.entity)
    names: set[str] = set()
    for index, source in enumerate(surface.sources):
        place: Location = (*at, "sources", index)
        if source.called in names:
            yield (*place, "name"), f"another source of the surface is called {source.called!r}"
        names.add(source.called)
        yield from _item_errors(place, source, surface.entity, held)
        if (
            isinstance(source, NewItemsSource)
            and source.newest_by is None
            and source.fewest is None
            and surface.selection.new_items is None
        ):
            yield place, "needs newest_by, fewest, or what selection.new_items guarantees"
        if isinstance(source, RecentSource | FollowedHostsSource | HistorySource):
            yield from _list_errors(domain, place, source, surface.entity, held)


def _item_errors(
    place: Location, source: Source, entity: str, held: Mapping[str, str]
) -> Iterator[tuple[Location, str]]:
    """What a source reads of the surface's own items."""
    wanted: list[tuple[str, str | None, tuple[str, ...]]] = []
    if isinstance(source, TrendingSource):
        wanted = [("feature", source.feature, NUMERIC)]
    elif isinstance(source, NewItemsSource):
        wanted = [("newest_by", source.newest_by, ("int",)), ("fewest", source.fewest, NUMERIC)]
    elif isinstance(source, FollowedHostsSource | SameCategorySource | ReEngagementSource):
        wanted = [("order_by", source.order_by, NUMERIC)]
    for field, name, dtypes in wanted:
        if name is not None and held.get(name) not in dtypes:
            kind = "a numeric" if dtypes == NUMERIC else "an int"
            yield (*place, field), f"{name!r} is not {kind} feature of {entity}"


def _list_errors(
    domain: Domain,
    place: Location,
    source: RecentSource | FollowedHostsSource | HistorySource,
    entity: str,
    held: Mapping[str, str],
) -> Iterator[tuple[Location, str]]:
    """What a source reads of the user's lists, and how items answer to them."""
    listed = _listed_entity(domain, source.feature)
    if listed is None:
        yield (
            (*place, "feature"),
            f"{source.feature!r} is not a last_n feature of user that emits id",
        )
        return
    attribute = getattr(source, "attribute", "id")
    if attribute == "id":
        if listed != entity and not isinstance(source, HistorySource):
            yield (*place, "attribute"), f"must say what names a {listed}: items are {entity}s"
    elif held.get(attribute) != "string":
        yield (
            (*place, "attribute"),
            f"{attribute!r} is neither id nor a feature of {entity} that holds string",
        )
    if isinstance(source, RecentSource) and source.without is not None:
        if _listed_entity(domain, source.without) != listed:
            yield (*place, "without"), f"{source.without!r} does not list a user's {listed}s"
    elif isinstance(source, FollowedHostsSource):
        yield from _action_errors(domain, place, source)
    elif isinstance(source, HistorySource):
        yield from _history_errors(domain, place, source, entity, listed)


def _listed_entity(domain: Domain, name: str) -> str | None:
    """Entity type whose ids a list feature of the user holds."""
    feature = domain.features.get(name)
    if feature is None or feature.kind != "last_n" or feature.emit != "id":
        return None
    return feature.of if _USER in feature.entities else None


def _action_errors(
    domain: Domain, place: Location, source: FollowedHostsSource
) -> Iterator[tuple[Location, str]]:
    if source.actions is None:
        return
    items, actions = domain.features[source.feature], domain.features.get(source.actions)
    if (
        items.kind != "last_n"
        or actions is None
        or actions.kind != "last_n"
        or actions.emit != "event_type"
        or (actions.events, actions.of, actions.limit, actions.ttl)
        != (items.events, items.of, items.limit, items.ttl)
    ):
        yield (
            (*place, "actions"),
            f"{source.actions!r} does not list the event types beside {source.feature!r}",
        )
        return
    for index, event in enumerate(source.ended_by):
        if event not in items.events:
            yield (*place, "ended_by", index), f"{event!r} is not among the events listed"


def _history_errors(
    domain: Domain, place: Location, source: HistorySource, entity: str, listed: str
) -> Iterator[tuple[Location, str]]:
    known = domain.model.sequence.entity
    if listed != known:
        yield (*place, "feature"), f"{source.feature!r} lists {listed}, not {known}"
    elif not any(surface.entity == known for surface in domain.surfaces.values()):
        yield (*place, "kind"), f"needs a surface of {known}, by which the ranker knows its items"
    if (
        isinstance(source, ItemKnnSource | SameCategorySource | ReEngagementSource)
        and source.attribute == "id"
        and entity != known
    ):
        yield (*place, "attribute"), f"must say what names a {known}: items are {entity}s"
    if isinstance(source, SameCategorySource | ReEngagementSource):
        of_known = held_by(domain, known)
        if of_known.get(source.category) != "string":
            yield (
                (*place, "category"),
                f"{source.category!r} is not a feature of {known} that holds string",
            )
        if source.level is not None and of_known.get(source.level) != "int":
            yield (
                (*place, "level"),
                f"{source.level!r} is not a feature of {known} that holds int",
            )
