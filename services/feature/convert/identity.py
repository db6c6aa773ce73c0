"""Requests about who is who: checked, and made into events of the log."""

from __future__ import annotations

from podium.event.v1.event_pb2 import Alias, Erasure, Event
from podium.feature.v1 import feature_pb2
from services.common.convert_limits import require_actor, require_id
from services.common.errors import InvalidArgument
from services.feature.convert.ingest import EventConverter, StoredEvent
from services.feature.definitions import ALIAS, ERASURE
from services.feature.ingest.types import Receipt


def alias_event(request: feature_pb2.AliasRequest, converter: EventConverter) -> StoredEvent:
    """The event that says it. It has no time: equal calls give equal events."""
    require_id("event_id", request.event_id)
    user_id, device_id = require_actor("actor", request.actor)
    for name, identity in (("user_id", user_id), ("device_id", device_id)):
        if not identity:
            raise InvalidArgument.field(f"actor.{name}", "is required, 1 to 128 bytes")
    event = Event(event_id=request.event_id, type=ALIAS, actor=request.actor, alias=Alias())
    return converter.own_event(event)


def erasure_event(request: feature_pb2.EraseUserRequest, converter: EventConverter) -> StoredEvent:
    """The event that says it. It has no time: equal calls give equal events."""
    require_id("event_id", request.event_id)
    require_actor("actor", request.actor)
    event = Event(event_id=request.event_id, type=ERASURE, actor=request.actor, erasure=Erasure())
    return converter.own_event(event)


def alias_response(receipt: Receipt) -> feature_pb2.AliasResponse:
    """What became of it. Raises what the log refused it for."""
    for refused in receipt.refused:
        raise refused.error
    return feature_pb2.AliasResponse(
        duplicate=receipt.duplicates > 0, log_position=receipt.log_position
    )


def erasure_response(receipt: Receipt) -> feature_pb2.EraseUserResponse:
    """What became of it. Raises what the log refused it for."""
    for refused in receipt.refused:
        raise refused.error
    return feature_pb2.EraseUserResponse(
        duplicate=receipt.duplicates > 0, log_position=receipt.log_position
    )
