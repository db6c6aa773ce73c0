"""A device's history becomes a user's. Pure.

An ``Alias`` event says that a device turned out to be a user's. From its arrival on, never earlier,
what the device did alone counts for the user; the device's own history starts anew. For who works
on the log instead of on states, the same in terms of events: an event of a device alone, without a
user, counts

- for the device at every log position up to and including that of the first alias of the device
  that arrived after the event;
- for that alias's user at every later position.

It is another key that events count for, not other events: they keep their times and arrivals, so
the user's state is what it would be had they been the user's own. It stays in what they were to
others: a course's distinct users are counted under the names that the events carry. A refund
changes the history of whom it names, when it arrives, wherever the purchase has gone; refunds that
named the device and refunds that name the user are not added up to find whether all of a purchase
was given back, which the number of purchases waits for.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.feature.definitions import TileAggregate
from services.feature.states.entity_plan import EntityPlan
from services.feature.states.key_state import KeyState, Tiles, latest, put
from services.feature.states.sticky import PREFIX, take_over_sticky


def take_over(plan: EntityPlan, state: KeyState, other: KeyState, clock_ms: int) -> None:
    """Makes ``state`` what it would be had the events of ``other`` been its own, too.

    ``clock_ms``: what the log's clock says, epoch ms. ``other`` must not be used any more. Sums of
    floats may differ in their last digits from those added up in the order of the events.
    """
    plan.settle(state, clock_ms)
    plan.settle(other, clock_ms)
    aggregates = plan.aggregates
    for aggregate, tiles, more in zip(aggregates.tiles, state.tiles, other.tiles, strict=True):
        _add_tiles(aggregate, tiles, more)
    for index, time_ms in enumerate(other.last_times):
        held_ms = state.last_times[index]
        if time_ms is not None and (held_ms is None or time_ms > held_ms):
            state.last_times[index] = time_ms
    for index, value in enumerate(other.last_values):
        held = state.last_values[index]
        if value is not None and (held is None or value[:2] > held[:2]):
            state.last_values[index] = value
    for index, last in enumerate(aggregates.last_entries):
        every = sorted([*state.last_entries[index], *other.last_entries[index]])
        state.last_entries[index] = every[-last.limit :]
    for index, recent in enumerate(aggregates.recents):
        times = _later(state.recents[index], other.recents[index])
        state.recents[index] = dict(latest(times, recent.cap))
    if other.known_ms is not None:
        held_ms = state.known_ms
        state.known_ms = other.known_ms if held_ms is None else min(held_ms, other.known_ms)
    take_over_sticky(state, other)
    for name, said in other.attributes.items():
        known = state.attributes.get(name)
        if name.startswith(PREFIX):
            continue
        if known is None or said[:2] > known[:2]:
            state.attributes[name] = said
    if other.listing is not None and (state.listing is None or other.listing > state.listing):
        state.listing = other.listing
    state.pending = sorted([*state.pending, *other.pending], key=lambda waiting: waiting[0])


def _add_tiles(aggregate: TileAggregate, tiles: Tiles, more: Tiles) -> None:
    tiles.latest_ms = max(tiles.latest_ms, more.latest_ms)
    for held, added in zip(tiles.levels, more.levels, strict=True):
        for tile, number in added.items():
            put(aggregate.fold, held, tile, number)


def _later(times: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """When each id was named last."""
    found = dict(times)
    for identity, time_ms in others.items():
        found[identity] = max(time_ms, found.get(identity, time_ms))
    return found
