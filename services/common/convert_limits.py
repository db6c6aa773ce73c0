"""The limits of the contracts, in one place, and the checks that enforce them.

Every check raises ``InvalidArgument`` naming the field and the limit. The protos state the same
limits in their comments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from google.protobuf.message import Message

from podium.common.v1 import common_pb2
from services.common.actor import DEVICE_PREFIX
from services.common.domain_features import MAX_VECTOR_DIM
from services.common.errors import InvalidArgument

MAX_ID_BYTES = 128
MAX_NAME_BYTES = 64
MAX_VIEW_NAME_BYTES = 128
MAX_VIEW_HASH_BYTES = 128
MAX_REASON_BYTES = 64
MAX_K = 200
MAX_SCORED_ITEMS = 500
MAX_BATCH_ACTORS = 256
MAX_TOKEN_BYTES = 4_096
MAX_EVENTS = 1_000
MAX_FEATURE_IDS = 1_000
MAX_STICKY_IDS = 2_000
MAX_WATCH_VIEWS = 16
MAX_SERVED_FEATURES = 1_000
MAX_SERVED_FEATURES_BYTES = 64 << 10
MAX_EVENT_ENTITIES = 16
MAX_ATTRIBUTES = 32
MAX_ENTITY_ATTRIBUTES = 64
MAX_ATTRIBUTE_KEY_BYTES = 64
MAX_STRING_BYTES = 1_024
MAX_LIST_VALUES = 64
MAX_LIST_VALUE_BYTES = 256
MAX_LOCALE_BYTES = 35
MAX_REGION_BYTES = 16
MAX_TIME_ZONE_BYTES = 64
MAX_DEVICE_TYPE_BYTES = 32
MAX_APP_VERSION_BYTES = 32
MAX_EXPERIMENT_KEYS = 100
MAX_FORCED_VARIANTS = 16
MAX_OBJECTIVES = 64
MAX_ASSIGNMENTS = 1_000
MAX_BATCH_UNITS = 1_000
MAX_STICKY_ASSIGNMENTS = 1_000
MAX_STICKY_ENTRY_BYTES = 1_100
MAX_DEGRADED = 32
MAX_AMOUNT_MINOR = 10**12
MAX_NUMBER = 10**15
MAX_COUNT = (1 << 31) - 1
MAX_TIME_SECONDS = 253_402_300_799
"""The last second of the year 9999."""

MAX_FUTURE_MS = 5 * 60 * 1_000
MAX_SEQUENCE = (1 << 62) - 1

MAX_PAGE_BYTES = 3 << 20
"""Of a list in an answer: callers take 4 MiB by default."""

Value = str | int | float | bool | list[str] | list[float]
Number = TypeVar("Number", int, float)
Listed = TypeVar("Listed", bound=Message)

# Attributes that a field of a payload sets, too, have that field's range; others are named after
# their unit.
_COUNTS = {"seats_left": (0, MAX_COUNT), "viewers": (0, MAX_COUNT)}
_UNITS = {"_minor": (0, MAX_AMOUNT_MINOR), "_ms": (0, MAX_TIME_SECONDS * 1_000 + 999)}
_TRAFFIC_CLASSES = {number: name for name, number in common_pb2.TrafficClass.items()}


def require_text(field: str, value: str, max_bytes: int) -> str:
    """A non-empty string of at most ``max_bytes`` UTF-8 bytes."""
    if not value:
        raise InvalidArgument.field(field, f"is required, 1 to {max_bytes} bytes")
    return optional_text(field, value, max_bytes)


def optional_text(field: str, value: str, max_bytes: int) -> str:
    """A string of at most ``max_bytes`` UTF-8 bytes."""
    # A character has at most four bytes: most strings need no encoding to be judged.
    if len(value) * 4 > max_bytes and (size := len(value.encode())) > max_bytes:
        raise InvalidArgument.field(field, f"has {size} bytes, at most {max_bytes} are allowed")
    return value


def require_id(field: str, value: str) -> str:
    """An id of 1 to 128 bytes."""
    return require_text(field, value, MAX_ID_BYTES)


def require_ids(field: str, values: Iterable[str]) -> list[str]:
    """Ids of 1 to 128 bytes each."""
    found = list(values)
    # As in ``optional_text``, for all of them together.
    lengths = set(map(len, found))
    if 0 in lengths or max(lengths, default=0) * 4 > MAX_ID_BYTES:
        for index, value in enumerate(found):
            require_id(f"{field}[{index}]", value)
    return found


def optional_id(field: str, value: str) -> str:
    """An id of at most 128 bytes, or nothing."""
    return optional_text(field, value, MAX_ID_BYTES)


def require_range(field: str, value: Number, low: int, high: int) -> Number:
    """A number in [low, high]."""
    if not low <= value <= high:
        raise InvalidArgument.field(field, f"is {value}, must be {low} to {high}")
    return value


def require_count(field: str, count: int, low: int, high: int) -> None:
    """A number of elements in [low, high]."""
    if not low <= count <= high:
        raise InvalidArgument.field(field, f"has {count} elements, must have {low} to {high}")


def require_finite(field: str, value: float) -> float:
    """A number that is neither NaN nor infinite."""
    if not math.isfinite(value):
        raise InvalidArgument.field(field, f"is {value}, must be finite")
    return value


def require_actor(field: str, actor: common_pb2.Actor) -> tuple[str, str]:
    """(user_id, device_id) of an actor; at least one is given."""
    user_id = optional_id(f"{field}.user_id", actor.user_id)
    if user_id.startswith(DEVICE_PREFIX):
        # Who asks for the features of such a key means a device.
        raise InvalidArgument.field(f"{field}.user_id", f"must not begin with {DEVICE_PREFIX!r}")
    device_id = optional_id(f"{field}.device_id", actor.device_id)
    if not user_id and not device_id:
        raise InvalidArgument.field(field, "a user_id or a device_id is required")
    return user_id, device_id


def require_traffic_class(field: str, value: common_pb2.TrafficClass) -> common_pb2.TrafficClass:
    """A declared class of traffic; proto3 lets any number through."""
    if value not in _TRAFFIC_CLASSES:
        allowed = ", ".join(f"{number} ({name})" for number, name in _TRAFFIC_CLASSES.items())
        raise InvalidArgument.field(field, f"is {int(value)}, must be one of {allowed}")
    return value


def require_assignment(field: str, assignment: common_pb2.Assignment) -> None:
    """An assignment that names its experiment; the variant is empty outside of it."""
    require_id(f"{field}.experiment_key", assignment.experiment_key)
    optional_id(f"{field}.variant_key", assignment.variant_key)
    optional_id(f"{field}.other_variant_key", assignment.other_variant_key)
    # NaN is in no range.
    if assignment.HasField("bucket") and not 0 <= assignment.bucket < 1:
        raise InvalidArgument.field(f"{field}.bucket", f"is {assignment.bucket}, must be in [0, 1)")
    optional_text(f"{field}.unit_type", assignment.unit_type, MAX_NAME_BYTES)
    if assignment.revision < 0:
        raise InvalidArgument.field(
            f"{field}.revision", f"is {assignment.revision}, must be 0 or more"
        )


def require_sticky(field: str, assignments: Mapping[str, str]) -> None:
    """Variants that somebody keeps, by entry."""
    require_count(field, len(assignments), 1, MAX_STICKY_ASSIGNMENTS)
    for entry, variant in assignments.items():
        require_text(f"{field} key", entry, MAX_STICKY_ENTRY_BYTES)
        require_text(f"{field}.{entry}", variant, MAX_STRING_BYTES)


def require_entity(field: str, entity: common_pb2.EntityRef) -> tuple[str, str]:
    """(type, id) of a reference."""
    kind = require_text(f"{field}.type", entity.type, MAX_NAME_BYTES)
    return kind, require_id(f"{field}.id", entity.id)


def require_money(field: str, money: common_pb2.Money) -> tuple[int, str]:
    """(amount_minor, currency_code) of an amount of 0 to 10^12."""
    code = money.currency_code
    if len(code) != 3 or not code.isascii() or not code.isalpha() or not code.isupper():
        raise InvalidArgument.field(f"{field}.currency_code", "must be three upper-case letters")
    return require_range(f"{field}.amount_minor", money.amount_minor, 0, MAX_AMOUNT_MINOR), code


def require_attribute(field: str, value: common_pb2.AttributeValue) -> Value:
    """The value that is set; doubles are finite, strings and lists within their limits."""
    match value.WhichOneof("kind"):
        case "string_value":
            return optional_text(field, value.string_value, MAX_STRING_BYTES)
        case "int_value":
            return value.int_value
        case "double_value":
            return require_finite(field, value.double_value)
        case "bool_value":
            return value.bool_value
        case "string_list_value":
            values = list(value.string_list_value.values)
            require_count(field, len(values), 0, MAX_LIST_VALUES)
            for index, text in enumerate(values):
                optional_text(f"{field}[{index}]", text, MAX_LIST_VALUE_BYTES)
            return values
        case "float_list_value":
            numbers = list(value.float_list_value.values)
            require_count(field, len(numbers), 0, MAX_VECTOR_DIM)
            for index, number in enumerate(numbers):
                require_finite(f"{field}[{index}]", number)
            return numbers
        case _:
            raise InvalidArgument.field(field, "has no value of a kind known here")


def require_measure(field: str, name: str, value: Number) -> Number:
    """The number of a declared attribute: counts, ``_minor`` and ``_ms`` have the range of what
    they measure; the others stay where sums of many of them fit 64 bits."""
    units = (found for unit, found in _UNITS.items() if name.endswith(unit))
    low, high = _COUNTS.get(name) or next(units, (-MAX_NUMBER, MAX_NUMBER))
    return require_range(field, value, low, high)


def require_attributes(
    field: str,
    values: Mapping[str, common_pb2.AttributeValue],
    max_count: int = MAX_ATTRIBUTES,
) -> dict[str, Value]:
    """Checked attributes by key."""
    require_count(field, len(values), 0, max_count)
    return {
        require_text(f"{field} key", key, MAX_ATTRIBUTE_KEY_BYTES): require_attribute(
            f"{field}.{key}", value
        )
        for key, value in values.items()
    }


def require_context(field: str, context: common_pb2.RequestContext) -> common_pb2.RequestContext:
    """A request context within its limits."""
    optional_text(f"{field}.locale", context.locale, MAX_LOCALE_BYTES)
    optional_text(f"{field}.region", context.region, MAX_REGION_BYTES)
    optional_text(f"{field}.time_zone", context.time_zone, MAX_TIME_ZONE_BYTES)
    optional_text(f"{field}.device_type", context.device_type, MAX_DEVICE_TYPE_BYTES)
    optional_text(f"{field}.app_version", context.app_version, MAX_APP_VERSION_BYTES)
    optional_id(f"{field}.session_id", context.session_id)
    require_attributes(f"{field}.attributes", context.attributes)
    return context


def forced_variants(field: str, forced: Mapping[str, str]) -> dict[str, str]:
    """Variant wanted by experiment key, at most 16."""
    require_count(field, len(forced), 0, MAX_FORCED_VARIANTS)
    return {
        require_id(f"{field} key", key): require_id(f"{field}.{key}", variant)
        for key, variant in forced.items()
    }


def first_of(messages: Iterable[Listed], max_bytes: int) -> list[Listed]:
    """As many messages as ``max_bytes`` hold, and one at least where there is any."""
    found: list[Listed] = []
    size = 0
    for message in messages:
        size += message.ByteSize()
        if found and size > max_bytes:
            break
        found.append(message)
    return found
