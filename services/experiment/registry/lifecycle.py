"""What may become of an experiment: pure functions from a record to the next one.

    DRAFT ── start ──▶ RUNNING ◀── pause, resume ──▶ PAUSED
      │                   └──────── conclude ──────────┘
      │                                │
      └────── archive ──▶ ARCHIVED ◀── CONCLUDED (conclude again: only whether it is rolled out)

A definition may be updated until it is concluded. What would change nothing gives the record
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from services.common.assign.model import Step
from services.common.errors import FailedPrecondition, InvalidArgument
from services.experiment.registry import authored
from services.experiment.registry.record import Record, State, experiment_of

_LIVE: Final = (State.RUNNING, State.PAUSED)


@dataclass(frozen=True)
class Change:
    """A record after something was done, and what else there is to say of it."""

    record: Record
    action: str
    remark: str = ""


def updated(record: Record, data: Mapping[str, Any]) -> Change:
    """The definition ``data``, which has no fields of the lifecycle."""
    _require(record, "updated", State.DRAFT, *_LIVE)
    return Change(_redefined(record, data), "update")


def started(record: Record, now_ms: int) -> Change:
    """A draft that runs."""
    if record.state is State.RUNNING:
        return Change(record, "start")
    _require(record, "started", State.DRAFT)
    return Change(replace(record, state=State.RUNNING, started_ms=now_ms), "start")


def ramped(record: Record, coverage: float, steps: Sequence[Step], now_ms: int) -> Change:
    """A share of units from now on, and steps to come."""
    _require(record, "ramped", *_LIVE)
    before = experiment_of(record.item)
    if before.ranges is not None:
        raise InvalidArgument.field("coverage", "is not of an experiment with ranges")
    remark = f"coverage {coverage:g}" + "".join(
        f", {step.coverage:g} from {_iso(step.at_ms)}" for step in steps
    )
    if (before.coverage, before.ramp) == (coverage, tuple(steps)):
        return Change(record, "ramp", remark)
    for index, step in enumerate(steps):
        if step.at_ms <= now_ms:
            raise InvalidArgument.field(f"steps[{index}].at", "must be later than now")
    data = authored.parsed_object(record.id, record.authored)
    data["coverage"] = coverage
    data["ramp"] = [{"at": _iso(step.at_ms), "coverage": step.coverage} for step in steps]
    if not steps:
        del data["ramp"]
    return Change(_redefined(record, data), "ramp", remark)


def paused(record: Record) -> Change:
    """A running experiment that has nobody for now."""
    if record.state is State.PAUSED:
        return Change(record, "pause")
    _require(record, "paused", State.RUNNING)
    return Change(replace(record, state=State.PAUSED), "pause")


def resumed(record: Record) -> Change:
    """A paused one that goes on."""
    if record.state is State.RUNNING:
        return Change(record, "resume")
    _require(record, "resumed", State.PAUSED)
    return Change(replace(record, state=State.RUNNING), "resume")


def concluded(record: Record, winner: str, roll_out: bool, now_ms: int) -> Change:
    """The end, with a winner or without one. Rolled out, everybody has the winner."""
    experiment = experiment_of(record.item)
    variant = experiment.variant(winner)
    if winner and variant is None:
        keys = ", ".join(v.key for v in experiment.variants)
        raise InvalidArgument.field("winner", f"{winner!r} is not one of {keys}")
    if roll_out and variant is None:
        raise InvalidArgument.field("roll_out", "needs a winner")
    if roll_out and variant is not None and variant.interleave:
        raise InvalidArgument.field(
            "winner", f"{winner!r} interleaves two variants, which can't be rolled out: name one"
        )
    remark = (f"winner {winner}" if winner else "no winner") + (", rolled out" if roll_out else "")
    if record.state is State.CONCLUDED:
        if record.winner != winner:
            raise FailedPrecondition(
                f"experiment {record.item.key!r} was concluded with "
                f"{repr(record.winner) if record.winner else 'no winner'}: that stays",
                reason="ILLEGAL_TRANSITION",
            )
        return Change(replace(record, rolled_out=roll_out), "conclude", remark)
    _require(record, "concluded", *_LIVE)
    after = replace(
        record, state=State.CONCLUDED, winner=winner, rolled_out=roll_out, concluded_ms=now_ms
    )
    return Change(after, "conclude", remark)


def archived(record: Record) -> Change:
    """Out of the definitions, for good."""
    if record.state is State.ARCHIVED:
        return Change(record, "archive")
    _require(record, "archived", State.DRAFT, State.CONCLUDED)
    return Change(replace(record, state=State.ARCHIVED), "archive")


def _require(record: Record, done: str, *states: State) -> None:
    if record.state not in states:
        state = record.state.value if record.state is not None else "no experiment"
        allowed = " or ".join(s.value for s in states)
        raise FailedPrecondition(
            f"experiment {record.item.key!r} is {state}: to be {done} it must be {allowed}",
            reason="ILLEGAL_TRANSITION",
        )
    if not record.supported:
        raise FailedPrecondition(
            f"experiment {record.item.key!r} is of evaluator version "
            f"{record.item.evaluator_version}, which this replica does not know",
            reason="UNSUPPORTED_DEFINITION",
        )


def _redefined(record: Record, data: Mapping[str, Any]) -> Record:
    made = authored.experiment(record.item.key, data, record.item.revision)
    if made.text == record.authored:
        return record
    return replace(record, item=made.item, authored=made.text)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
