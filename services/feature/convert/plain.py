"""Most events are plain: short ids, declared types, no payload and no attributes. That they are
sound shows at sight, at a fifth of what the whole check costs; the others are looked at closely."""

from __future__ import annotations

from podium.common.v1 import common_pb2
from podium.event.v1.event_pb2 import Event
from services.common.actor import DEVICE_PREFIX
from services.common.convert_limits import (
    MAX_EVENT_ENTITIES,
    MAX_FUTURE_MS,
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
)
from services.common.domain import Domain
from services.feature.definitions import CATALOGUE_EVENTS, LATENESS_MS, USER_ENTITY

# A character has at most four bytes.
_SHORT_ID = MAX_ID_BYTES // 4
_SHORT_NAME = MAX_NAME_BYTES // 4
_TRAFFIC_CLASSES = frozenset(common_pb2.TrafficClass.values())


class PlainEvents:
    """Knows plain events at sight. ``special``: types that need more than an actor and entities."""

    def __init__(self, domain: Domain, special: frozenset[str]) -> None:
        self._types = frozenset(domain.events) - special - frozenset(CATALOGUE_EVENTS)
        self._entities = frozenset(
            name
            for name, entity in domain.entities.items()
            if entity.pair is None and name != USER_ENTITY and len(name) <= _SHORT_NAME
        )

    def sound(self, event: Event, now_ms: int) -> bool:
        """Whether the event is plain, sound and in time; any other is to be looked at closely."""
        if event.type not in self._types or event.attributes:
            return False
        if not event.HasField("actor") or event.WhichOneof("payload") is not None:
            return False
        actor = event.actor
        user, device = actor.user_id, actor.device_id
        if (
            not 0 < len(event.event_id) <= _SHORT_ID
            or not (user or device)
            or len(user) > _SHORT_ID
            or len(device) > _SHORT_ID
            or user.startswith(DEVICE_PREFIX)
            or len(event.rank_id) > _SHORT_ID
            or len(event.surface) > _SHORT_NAME
            or event.traffic_class not in _TRAFFIC_CLASSES
            or (event.HasField("position") and event.position < 0)
        ):
            return False
        references = event.entities
        if not 0 < len(references) <= MAX_EVENT_ENTITIES:
            return False
        seen: list[str] = []
        for reference in references:
            entity = reference.type
            if entity not in self._entities or entity in seen:
                return False
            if not 0 < len(reference.id) <= _SHORT_ID:
                return False
            seen.append(entity)
        # Absent, it is 1970: far too long ago for this to tell.
        time = event.event_time
        nanos = time.nanos
        age_ms = now_ms - time.seconds * 1_000 - nanos // 1_000_000
        return -MAX_FUTURE_MS <= age_ms <= LATENESS_MS and 0 <= nanos < 1_000_000_000
