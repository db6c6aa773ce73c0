"""Assignments as the protos carry them, for every service that reports them."""

from __future__ import annotations

from typing import cast

from podium.common.v1 import common_pb2
from services.common.assign.assign import Assignment, Reason

_NUMBERS = {
    reason: cast(
        "common_pb2.AssignmentReason",
        common_pb2.AssignmentReason.Value(f"ASSIGNMENT_REASON_{reason.name}"),
    )
    for reason in Reason
}
"""Of the enum's values."""


def assignment_reason(reason: Reason) -> common_pb2.AssignmentReason:
    """The reason's number on the wire."""
    return _NUMBERS[reason]


def assignment_message(assignment: Assignment) -> common_pb2.Assignment:
    """The assignment as a message."""
    return common_pb2.Assignment(
        experiment_key=assignment.experiment_key,
        variant_key=assignment.variant_key,
        reason=_NUMBERS[assignment.reason],
        bucket=assignment.bucket,
        unit_type=assignment.unit_type,
        revision=assignment.revision,
        other_variant_key=assignment.other_variant_key,
    )
