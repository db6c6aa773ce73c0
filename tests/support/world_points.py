"""Points in time at which a stream is looked at, for hypothesis checks of whole tables."""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent

LATER_MS: Final = (0, 1, 999, 300_000, 3_600_000, 90_000_000, 3_000_000_000)
EARLIER_MS: Final = (0, 700, 61_000, 400_000_000)

# Each example runs hundreds of queries: shrinking a failure would take long.
few_examples: Final = settings(
    max_examples=1,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@st.composite
def points(draw: st.DrawFn, log: list[LoggedEvent], most: int = 4) -> list[tuple[int, int]]:
    """Up to ``most`` points before, within and after the log."""
    found = []
    for _ in range(draw(st.integers(1, most))):
        arrival = draw(st.integers(0, len(log)))
        known = log[max(arrival - 1, 0)]
        clock_ms = known.arrival_time.ToMilliseconds()
        shift_ms = draw(st.sampled_from(LATER_MS)) - draw(st.sampled_from(EARLIER_MS))
        found.append((clock_ms + shift_ms, arrival))
    return list(dict.fromkeys(found))
