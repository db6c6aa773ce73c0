"""Definitions as their authors write them: JSON of what an experiments file holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from services.common.assign.canonical import (
    EXPERIMENT,
    DefinitionError,
    Item,
    ItemKey,
    items_of,
)
from services.common.assign.definitions import ExperimentsFile, definitions_in
from services.common.errors import FieldViolation, InvalidArgument

LIFECYCLE_FIELDS: Final = ("running", "killed", "revision")
"""Of an experiment: the registry sets them."""

MAX_VIOLATIONS: Final = 20
"""Most that one answer names."""


class Authored(NamedTuple):
    """A definition: canonical, and as it was written."""

    item: Item
    text: str


def json_object(field: str, text: str, max_bytes: int) -> dict[str, Any]:
    """A JSON object; keys keep their order. Raises ``InvalidArgument``."""
    size = len(text.encode())
    if size > max_bytes:
        raise InvalidArgument.field(field, f"has {size} bytes, at most {max_bytes} are allowed")
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refused)
    except ValueError as error:
        raise InvalidArgument.field(field, f"is no JSON: {error}") from error
    except RecursionError as error:
        raise InvalidArgument.field(field, "is nested too deeply") from error
    if not isinstance(found, dict):
        raise InvalidArgument.field(field, "must be a JSON object")
    return found


def checked_file(data: Mapping[str, Any]) -> ExperimentsFile:
    """The experiments file of this content. Raises ``InvalidArgument`` naming every field."""
    try:
        return ExperimentsFile.model_validate(data)
    except ValidationError as error:
        violations = [
            FieldViolation(".".join(map(str, found["loc"])), found["msg"])
            for found in error.errors(include_url=False, include_input=False)[:MAX_VIOLATIONS]
        ]
        raise wrong(violations) from error
    except RecursionError as error:
        raise InvalidArgument("the definition is nested too deeply") from error


def wrong(violations: list[FieldViolation]) -> InvalidArgument:
    """An error about several fields."""
    return InvalidArgument(
        "; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations
    )


def experiment(key: str, data: Mapping[str, Any], revision: int) -> Authored:
    """An experiment as if it ran. ``data`` has no ``LIFECYCLE_FIELDS``. Raises
    ``InvalidArgument``."""
    whole = {**data, "running": True, "revision": revision}
    file = checked_file({"experiments": {key: whole}})
    item = items_of(definitions_in(file))[EXPERIMENT, key]
    return Authored(item, written(data))


def without_lifecycle(key: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same. Raises ``InvalidArgument`` where it has fields that the registry sets."""
    violations = [
        FieldViolation(f"experiments.{key}.{name}", "is the registry's: leave it out")
        for name in LIFECYCLE_FIELDS
        if name in data
    ]
    if violations:
        raise wrong(violations)
    return data


def written(data: object) -> str:
    """JSON that is kept; the order of keys counts."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def changed_fields(before: str, after: str) -> tuple[str, ...]:
    """Names of the fields that two definitions differ in; none where they are no objects."""
    one, other = (_fields(text) for text in (before, after))
    missing = object()
    return tuple(
        name
        for name in dict.fromkeys((*one, *other))
        if written_of(one.get(name, missing), missing)
        != written_of(other.get(name, missing), missing)
    )


def _fields(text: str) -> dict[str, Any]:
    """None of what can't be read, so that whatever mends it is told whole."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def parsed(key: ItemKey, text: str) -> Any:
    """What was kept of a definition. Raises ``DefinitionError``."""
    kind, name = key
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(
            f"{kind} {name!r} can't be read: what its author wrote is no JSON: {error}"
        ) from error


def parsed_object(key: ItemKey, text: str) -> dict[str, Any]:
    """The same of an experiment, or of what goes for all: a JSON object."""
    found = parsed(key, text)
    if not isinstance(found, dict):
        kind, name = key
        raise DefinitionError(f"{kind} {name!r} can't be read: it is no object")
    return found


def written_of(value: object, missing: object) -> str:
    """A value as it is compared: the order of its keys counts."""
    return "" if value is missing else written(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
