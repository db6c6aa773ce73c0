"""When a row changes by itself: a window's start hops, a value's time to live is over. Pure."""

from __future__ import annotations

from typing import Final

from services.common.durations import duration_ms
from services.feature.definitions import FeatureView, window_hops_ms
from services.feature.states.key_state import KeyState

ALWAYS_MS: Final = 2_000
"""What changes with every moment, a time since something happened, is told anew this often."""


def next_hop_ms(view: FeatureView, t_ms: int) -> int | None:
    """First time after ``t_ms`` (epoch ms) at which rows of the view may change without an event;
    None when they never do. Attributes that expire apart: each row has a time of its own."""
    times = []
    for column in view.features:
        definition = column.definition
        window = getattr(definition, "window", None)
        lists_until = definition.kind == "last_n" and definition.ttl is not None
        if definition.kind == "recency" or lists_until:
            times.append(t_ms + ALWAYS_MS)
        elif window is not None:
            times.append(window_hops_ms(t_ms, duration_ms(window)))
    return min(times, default=None)


def expiry_ms(view: FeatureView, state: KeyState, t_ms: int) -> int | None:
    """First time after ``t_ms`` at which an attribute of ``state``, as visible then, is older than
    its time to live; None when none will be."""
    times = []
    for column in view.features:
        if column.definition.kind != "attribute" or column.definition.ttl is None:
            continue
        found = state.attributes.get(column.attribute or column.name)
        if found is not None:
            times.append(found[0] + duration_ms(column.definition.ttl) + 1)
    return min((time_ms for time_ms in times if time_ms > t_ms), default=None)
