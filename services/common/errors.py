"""Domain errors. One table in ``status.py`` maps each to a gRPC status.

PodiumError
├── InvalidArgument        a request field is wrong            INVALID_ARGUMENT
├── NotFound               something named does not exist      NOT_FOUND
├── AlreadyExists          there is another one of that name   ALREADY_EXISTS
├── PermissionDenied       the caller may not ask for this     PERMISSION_DENIED
├── FailedPrecondition     the state does not allow the call   FAILED_PRECONDITION
│   └── UnknownFeatureView a feature view is not served here   FAILED_PRECONDITION
├── VersionConflict        somebody else changed it meanwhile  ABORTED
├── Overloaded             no capacity now, retry later        RESOURCE_EXHAUSTED
├── DeadlinePassed         the caller's time is over           DEADLINE_EXCEEDED
├── Unavailable            not ready, or a part is down        UNAVAILABLE
├── ConfigError            a configuration file is wrong       (start-up only)
└── BundleError            a bundle is missing or corrupt      FAILED_PRECONDITION
    └── Unreadable         a file of it can't be read now      FAILED_PRECONDITION

``services.common.event_log`` adds LogCorrupt (start-up, commands) and SyncFailed, an Unavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field of a request: ``field`` is its path, ``description`` names the limit."""

    field: str
    description: str


class PodiumError(Exception):
    """Base of all domain errors. ``reason`` is stable, UPPER_SNAKE and machine-readable."""

    reason = "PODIUM_ERROR"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class InvalidArgument(PodiumError):
    """A request field is wrong; ``violations`` names each with its limit."""

    reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        reason: str | None = None,
    ) -> None:
        super().__init__(message, reason=reason)
        self.violations = tuple(violations)

    @classmethod
    def field(cls, field: str, description: str, *, reason: str | None = None) -> InvalidArgument:
        """An error about one field."""
        return cls(
            f"{field}: {description}",
            violations=[FieldViolation(field, description)],
            reason=reason,
        )


class NotFound(PodiumError):
    """Something the request names does not exist."""

    reason = "NOT_FOUND"


class AlreadyExists(PodiumError):
    """What is to be made is there already, with other content."""

    reason = "ALREADY_EXISTS"


class PermissionDenied(PodiumError):
    """The caller is not one of those who may ask for this."""

    reason = "PERMISSION_DENIED"


class FailedPrecondition(PodiumError):
    """The state of the service does not allow the call."""

    reason = "FAILED_PRECONDITION"


class UnknownFeatureView(FailedPrecondition):
    """The feature view named by the request is not served here."""

    reason = "UNKNOWN_FEATURE_VIEW"


class VersionConflict(PodiumError):
    """A change was made for another version than the one in force, which is ``version``: whoever
    wants it reads again and decides anew."""

    reason = "VERSION_CONFLICT"

    def __init__(self, message: str, *, version: int, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.version = version


class Overloaded(PodiumError):
    """No capacity now; the caller may retry after ``retry_after_ms``."""

    reason = "OVERLOADED"

    def __init__(
        self, message: str, *, retry_after_ms: int = 100, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_ms = retry_after_ms


class DeadlinePassed(PodiumError):
    """The caller's deadline passed before the work was done."""

    reason = "DEADLINE_PASSED"


class Unavailable(PodiumError):
    """Not ready yet, or a part the call needs is down; the caller may retry after
    ``retry_after_ms`` where that is known."""

    reason = "UNAVAILABLE"

    def __init__(
        self, message: str, *, retry_after_ms: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_ms = retry_after_ms


class BundleError(PodiumError):
    """A bundle is missing, incomplete or corrupt."""

    reason = "BUNDLE_ERROR"


class Unreadable(BundleError):
    """A file of a bundle is there and can't be read, which may pass by itself."""

    reason = "UNREADABLE"

    @staticmethod
    def of(error: OSError, where: object) -> BundleError:
        """What an error of reading ``where`` means: that nothing is there will not pass."""
        lasts = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        kind = BundleError if lasts else Unreadable
        return kind(f"{where}: cannot be read: {error.strerror or error}")


class ConfigError(PodiumError):
    """A configuration file is wrong. The message names file, line and field."""

    reason = "CONFIG_ERROR"

    def __init__(self, file: str, line: int, field: str, description: str) -> None:
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {field}: {description}" if field else f"{place}: {description}")
        self.file = file
        self.line = line
        self.field = field
        self.description = description
