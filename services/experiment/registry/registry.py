"""The registry: every change is checked against all that is defined, told in the audit trail, and
made for the version that its author saw."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from services.common.assign.assign import Step
from services.common.assign.canonical import EXPERIMENT, FLAG, MAX_DEFINITION_BYTES, ItemKey
from services.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.experiment.registry import authored, lifecycle
from services.experiment.registry.bulk import Bulk, Changed, Part, part_of, put, switch
from services.experiment.registry.changes import (
    Errors,
    check,
    conflict,
    entry,
    raised,
    refused_unreadable,
)
from services.experiment.registry.lifecycle import Change
from services.experiment.registry.ports import NumberedEntry, Report, ReportInfo, Store, Transaction
from services.experiment.registry.record import Record, State, read_in_force

KEPT_REPORTS: Final = 20
"""Of an experiment."""

MAX_REPORT_JSON_BYTES: Final = 1 << 20


class Registry:
    """What callers may do. Every method may wait for the database, and raises ``Unavailable`` while
    it is gone.

    ``errors``: what is wrong with definitions; ``clock_ms``: epoch ms.
    """

    def __init__(self, store: Store, errors: Errors, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._errors = errors
        self._clock_ms = clock_ms

    def create(self, caller: str, key: str, definition_json: str) -> Record:
        """A new draft; the one that is there where it is the same. Raises ``AlreadyExists``."""
        data = authored.without_lifecycle(
            key, authored.json_object("definition_json", definition_json, MAX_DEFINITION_BYTES)
        )
        made = authored.experiment(key, data, 1)
        now_ms = self._clock_ms()
        record = Record(made.item, made.text, 1, State.DRAFT, now_ms, now_ms)
        with self._writing() as transaction:
            before = transaction.records()
            there = before.get(record.id)
            if there is not None:
                if there.state is State.DRAFT and there.authored == record.authored:
                    return there
                state = there.state.value if there.state else ""
                raise AlreadyExists(
                    f"experiment {key!r} is there already, {state} at version {there.version}",
                    reason="EXPERIMENT_EXISTS",
                )
            check(before, {**before, record.id: record}, self._errors, guarded=True)
            transaction.put(record)
            transaction.append(entry(caller, "create", None, record))
        return record

    def update(self, caller: str, key: str, expected: int, definition_json: str) -> Record:
        """Another definition."""
        data = authored.without_lifecycle(
            key, authored.json_object("definition_json", definition_json, MAX_DEFINITION_BYTES)
        )
        return self._change(caller, key, expected, lambda record: lifecycle.updated(record, data))

    def start(self, caller: str, key: str, expected: int) -> Record:
        """Starts a draft."""
        now_ms = self._clock_ms()
        return self._change(caller, key, expected, lambda r: lifecycle.started(r, now_ms))

    def ramp(
        self, caller: str, key: str, expected: int, coverage: float, steps: Sequence[Step]
    ) -> Record:
        """Sets coverage, now and later."""
        now_ms = self._clock_ms()
        return self._change(
            caller, key, expected, lambda r: lifecycle.ramped(r, coverage, steps, now_ms)
        )

    def pause(self, caller: str, key: str, expected: int) -> Record:
        """Takes everybody out for now."""
        return self._change(caller, key, expected, lifecycle.paused)

    def resume(self, caller: str, key: str, expected: int) -> Record:
        """Goes on."""
        return self._change(caller, key, expected, lifecycle.resumed)

    def conclude(self, caller: str, key: str, expected: int, winner: str, roll_out: bool) -> Record:
        """Ends an experiment."""
        now_ms = self._clock_ms()
        return self._change(
            caller,
            key,
            expected,
            lambda r: lifecycle.concluded(r, winner, roll_out, now_ms),
            guarded=False,
        )

    def archive(self, caller: str, key: str, expected: int) -> Record:
        """Takes an experiment out of the definitions."""
        return self._change(caller, key, expected, lifecycle.archived)

    def put(self, caller: str, bulk: Bulk, expected: int | None) -> Changed:
        """Definitions in bulk, for a version of the registry where one is given."""
        with self._writing() as transaction:
            version = transaction.version
            seen = version if expected is None else expected
            # Somebody whose answer was lost asks again, for the version before.
            if seen not in (version, version - 1):
                raise conflict("the registry", seen, version)
            try:
                done = put(transaction, caller, bulk, self._errors, self._clock_ms())
            except (FailedPrecondition, InvalidArgument) as error:
                if seen != version:
                    raise conflict("the registry", seen, version) from error
                raise
            if done.registry_version != version != seen:
                raise conflict("the registry", seen, version)
            return done

    def switch(self, caller: str, killed: bool) -> int:
        """Turns everything off, or on again; the registry's version."""
        with self._writing() as transaction:
            return switch(transaction, caller, killed, self._clock_ms())

    def part(self, after: ItemKey | None, max_bytes: int) -> tuple[int, Part]:
        """The registry's version, and part of all that it has."""
        found = self._store.snapshot()
        assert found is not None  # noqa: S101 - no version is left out
        return found.version, part_of(found.records, after, max_bytes)

    def get(self, key: str) -> Record:
        """One experiment. Raises ``NotFound``."""
        return _known(key, self._store.record((EXPERIMENT, key)))

    def find(self, states: Collection[State], after_key: str, limit: int) -> list[Record]:
        """Experiments of these states after a key, at most ``limit``."""
        return self._store.experiments(states, after_key, limit)

    def audit(self, key: str, before: int, limit: int) -> list[NumberedEntry]:
        """The audit trail, newest first."""
        return self._store.entries(key, before, limit)

    def put_report(self, caller: str, key: str, json_text: str, html: str) -> ReportInfo:
        """Stores a report. Raises ``NotFound`` for an experiment that is not known."""
        authored.json_object("json", json_text, MAX_REPORT_JSON_BYTES)
        info = ReportInfo(0, key, self._clock_ms(), caller, self._revision(key))
        return self._store.put_report(info, json_text, html, KEPT_REPORTS)

    def report(self, key: str, number: int) -> Report:
        """A report, the latest where the number is 0. Raises ``NotFound``."""
        found = self._store.report(key, number)
        if found is not None:
            return found
        self._revision(key)
        if number:
            raise NotFound(
                f"experiment {key!r} has no report {number}: the last {KEPT_REPORTS} are kept",
                reason="NO_REPORT",
            )
        raise NotFound(
            f"experiment {key!r} has no report yet: nothing was analysed", reason="NO_REPORT"
        )

    def reports(self, key: str) -> Sequence[ReportInfo]:
        """Which reports there are, newest first. Raises ``NotFound``."""
        found = self._store.reports(key)
        if not found:
            self._revision(key)
        return found

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        """A change, alone. Raises ``FailedPrecondition`` where it is of what can't be read."""
        with refused_unreadable(), self._store.writing() as transaction:
            yield transaction

    def _revision(self, key: str) -> int:
        """Revision of an experiment; 0 for one of a flag's rule. Raises ``NotFound``."""
        record = self._store.record((EXPERIMENT, key))
        if record is not None:
            return record.item.revision
        found = self._store.snapshot()
        records = found.records.values() if found is not None else ()
        flags = read_in_force(r for r in records if r.item.kind == FLAG).definitions.flags
        for flag in flags.values():
            if any(rule.experiment and rule.experiment.key == key for rule in flag.rules):
                return 0
        raise _unknown(key)

    def _change(
        self,
        caller: str,
        key: str,
        expected: int,
        change: Callable[[Record], Change],
        *,
        guarded: bool = True,
    ) -> Record:
        with self._writing() as transaction:
            before = transaction.records()
            old = _known(key, before.get((EXPERIMENT, key)))
            # Somebody whose answer was lost asks again, for the version before.
            if expected not in (old.version, old.version - 1):
                raise conflict(f"experiment {key!r}", expected, old.version)
            try:
                made = change(old)
            except (FailedPrecondition, InvalidArgument) as error:
                if expected != old.version:
                    raise conflict(f"experiment {key!r}", expected, old.version) from error
                raise
            if made.record == old:
                return old
            if expected != old.version:
                raise conflict(f"experiment {key!r}", expected, old.version)
            new = raised(made.record, self._clock_ms())
            check(before, {**before, new.id: new}, self._errors, guarded=guarded)
            transaction.put(new)
            transaction.append(entry(caller, made.action, old, new, made.remark))
        return new


def _known(key: str, record: Record | None) -> Record:
    if record is None:
        raise _unknown(key)
    return record


def _unknown(key: str) -> NotFound:
    return NotFound(f"there is no experiment {key!r}", reason="UNKNOWN_EXPERIMENT")
