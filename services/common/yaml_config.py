"""Reads a YAML file into a pydantic model; what is wrong names file, line and field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.common.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(
    path: Path,
    model: type[Model],
    check: Callable[[Model], Iterable[tuple[Location, str]]] | None = None,
) -> Model:
    """Validates ``path`` against ``model``; ``check`` yields (location, message) of errors.

    Raises ``ConfigError`` for a missing file, malformed YAML, an unknown or wrong field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), 0, "", f"cannot be read: {error}") from error
    try:
        root = yaml.compose(text, Loader=_UniqueKeyLoader)
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader subclass
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(str(path), line, "", error.problem or "malformed YAML") from error
    if not isinstance(data, dict):
        raise ConfigError(str(path), 1, "", "must be a mapping")
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        # A misspelt field is both unknown and missing: the unknown name is what helps.
        errors = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        first = errors[0]
        field, line = _locate(root, first["loc"])
        raise ConfigError(str(path), line, field, first["msg"]) from error
    for location, message in check(value) if check is not None else ():
        field, line = _locate(root, location)
        raise ConfigError(str(path), line, field, message)
    return value


def canonical_hash(model: BaseModel) -> str:
    """SHA-256 over the canonical JSON of ``model``: equal content gives an equal hash."""
    text = json.dumps(
        model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _locate(root: yaml.Node | None, location: Location) -> tuple[str, int]:
    """Field path as written in the file, and the 1-based line of its nearest existing node."""
    node = root
    line = node.start_mark.line + 1 if node is not None else 0
    shown: list[str] = []
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if match is not None:
                key_node, node = match
                line = key_node.start_mark.line + 1
                shown.append(str(part))
                continue
            # A discriminated union adds its tag to the location; the file has no such key.
            if part != location[-1]:
                continue
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value)
        ):
            node = node.value[part]
            line = node.start_mark.line + 1
        shown.append(str(part))
    return ".".join(shown), line
