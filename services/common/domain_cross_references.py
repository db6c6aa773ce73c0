"""Checks that cross features join what is there, and of the right kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.common.crosses import AffinityCross, ListedCross, RatioCross
from services.common.domain_feature_references import shown_by
from services.common.domain_features import PairsFeature
from services.common.yaml_config import Location

if TYPE_CHECKING:
    from services.common.domain import Domain

_USER = "user"


def cross_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """What is wrong with the cross features."""
    at: Location = ("model", "crosses")
    for name, cross in domain.model.crosses.items():
        if (cross.kind == "affinity") == domain.log.impressions:
            need = "without" if domain.log.impressions else "with"
            yield (*at, name), f"{cross.kind} needs a log {need} impressions"
        if isinstance(cross, AffinityCross):
            continue
        if isinstance(cross, RatioCross):
            yield from _ratio_errors(domain, (*at, name), cross)
        else:
            yield from _listed_errors(domain, (*at, name), cross)


def _ratio_errors(
    domain: Domain, at: Location, cross: RatioCross
) -> Iterator[tuple[Location, str]]:
    model = domain.model
    for field, named, known in (
        ("user", cross.user, model.user_features),
        ("item", cross.item, model.item_features),
    ):
        if named not in known:
            yield (*at, field), f"{named!r} is not among model.{field}_features"


def _listed_errors(
    domain: Domain, at: Location, cross: ListedCross
) -> Iterator[tuple[Location, str]]:
    ids = domain.features.get(cross.ids)
    is_list = ids is not None and ids.kind in ("last_n", "pairs") and _USER in ids.entities
    if not is_list or getattr(ids, "emit", "") != "id":
        yield (*at, "ids"), f"{cross.ids!r} is not a list of ids of a user"
        return
    pairs = ids if isinstance(ids, PairsFeature) else None
    if cross.first is not None and pairs is None:
        yield (
            (*at, "first"),
            f"{cross.ids!r} is not a pairs feature, of which the latest come first",
        )
    if cross.values is not None:
        values = domain.features.get(cross.values)
        beside = (
            isinstance(values, PairsFeature)
            and pairs is not None
            and values.emit != "id"
            and (values.events, values.of, values.limit) == (pairs.events, pairs.of, pairs.limit)
        )
        if not beside:
            yield (*at, "values"), f"{cross.values!r} does not list numbers beside {cross.ids!r}"
    ranked = {surface.entity for surface in domain.surfaces.values()}
    held = {shown_by(domain, entity).get(cross.item) for entity in ranked} - {None}
    if held != {"string"}:
        yield (*at, "item"), f"{cross.item!r} is not a feature of a ranked entity that holds string"
