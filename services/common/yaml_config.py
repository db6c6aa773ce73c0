"""Reads a YAML file into a pydantic model; what is wrong names file, line and field."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.common.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

MAX_DEPTH = 100
"""Mappings and lists within one another."""

MAX_NODES = 1_000_000
"""Keys and values of a file, those counted again that an alias names again."""


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key given twice or that is no scalar, and a value that does not fit its tag."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except _MISFITS as error:
            kind = node.tag.rpartition(":")[2]
            raise _refused(node, f"{reprlib.repr(node.value)} is not a valid {kind}") from error

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused(key_node, "a key must be a scalar")
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _refused(key_node, f"key {key!r} is given twice")
            seen.add(key)


# What PyYAML's constructors of scalars raise beside its own errors, as for "!!bool x".
_MISFITS = (ValueError, LookupError, ArithmeticError, AttributeError)


def _refused(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


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
    root, data = _parse(path, text)
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


def _parse(path: Path, text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes of ``text`` and what they say. Raises ``ConfigError`` where it is not YAML."""
    root: yaml.Node | None = None
    try:
        _check_extent(path, text)
        loader = _StrictLoader(text)
        root = loader.get_single_node()
        return root, loader.construct_document(root) if root is not None else None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"character U+{int(error.character):04X} is not allowed"
        raise ConfigError(str(path), line, "", problem) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 0
        field = _field_at(root, mark.index) if root and mark else ""
        raise ConfigError(str(path), line, field, error.problem or "malformed YAML") from error


_SCALAR = -1
"""Levels of what holds nothing."""


@dataclass
class _Extent:
    """A node with all that its aliases name: how many nodes, how many levels of them below it."""

    anchor: str | None = None
    nodes: int = 1
    levels: int = 0

    def take(self, inner: _Extent) -> None:
        """A node within this one."""
        self.nodes += inner.nodes
        self.levels = max(self.levels, inner.levels + 1)


def _check_extent(path: Path, text: str) -> None:
    """Raises ``ConfigError`` where more is nested than any file of ours (libyaml recurses, and
    would end the process), or where aliases of aliases stand for more than fits in memory."""
    anchors: dict[str, _Extent] = {}
    above = [_Extent()]
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        inner: _Extent | None = None
        if isinstance(event, yaml.CollectionStartEvent):
            above.append(_Extent(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            inner = above.pop()
        elif isinstance(event, yaml.ScalarEvent):
            inner = _Extent(event.anchor, levels=_SCALAR)
        elif isinstance(event, yaml.AliasEvent):
            # One that stands within what it names is told where it is read.
            inner = anchors.get(event.anchor or "", _Extent(levels=_SCALAR))
        if inner is not None:
            if inner.anchor is not None:
                anchors[inner.anchor] = inner
            above[-1].take(inner)
        line = event.start_mark.line + 1 if event.start_mark else 0
        if len(above) - 1 + above[-1].levels > MAX_DEPTH:
            raise ConfigError(str(path), line, "", "is nested too deeply")
        if above[-1].nodes > MAX_NODES:
            problem = f"has more than {MAX_NODES:,} keys and values, aliases counted"
            raise ConfigError(str(path), line, "", problem)


def yaml_text(data: object) -> str:
    """Data of scalars, lists and mappings as YAML, in its own order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def canonical_hash(model: BaseModel, *, without: Collection[str] = ()) -> str:
    """SHA-256 over the canonical JSON of ``model``, fields ``without`` left out: equal content
    gives an equal hash."""
    text = json.dumps(
        model.model_dump(mode="json", exclude=set(without)),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _field_at(node: yaml.Node, index: int) -> str:
    """Field path of what stands at the character ``index``."""
    before = [entry for entry in _entries(node) if entry[1].start_mark.index <= index]
    if not before:
        return ""
    name, first, value = max(before, key=lambda entry: entry[1].start_mark.index)
    # What an alias names stands elsewhere, maybe around this node.
    here = max(first.start_mark.index, node.start_mark.index + 1)
    rest = _field_at(value, index) if here <= value.start_mark.index <= index else ""
    return f"{name}.{rest}" if name and rest else name


def _entries(node: yaml.Node) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """(name, node it begins with, value) of what a mapping or a sequence holds."""
    if isinstance(node, yaml.MappingNode):
        return [
            (key.value if isinstance(key, yaml.ScalarNode) else "", key, value)
            for key, value in node.value
        ]
    if isinstance(node, yaml.SequenceNode):
        return [(str(index), item, item) for index, item in enumerate(node.value)]
    return []


def _locate(root: yaml.Node | None, location: Location) -> tuple[str, int]:
    """Field path as written in the file, and the 1-based line of its nearest existing node."""
    node = root
    line = node.start_mark.line + 1 if node is not None else 0
    shown: list[str] = []
    for depth, part in enumerate(location, 1):
        is_last = depth == len(location)
        if isinstance(node, yaml.MappingNode):
            match = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            # A discriminated union adds its tag to the location; the file has no such key, or has
            # another thing under that name, which holds nothing further.
            if match is not None and (is_last or not isinstance(match[1], yaml.ScalarNode)):
                key_node, node = match
                line = key_node.start_mark.line + 1
                shown.append(str(part))
                continue
            if not is_last:
                continue
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value)
        ):
            node = node.value[part]
            line = node.start_mark.line + 1
        shown.append(str(part))
    return ".".join(shown), line
