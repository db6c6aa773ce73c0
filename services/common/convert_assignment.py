"""Assignments as the protos carry them, for every service that reports them."""

from __future__ import annotations

from podium.common.v1 import common_pb2
from services.common.assign.assign import Assignment, Reason

_REASONS = {
    Reason.SPLIT: common_pb2.ASSIGNMENT_REASON_SPLIT,
    Reason.NOT_COVERED: common_pb2.ASSIGNMENT_REASON_NOT_COVERED,
    Reason.MISSING_UNIT: common_pb2.ASSIGNMENT_REASON_MISSING_UNIT,
    Reason.NOT_RUNNING: common_pb2.ASSIGNMENT_REASON_NOT_RUNNING,
    Reason.FORCED: common_pb2.ASSIGNMENT_REASON_FORCED,
}


def assignment_message(assignment: Assignment) -> common_pb2.Assignment:
    """The assignment as a message."""
    return common_pb2.Assignment(
        experiment_key=assignment.experiment_key,
        variant_key=assignment.variant_key,
        reason=_REASONS[assignment.reason],
        bucket=assignment.bucket,
        unit_type=assignment.unit_type,
        revision=assignment.revision,
    )
