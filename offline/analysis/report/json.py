"""A report as JSON: written, and read back as it was."""

from __future__ import annotations

import json
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from offline.analysis.model import SCHEMA_VERSION, Report
from services.common.errors import FieldViolation, InvalidArgument


def to_json(report: Report) -> str:
    """``report`` as JSON, indented, its fields in their order, with a newline at the end.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(asdict(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> Report:
    """The report that ``to_json`` wrote. Fields that a later version added are passed over.

    Raises:
        InvalidArgument: it is no JSON, of another schema version, or not a report.
    """
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise InvalidArgument.field("report", f"is no JSON: {error}") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise InvalidArgument.field("schema_version", f"must be {SCHEMA_VERSION}, is {version!r}")
    try:
        return TypeAdapter(Report).validate_python(fields)
    except ValidationError as error:
        violations = [
            FieldViolation(".".join(map(str, found["loc"])) or "report", found["msg"])
            for found in error.errors()
        ]
        first = violations[0]
        raise InvalidArgument(
            f"{first.field}: {first.description}", violations=violations
        ) from error
