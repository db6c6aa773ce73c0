"""Checks that what a surface's selection and margin name is there and of the right kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from services.common.durations import duration_ms
from services.common.yaml_config import Location

if TYPE_CHECKING:
    from services.common.domain import Domain, Surface

_NUMBERS = ("int", "float")


def selection_reads(surface: Surface) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """(part, field, feature, dtypes it may hold) of what a surface's selection reads of an item."""
    spec = surface.selection
    found: list[tuple[str, str, str | None, tuple[str, ...]]] = []
    if spec.new_items is not None:
        new = spec.new_items
        found += [
            ("new_items", "impressions", new.impressions, _NUMBERS),
            ("new_items", "published", new.published, ("int",)),
        ]
    if spec.load_cap is not None:
        load = spec.load_cap
        found += [
            ("load_cap", "load", load.load, _NUMBERS),
            ("load_cap", "capacity", load.capacity, _NUMBERS),
        ]
    if spec.impression_floor is not None:
        floor = spec.impression_floor
        found += [
            ("impression_floor", "group", floor.group, ("string",)),
            ("impression_floor", "impressions", floor.impressions, _NUMBERS),
        ]
    return [(part, field, name, dtypes) for part, field, name, dtypes in found if name is not None]


def selection_errors(
    at: Location, domain: Domain, surface: Surface, held: Mapping[str, str]
) -> Iterator[tuple[Location, str]]:
    """What is wrong with a surface's selection; ``held`` is what features of its entity hold."""
    spec, here = surface.selection, (*at, "selection")
    for part, field, name, dtypes in selection_reads(surface):
        if held.get(name) not in dtypes:
            yield (*here, part, field), _not_held(surface, name, dtypes)
    yield from _window_errors(here, domain, surface)
    yield from _position_errors(here, surface)
    sources = {source.called for source in surface.sources}
    for index, pin in enumerate(spec.pins):
        if pin.source is not None and pin.source not in sources:
            yield (
                (*here, "pins", index, "source"),
                f"{pin.source!r} is not a source of the surface: {', '.join(sorted(sources))}",
            )


def margin_errors(
    at: Location, domain: Domain, surface: Surface, held: Mapping[str, str]
) -> Iterator[tuple[Location, str]]:
    """What is wrong with a surface's margin, which objectives of money need."""
    margin = surface.margin
    if margin is None:
        money = [name for name, objective in domain.objectives.items() if objective.money]
        if money:
            yield (*at, "margin"), f"is required: the objective {money[0]} is of money"
        return
    for field, name, dtypes in (
        ("price", margin.price, _NUMBERS),
        ("share", margin.share if isinstance(margin.share, str) else None, _NUMBERS),
        ("currency", margin.currency, ("string",)),
    ):
        if name is not None and held.get(name) not in dtypes:
            yield (*at, "margin", field), _not_held(surface, name, dtypes)


def _window_errors(
    here: Location, domain: Domain, surface: Surface
) -> Iterator[tuple[Location, str]]:
    """A guarantee is kept by impressions that are counted as long as it lasts."""
    new = surface.selection.new_items
    if new is None or new.younger_than is None:
        return
    window = getattr(domain.features.get(new.impressions), "window", None)
    if window is not None and duration_ms(window) < duration_ms(new.younger_than):
        yield (
            (*here, "new_items", "younger_than"),
            f"{new.impressions!r} counts no longer than {window}",
        )


def _position_errors(here: Location, surface: Surface) -> Iterator[tuple[Location, str]]:
    spec = surface.selection
    claimed: list[tuple[Location, int]] = [
        (("pins", index, "position"), pin.position) for index, pin in enumerate(spec.pins)
    ]
    if spec.new_items is not None:
        claimed.append((("new_items", "position"), spec.new_items.position))
    if spec.impression_floor is not None and spec.impression_floor.position is not None:
        claimed.append((("impression_floor", "position"), spec.impression_floor.position))
    seen: set[int] = set()
    for where, position in claimed:
        if position in seen:
            yield (*here, *where), f"{position} is taken by another fixed position"
        seen.add(position)


def _not_held(surface: Surface, name: str, dtypes: tuple[str, ...]) -> str:
    return f"{name!r} is not a feature of {surface.entity} that holds {' or '.join(dtypes)}"
