"""Variants that a user or device keeps, as part of its state. Pure.

They lie among the attributes, under names that no attribute can have, so that stores from before
there were any stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.feature.states.applied_event import AppliedEvent
from services.feature.states.key_state import KeyState

MAX_KEPT: Final = 1_000
"""Entries that a state has at most."""

PREFIX: Final = "sticky:"
MARK: Final = PREFIX.encode()
"""Is in the stored bytes of every state that keeps variants."""


def stick(state: KeyState, event: AppliedEvent) -> None:
    """Folds what an event says its actor keeps; by entry the latest event time wins."""
    for entry, variant in (event.sticky or {}).items():
        said = (event.time_ms, event.arrival, variant)
        held = state.attributes.get(PREFIX + entry)
        if held is None or said[:2] > held[:2]:
            state.attributes[PREFIX + entry] = said
    _trim(state)


def take_over_sticky(state: KeyState, other: KeyState) -> None:
    """Adds what ``other`` keeps, but for entries that ``state`` has: nobody changes their variant
    by signing in."""
    for name, said in other.attributes.items():
        if name.startswith(PREFIX):
            state.attributes.setdefault(name, said)
    _trim(state)


def kept_variants(state: KeyState) -> Mapping[str, str]:
    """Variant keys by entry."""
    return {
        name.removeprefix(PREFIX): str(said[2])
        for name, said in state.attributes.items()
        if name.startswith(PREFIX)
    }


def _trim(state: KeyState) -> None:
    """Beyond the limit the entries set longest ago go."""
    kept = [(said[:2], name) for name, said in state.attributes.items() if name.startswith(PREFIX)]
    for _, name in sorted(kept)[: max(0, len(kept) - MAX_KEPT)]:
        del state.attributes[name]
