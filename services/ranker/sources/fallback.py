"""What is shown when sources and filters leave nothing: no slate is empty while the catalogue has
anything that may be shown to the visitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from services.ranker.arrays import BoolArray, Int64Array
from services.ranker.sources.base import Ground, Source
from services.ranker.sources.shared import Trending, highest

FALLBACK: Final = "fallback"
"""What travels with these candidates in the place of a source's name."""

FIRST_LOOK: Final = 1_024
"""Items that are looked at first; all others only where none of these may be shown."""


def fallback_slots(
    ground: Ground,
    sources: Sequence[Source],
    wanted: int,
    keep: Callable[[Int64Array], BoolArray],
) -> Int64Array:
    """At most ``wanted`` slots that ``keep`` (slots to bool) lets pass: those with the most of what
    the first trending source orders by, where ``sources`` have one."""
    trends = [source.feature for source in sources if isinstance(source, Trending)]
    order = ground.order(trends[0] if trends else None)
    eligible = ground.eligible
    for most in (FIRST_LOOK, len(eligible)):
        slots = highest(order, ground.table.tie, eligible, most)
        kept = slots[keep(slots)]
        if len(kept) or len(slots) < most:
            return kept[:wanted]
    return slots[:0]
