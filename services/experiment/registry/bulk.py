"""Definitions in bulk: the content of an experiments file, brought in or taken out at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from services.common.assign.canonical import (
    COMMON,
    EXPERIMENT,
    FLAG,
    LAYER,
    SAVED_GROUP,
    DefinitionError,
    Item,
    ItemKey,
    definitions_of,
    items_of,
)
from services.common.assign.definitions import definitions_in
from services.common.assign.model import Common, Definitions
from services.common.errors import FailedPrecondition, InvalidArgument
from services.experiment.registry import authored, lifecycle
from services.experiment.registry.changes import Errors, Records, check, entry, raised
from services.experiment.registry.ports import Transaction
from services.experiment.registry.record import Record, State

_SECTIONS = {LAYER: "layers", SAVED_GROUP: "saved_groups", FLAG: "flags"}
_REMOVABLE = tuple(_SECTIONS)
_COMMON_FIELDS = ("holdout", "killed", "aliases", "from_features")
_COMMON_KEY: ItemKey = (COMMON, "")
_AROUND_BYTES = 64
"""What else a definition takes in a file: quotes, what its state adds."""


@dataclass(frozen=True)
class Bulk:
    """``data``: content of an experiments file; what it does not name stays as it is. ``remove``:
    what is to go."""

    data: Mapping[str, Any]
    remove: Sequence[ItemKey] = ()


class Changed(NamedTuple):
    """Version of the registry, and what was changed in it."""

    registry_version: int
    changed: list[ItemKey]
    removed: list[ItemKey]


def put(
    transaction: Transaction,
    caller: str,
    bulk: Bulk,
    errors: Errors,
    now_ms: int,
) -> Changed:
    """Takes ``bulk`` in, all or nothing. What is the same already is no change."""
    before = transaction.records()
    after = dict(before)
    for named in bulk.remove:
        if named[0] not in _REMOVABLE:
            allowed = ", ".join(_REMOVABLE)
            raise InvalidArgument.field("remove", f"{named[0]!r} is not one of {allowed}")
        after.pop(named, None)
    for record in _records(bulk.data, before, now_ms):
        if record.id in bulk.remove:
            raise InvalidArgument.field("remove", f"{record.item.key!r} is to be put, too")
        after[record.id] = record
    changed = [at for at, record in after.items() if before.get(at) != record]
    removed = [at for at in before if at not in after]
    if not changed and not removed:
        return Changed(transaction.version, [], [])
    check(before, after, errors, guarded=True)
    for at in changed:
        transaction.put(after[at])
        remark = _remark(before.get(at), after[at])
        transaction.append(entry(caller, "put", before.get(at), after[at], remark))
    for at in removed:
        transaction.remove(at)
        gone = replace(before[at], updated_ms=now_ms)
        transaction.append(entry(caller, "remove", gone, None))
    return Changed(transaction.version + 1, changed, removed)


def switch(transaction: Transaction, caller: str, killed: bool, now_ms: int) -> int:
    """Turns everything off, or on again; the registry's version. Nothing else is read: what is
    refused of definitions does not hang on it, and who turns it is in a hurry.

    Off works whatever the row holds. On again needs one that can be read: without its holdout
    units would be in experiments that were in none. Raises ``DefinitionError``.
    """
    old = transaction.record(_COMMON_KEY)
    try:
        made = next(_common({"killed": killed}, old, now_ms), None)
    except DefinitionError:
        if old is None or not killed:
            raise
        made = _off(old, now_ms)
    if made is None or made == old:
        return transaction.version
    transaction.put(made)
    transaction.append(entry(caller, "put", old, made, _remark(old, made)))
    return transaction.version + 1


def _off(old: Record, now_ms: int) -> Record:
    """Everything off, where nobody can read what the author wrote: that stays as it is, to be
    mended, and so does what decides by it, where that can be read."""
    common = replace(_decides(old), killed=True)
    item = items_of(Definitions({}, "", common=common))[_COMMON_KEY]
    if item == old.item:
        return old
    return replace(old, item=item, version=old.version + 1, updated_ms=now_ms)


def _decides(record: Record) -> Common:
    try:
        return definitions_of([record.item]).common
    except DefinitionError:
        return Common()


def _remark(before: Record | None, after: Record) -> str:
    """What is worth telling beside the names of fields: the kill switch."""
    if after.item.kind != COMMON:
        return ""
    was, now = (record is not None and _decides(record).killed for record in (before, after))
    return "" if was == now else ("all experiments off" if now else "all experiments on again")


class Part(NamedTuple):
    """Part of the content of an experiments file. ``next_after``: where more of it begins, None
    where there is none. ``unreadable``: what is left out of this part."""

    data: dict[str, Any]
    next_after: ItemKey | None
    unreadable: list[ItemKey]


def part_of(records: Records, after: ItemKey | None, max_bytes: int) -> Part:
    """What there is after a definition, or from the beginning, archived experiments aside: one
    definition at least, and as many more as ``max_bytes`` hold."""
    found: dict[str, Any] = {}
    unreadable: list[ItemKey] = []
    size, last = 0, None
    for at, record in sorted(records.items()):
        if (after is not None and at <= after) or record.state is State.ARCHIVED:
            continue
        size += len(record.authored.encode()) + len(record.item.key.encode()) + _AROUND_BYTES
        if last is not None and size > max_bytes:
            return Part(found, last, unreadable)
        last = at
        try:
            _place(found, record)
        except DefinitionError:
            unreadable.append(at)
    return Part(found, None, unreadable)


def _place(found: dict[str, Any], record: Record) -> None:
    """Puts a definition where an experiments file has it. Raises ``DefinitionError``."""
    kind, key = record.id
    if kind in _SECTIONS:
        data = authored.parsed(record.id, record.authored)
        found.setdefault(_SECTIONS[kind], {})[key] = data
        return
    data = authored.parsed_object(record.id, record.authored)
    if kind == COMMON:
        found |= data
    else:
        running, killed = _switches(record.state)
        data |= {"running": running, "revision": record.item.revision}
        if killed:
            data["killed"] = True
        found.setdefault("experiments", {})[key] = data


def _records(data: Mapping[str, Any], before: Records, now_ms: int) -> Iterator[Record]:
    """What ``data`` names, as it would be kept: unchanged where it is the same."""
    file = authored.checked_file(_with_revisions(data, before))
    items = items_of(definitions_in(file))
    for kind, section in _SECTIONS.items():
        for key, content in (data.get(section) or {}).items():
            yield _taken(before.get((kind, key)), items[kind, key], content, now_ms)
    if any(name in data for name in _COMMON_FIELDS):
        yield from _common(data, before.get(_COMMON_KEY), now_ms)
    for key, definition in file.experiments.items():
        content = data["experiments"][key]
        plain = {k: v for k, v in content.items() if k not in authored.LIFECYCLE_FIELDS}
        old = before.get((EXPERIMENT, key))
        if old is None:
            made = authored.experiment(key, plain, definition.revision)
            state = _state(definition.running, definition.killed)
            started_ms = None if state is State.DRAFT else now_ms
            yield Record(made.item, made.text, 1, state, now_ms, now_ms, started_ms=started_ms)
            continue
        if _switches(old.state) != (definition.running, definition.killed):
            raise FailedPrecondition(
                f"experiments.{key}.running: the experiment is "
                f"{old.state.value if old.state else ''}: start, pause, resume, conclude or "
                "archive it",
                reason="ILLEGAL_TRANSITION",
            )
        made_record = old if _same(old, plain) else lifecycle.updated(old, plain).record
        yield old if made_record == old else raised(made_record, now_ms)


def _same(old: Record, plain: Mapping[str, Any]) -> bool:
    return old.authored == authored.written(plain)


def _with_revisions(data: Mapping[str, Any], before: Records) -> Mapping[str, Any]:
    """The file, with the fields that its experiments may leave to the registry."""
    experiments = data.get("experiments")
    if not isinstance(experiments, Mapping):
        return data
    filled: dict[str, Any] = {}
    for key, content in experiments.items():
        old = before.get((EXPERIMENT, key))
        running, killed = _switches(old.state) if old is not None else (False, False)
        defaults = {"running": running, "killed": killed, "revision": 1}
        filled[key] = {**defaults, **content} if isinstance(content, Mapping) else content
    return {**data, "experiments": filled}


def _taken(old: Record | None, item: Item, content: object, now_ms: int) -> Record:
    text = authored.written(content)
    if old is None:
        return Record(item, text, 1, None, now_ms, now_ms)
    if old.authored == text:
        return old
    if item.kind == FLAG and isinstance(content, Mapping):
        revision = max(old.item.revision + 1, item.revision)
        whole = {"flags": {item.key: {**content, "revision": revision}}}
        item = items_of(definitions_in(authored.checked_file(whole)))[item.id]
    return replace(old, item=item, authored=text, version=old.version + 1, updated_ms=now_ms)


def _common(data: Mapping[str, Any], old: Record | None, now_ms: int) -> Iterator[Record]:
    """What goes for all: fields that are not named stay as they were. Raises ``DefinitionError``
    where they can't be read."""
    content = {name: data[name] for name in _COMMON_FIELDS if name in data}
    if old is not None and len(content) < len(_COMMON_FIELDS):
        content = _readable(old) | content
    content = {name: value for name, value in content.items() if value}
    if content or old is not None:
        items = items_of(definitions_in(authored.checked_file(content)))
        yield _taken(old, items[_COMMON_KEY], content, now_ms)


def _readable(old: Record) -> dict[str, Any]:
    content = authored.parsed_object(old.id, old.authored)
    try:
        authored.checked_file(content)
    except InvalidArgument as error:
        kind, key = old.id
        raise DefinitionError(f"{kind} {key!r} can't be read: {error.message}") from error
    return content


def _switches(state: State | None) -> tuple[bool, bool]:
    """(running, killed) of an experiment in a file."""
    return state in (State.RUNNING, State.PAUSED), state is State.PAUSED


def _state(running: bool, killed: bool) -> State:
    if not running:
        return State.DRAFT
    return State.PAUSED if killed else State.RUNNING
