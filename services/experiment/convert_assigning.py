"""Between the messages of Assign and AssignBatch and their core; limits are enforced here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import (
    Assignment,
    Context,
    Definitions,
    Evaluation,
    StickyDocument,
    evaluate,
    units_of,
)
from services.common.convert_assignment import assignment_message, assignment_reason
from services.common.convert_evaluation import (
    attributes_of,
    context_documents,
    context_units,
    document_messages,
)
from services.common.convert_limits import (
    MAX_BATCH_UNITS,
    MAX_EXPERIMENT_KEYS,
    forced_variants,
    require_actor,
    require_count,
    require_id,
)
from services.common.errors import FieldViolation, InvalidArgument

UNITS_A_SLICE: Final = 16
"""Units that are assigned in one go: half a millisecond with twenty experiments."""

_NO_BUCKET: Final = -1.0


class AssignCall(NamedTuple):
    """A checked request: whom to assign, experiments wanted."""

    context: Context
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """A checked request of many. ``units`` are checked when their turn comes."""

    units: Sequence[experiment_pb2.BatchUnit]
    keys: tuple[str, ...]


def assign_call(request: experiment_pb2.AssignRequest, now_ms: int) -> AssignCall:
    """Checks a request. Raises ``InvalidArgument`` naming field and limit."""
    keys = _experiment_keys(request.experiment_keys)
    return AssignCall(_context("", request, request.forced_variants, now_ms), keys)


def assign_response(
    evaluation: Evaluation, definitions: Definitions
) -> experiment_pb2.AssignResponse:
    """The answer to Assign."""
    return experiment_pb2.AssignResponse(
        assignments=[assignment_message(a) for a in evaluation.assignments],
        definitions_hash=definitions.hash,
        sticky_changes=document_messages(evaluation.sticky_changes.values()),
    )


def batch_of(request: experiment_pb2.AssignBatchRequest) -> Batch:
    """Checks a request but for its units. Raises ``InvalidArgument``."""
    require_count("units", len(request.units), 1, MAX_BATCH_UNITS)
    return Batch(request.units, _experiment_keys(request.experiment_keys))


def answered(
    batch: Batch, definitions: Definitions, now_ms: int, answer: BatchAnswer
) -> Iterator[int]:
    """Assigns the units slice by slice; yields the number of those in ``answer`` after each.

    Raises ``InvalidArgument`` and ``NotFound`` as Assign does; fields are those of ``units[n]``.
    """
    for index, unit in enumerate(batch.units):
        at = f"units[{index}]"
        context = _context(f"{at}.", unit, unit.forced_variants, now_ms)
        try:
            answer.add(index, evaluate(definitions, context, batch.keys))
        except InvalidArgument as error:
            raise _within(at, error) from error
        if (index + 1) % UNITS_A_SLICE == 0:
            yield index + 1


class BatchAnswer:
    """The answer to AssignBatch while it grows: columns, and the texts that they point to."""

    def __init__(self, definitions_hash: str) -> None:
        """``definitions_hash``: of those that decide."""
        self._definitions_hash = definitions_hash
        self._places: dict[str, int] = {"": 0}
        self._counts: list[int] = []
        self._rows: list[tuple[int, int, int, float, int, int, int]] = []
        self._changes: list[experiment_pb2.BatchStickyChanges] = []

    def add(self, index: int, evaluation: Evaluation) -> None:
        """Adds what became of the unit at ``index``."""
        self._counts.append(len(evaluation.assignments))
        self._rows += map(self._row, evaluation.assignments)
        if evaluation.sticky_changes:
            documents = document_messages(evaluation.sticky_changes.values())
            self._changes.append(experiment_pb2.BatchStickyChanges(unit=index, documents=documents))

    def message(self) -> experiment_pb2.AssignBatchResponse:
        """The answer on the wire."""
        keys, variants, reasons, buckets, units, revisions, others = (
            zip(*self._rows, strict=True) if self._rows else ((),) * 7
        )
        return experiment_pb2.AssignBatchResponse(
            assignments=experiment_pb2.AssignmentColumns(
                texts=self._places,
                counts=self._counts,
                experiment_keys=keys,
                variant_keys=variants,
                reasons=reasons,
                buckets=buckets,
                unit_types=units,
                revisions=revisions,
                other_variant_keys=others if any(others) else (),
            ),
            definitions_hash=self._definitions_hash,
            sticky_changes=self._changes,
        )

    def _row(self, assignment: Assignment) -> tuple[int, int, int, float, int, int, int]:
        key, variant, reason, bucket, unit, revision, other = assignment
        return (
            self._place(key),
            self._place(variant),
            assignment_reason(reason),
            _NO_BUCKET if bucket is None else bucket,
            self._place(unit),
            revision,
            self._place(other),
        )

    def _place(self, text: str) -> int:
        return self._places.setdefault(text, len(self._places))


def batch_assignments(
    columns: experiment_pb2.AssignmentColumns,
) -> list[list[common_pb2.Assignment]]:
    """The assignments of each unit of an answer to AssignBatch, as Assign tells them."""
    texts = columns.texts
    others = columns.other_variant_keys or [0] * len(columns.experiment_keys)
    rows = iter(
        zip(
            columns.experiment_keys,
            columns.variant_keys,
            columns.reasons,
            columns.buckets,
            columns.unit_types,
            columns.revisions,
            others,
            strict=True,
        )
    )
    return [
        [
            common_pb2.Assignment(
                experiment_key=texts[key],
                variant_key=texts[variant],
                reason=reason,
                bucket=None if bucket == _NO_BUCKET else bucket,
                unit_type=texts[unit],
                revision=revision,
                other_variant_key=texts[other],
            )
            for _, (key, variant, reason, bucket, unit, revision, other) in zip(
                range(count), rows, strict=False
            )
        ]
        for count in columns.counts
    ]


def _context(
    at: str,
    request: experiment_pb2.AssignRequest | experiment_pb2.BatchUnit,
    forced: Mapping[str, str],
    now_ms: int,
) -> Context:
    """Whom to assign; ``at`` is the message's path with its dot."""
    field, asked = f"{at}context", request.context
    units = context_units(field, asked)
    if request.HasField("actor") or not units:
        units |= units_of(*require_actor(f"{at}actor", request.actor))
    sticky: Mapping[str, StickyDocument] | None = context_documents(field, asked)
    return Context(
        units,
        attributes_of(f"{field}.attributes", asked.attributes),
        forced_variants(f"{at}forced_variants", forced),
        sticky,
        now_ms,
    )


def _experiment_keys(keys: Sequence[str]) -> tuple[str, ...]:
    require_count("experiment_keys", len(keys), 0, MAX_EXPERIMENT_KEYS)
    return tuple(require_id(f"experiment_keys[{index}]", key) for index, key in enumerate(keys))


def _within(at: str, error: InvalidArgument) -> InvalidArgument:
    """The error of a unit as one of the whole request."""
    violations = [FieldViolation(f"{at}.{v.field}", v.description) for v in error.violations]
    return InvalidArgument(f"{at}.{error.message}", violations=violations, reason=error.reason)
