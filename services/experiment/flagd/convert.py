"""Between flagd's messages and what they ask for; limits are enforced here.

Versions 1 and 2 differ in one thing: the first can't say that there is no value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any, Final

from google.protobuf import struct_pb2

from podium.flagd.evaluation.v1 import evaluation_pb2 as v1
from podium.flagd.evaluation.v2 import evaluation_pb2 as v2
from services.common.assign import javascript
from services.common.assign.assign import Context, Definitions
from services.common.assign.model import ENTITY_UNITS, VISITOR_UNITS
from services.common.convert_evaluation import attributes_of
from services.common.convert_limits import MAX_ID_BYTES, require_id, require_text
from services.common.errors import InvalidArgument, NotFound
from services.experiment.flagd.resolving import (
    BOOLEAN,
    FLAG_NOT_FOUND,
    NUMBER,
    OBJECT,
    STRING,
    WHOLE,
    Kind,
    Resolution,
    require_kind,
)

TARGETING_KEY: Final = "targetingKey"
"""OpenFeature's name for whom a flag is resolved for: the user."""

USER: Final = "user"
UNITS: Final = (*VISITOR_UNITS, *ENTITY_UNITS)


def flag_key(key: str) -> str:
    """Checks a key. Raises ``InvalidArgument``."""
    return require_text("flag_key", key, 2 * MAX_ID_BYTES)


def asked_context(sent: struct_pb2.Struct, now_ms: int) -> Context:
    """Whom to resolve for: the targeting key is the user, keys that name a type of unit are units,
    all others attributes. Raises ``InvalidArgument`` naming field and limit."""
    attributes = attributes_of("context", sent)
    user = attributes.pop(TARGETING_KEY, None)
    units = {
        unit: unit_id
        for unit in UNITS
        if (unit_id := _unit_id(f"context.{unit}", attributes.pop(unit, None)))
    }
    if user_id := _unit_id(f"context.{TARGETING_KEY}", user):
        units[USER] = user_id
    return Context(units, attributes, now_ms=now_ms)


def _unit_id(field: str, value: object) -> str:
    """An id as it is hashed; empty where there is none."""
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        return require_id(field, value)
    if javascript.is_number(value):
        return javascript.text(value)
    raise InvalidArgument.field(field, "must be a text or a number")


class Answers:
    """Answers in the messages of one version of the interface."""

    def __init__(self, messages: ModuleType, *, knows_none: bool) -> None:
        """``knows_none``: whether a response can say that there is no value."""
        self._messages: Any = messages
        self._knows_none = knows_none

    def boolean(self, key: str, found: Resolution) -> Any:
        """The answer to ResolveBoolean. As the others it raises ``InvalidArgument``
        (TYPE_MISMATCH), and ``NotFound`` where there is no value and no word for that."""
        return self._answer(self._messages.ResolveBooleanResponse, key, found, BOOLEAN, bool)

    def string(self, key: str, found: Resolution) -> Any:
        """The answer to ResolveString."""
        return self._answer(self._messages.ResolveStringResponse, key, found, STRING, str)

    def number(self, key: str, found: Resolution) -> Any:
        """The answer to ResolveFloat."""
        return self._answer(self._messages.ResolveFloatResponse, key, found, NUMBER, float)

    def whole(self, key: str, found: Resolution) -> Any:
        """The answer to ResolveInt."""
        return self._answer(self._messages.ResolveIntResponse, key, found, WHOLE, int)

    def object_(self, key: str, found: Resolution) -> Any:
        """The answer to ResolveObject."""
        return self._answer(self._messages.ResolveObjectResponse, key, found, OBJECT, _struct)

    def all_(self, found: Mapping[str, Resolution], definitions: Definitions) -> Any:
        """The answer to ResolveAll; lists, which have no form there, are left out."""
        flags = {}
        for key, resolution in found.items():
            for field, kind, convert in _ANY:
                if kind.holds(resolution.value):
                    flags[key] = self._messages.AnyFlag(
                        reason=resolution.reason,
                        variant=resolution.variant,
                        metadata=_struct(resolution.metadata),
                        **{field: convert(resolution.value)},
                    )
        metadata = _struct({"definitions_hash": definitions.hash})
        return self._messages.ResolveAllResponse(flags=flags, metadata=metadata)

    def _answer(
        self,
        message: Any,
        key: str,
        found: Resolution,
        kind: Kind,
        convert: Callable[[Any], object],
    ) -> Any:
        value = None
        if found.value is not None:
            require_kind(key, found.value, kind)
            value = convert(found.value)
        elif not self._knows_none:
            why = found.metadata.get("assignment_reason", found.reason.value)
            raise NotFound(f"{key!r} has no value here: {why}", reason=FLAG_NOT_FOUND)
        return message(
            value=value,
            reason=found.reason,
            variant=found.variant or None,
            metadata=_struct(found.metadata),
        )


V1: Final = Answers(v1, knows_none=False)
V2: Final = Answers(v2, knows_none=True)


class FlagEventEncoder:
    """Implements ``EventEncoder``; both versions' messages have the same bytes."""

    def ready(self) -> bytes:
        """The first event of a stream."""
        return v2.EventStreamResponse(type="provider_ready").SerializeToString()

    def changed(self, keys: Collection[str]) -> bytes:
        """These flags may have other values."""
        data = _struct({"flags": {key: {"type": "update"} for key in keys}})
        return v2.EventStreamResponse(type="configuration_change", data=data).SerializeToString()

    def alive(self) -> bytes:
        """Nothing changed."""
        return v2.EventStreamResponse(type="keep_alive").SerializeToString()


def _struct(value: Mapping[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(value)
    return made


_ANY: Final[tuple[tuple[str, Kind, Callable[[Any], object]], ...]] = (
    ("bool_value", BOOLEAN, bool),
    ("string_value", STRING, str),
    ("double_value", NUMBER, float),
    ("object_value", OBJECT, _struct),
)
