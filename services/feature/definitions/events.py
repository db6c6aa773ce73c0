"""Names that mean something to features, and how late events may come. Pure."""

from __future__ import annotations

from typing import Final

USER_ENTITY: Final = "user"


IMPRESSION: Final = "impression"


SLATE_SERVED: Final = "slate_served"


PURCHASE: Final = "purchase"


REFUND: Final = "refund"


AMOUNT: Final = "amount_minor"


ENTITY_UPSERT: Final = "entity_upsert"


ENTITY_WITHDRAWAL: Final = "entity_withdrawal"


ROOM_HEARTBEAT: Final = "room_heartbeat"
"""Comes all the time and says nothing urgent: its changes are told with what moves."""


ROOM_EVENTS: Final = ("room_started", ROOM_HEARTBEAT, "room_now_selling", "room_ended")


PROFILE: Final = "profile"


ALIAS: Final = "alias"


ERASURE: Final = "erasure"


STICKY_ASSIGNED: Final = "sticky_assigned"


PROFILE_VERSION: Final = "profile_version"


CATALOGUE_EVENTS: Final = (ENTITY_UPSERT, ENTITY_WITHDRAWAL, *ROOM_EVENTS, PROFILE)


def counted_time_ms(event_type: str, time_ms: int, arrival_ms: int) -> int:
    """The time at which an event counts, epoch ms: when it happened. What is said of the catalogue
    counts when it arrives at the latest: a producer whose clock is ahead delays no room's end."""
    return min(time_ms, arrival_ms) if event_type in CATALOGUE_EVENTS else time_ms


DAY_MS: Final = 86_400_000


DEDUPLICATION_MS: Final = 7 * DAY_MS
"""How long event ids are remembered."""


LATENESS_MS: Final = DAY_MS
"""Events that happened longer ago when they arrive come too late; those about the catalogue never
do."""


LONG_LATENESS_MS: Final = 60 * DAY_MS
"""The same for ``LONG_LATE``: refunds, and what services write and ship from a spool, which may
have waited out a long outage."""


LONG_LATE: Final = frozenset((REFUND, SLATE_SERVED, "exposure", "decision", STICKY_ASSIGNED))


def remembered_days(now_ms: int) -> range:
    """Days (since the epoch) whose arrivals are remembered by id, the latest first.

    Tomorrow is one of them: a clock may have been ahead, and set back over midnight.
    """
    today = now_ms // DAY_MS
    return range(today + 1, today - DEDUPLICATION_MS // DAY_MS - 1, -1)
