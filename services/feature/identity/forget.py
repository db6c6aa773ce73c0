"""An actor disappears from what others have of them. Pure.

States of courses, hosts and rooms name actors in one place: among those that acted last, from which
distinct users are counted. An erased actor goes from there. Where the list is full others have
already made room for this one, and nobody knows which: then a name that says nothing keeps the
place until it is too old to count, so that a count at its cap stays at its cap.

Everything else that states hold of an event (tiles, last times, values, entries) does not say whose
it was, and stays.
"""

from __future__ import annotations

from services.feature.definitions import USER_ENTITY
from services.feature.states.entity_plan import EntityPlan
from services.feature.states.key_state import KeyState


def names_actors(plan: EntityPlan) -> bool:
    """Whether states of this entity type name actors."""
    return any(recent.of == USER_ENTITY for recent in plan.aggregates.recents)


def forget_actor(plan: EntityPlan, state: KeyState, actor: str, nobody: str) -> bool:
    """Removes an actor from a state; whether it was there. ``nobody``: the name that says nothing,
    another one for each erasure."""
    found = False
    for index, recent in enumerate(plan.aggregates.recents):
        times = state.recents[index]
        if recent.of != USER_ENTITY or actor not in times:
            continue
        found = True
        is_full = len(times) >= recent.cap
        time_ms = times.pop(actor)
        if is_full:
            times[nobody] = time_ms
    kept = [waiting for waiting in state.pending if actor not in waiting[1]]
    found = found or len(kept) < len(state.pending)
    state.pending = kept
    return found
