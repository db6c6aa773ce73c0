"""What every change goes through: checks against all that is defined, the next version, the entry
of the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from services.common.assign.assign import Definitions, Experiment
from services.common.assign.canonical import EXPERIMENT, DefinitionError, ItemKey, definitions_of
from services.common.assign.change_checks import change_errors
from services.common.assign.checks import Location
from services.common.assign.hashing import XXH3
from services.common.errors import FailedPrecondition, FieldViolation, VersionConflict
from services.experiment.registry import authored
from services.experiment.registry.ports import Entry
from services.experiment.registry.record import (
    Record,
    State,
    experiment_of,
    item_of,
    read_in_force,
)

Records = Mapping[ItemKey, Record]
Errors = Callable[[Definitions], Iterable[tuple[Location, str]]]
"""What is wrong with definitions, with where."""


def check(before: Records, after: Records, errors: Errors, *, guarded: bool) -> None:
    """Raises ``InvalidArgument`` for what is wrong with ``after`` and was not with ``before``, and,
    where it is ``guarded``, for what would move units of running experiments."""
    then, now = _read(before), _read(after)
    known = set(errors(then))
    found = [error for error in errors(now) if error not in known]
    found += _used_salts(before, after)
    if guarded:
        found += change_errors(then, now)
    if found:
        raise authored.wrong(
            [
                FieldViolation(".".join(map(str, at)), why)
                for at, why in islice(found, authored.MAX_VIOLATIONS)
            ]
        )


def _used_salts(before: Records, after: Records) -> Iterator[tuple[Location, str]]:
    """Salts, new with a change, of archived experiments that ran: units would be split as they were
    then, and what they were given would go on in the same arms."""
    new = {
        experiment.salt: key
        for (kind, key), record in after.items()
        if kind == EXPERIMENT
        and record.state is not State.ARCHIVED
        and record != before.get(record.id)
        and (experiment := _of_ours(record)) is not None
        and ((old := before.get(record.id)) is None or _salt(old) != experiment.salt)
    }
    if not new:
        return
    for record in after.values():
        if record.state is State.ARCHIVED and record.started_ms is not None:
            key = new.pop(_salt(record) or "", None)
            if key is not None:
                why = f"was that of {record.item.key}: units would be split as they were in it"
                yield ("experiments", key, "salt"), why


def _of_ours(record: Record) -> Experiment | None:
    """The experiment of a record; None where it can't be read, or comes from GrowthBook with
    whatever salt it has."""
    try:
        experiment = experiment_of(record.item)
    except DefinitionError:
        return None
    return experiment if experiment.hash == XXH3 else None


def _salt(record: Record) -> str | None:
    experiment = _of_ours(record)
    return None if experiment is None else experiment.salt


def raised(record: Record, now_ms: int) -> Record:
    """The record with its next version and revision."""
    item = replace(record.item, revision=record.item.revision + 1)
    if record.supported and item.kind == EXPERIMENT:
        item = item_of(replace(experiment_of(item), revision=item.revision))
    return replace(record, item=item, version=record.version + 1, updated_ms=now_ms)


def entry(
    caller: str, action: str, before: Record | None, after: Record | None, remark: str = ""
) -> Entry:
    """What the audit trail tells of a change."""
    one = after or before
    assert one is not None  # noqa: S101 - something changed
    return Entry(
        one.updated_ms,
        caller,
        action,
        one.item.kind,
        one.item.key,
        before.version if before else 0,
        after.version if after else 0,
        authored.changed_fields(before.authored if before else "", after.authored if after else ""),
        before.state if before else None,
        after.state if after else None,
        remark,
    )


def conflict(what: str, expected: int, version: int) -> VersionConflict:
    """Somebody else was first."""
    return VersionConflict(
        f"{what} is at version {version}; this change was made for version {expected}",
        version=version,
    )


@contextmanager
def refused_unreadable() -> Iterator[None]:
    """Raises ``FailedPrecondition`` (UNREADABLE_DEFINITION) where a definition that is to be
    changed can't be read."""
    try:
        yield
    except DefinitionError as error:
        raise FailedPrecondition(
            f"the registry holds what can't be read: {error}", reason="UNREADABLE_DEFINITION"
        ) from error


def _read(records: Records) -> Definitions:
    # What can't be read is as wrong before as after; what is malformed is for checks to tell.
    return read_in_force(records.values(), read=definitions_of).definitions
