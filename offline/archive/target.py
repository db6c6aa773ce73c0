"""Where an archive lies: a local directory, or what ``offline.archive.remote`` reaches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from offline.archive.manifest import MANIFEST_NAME
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.files import LOCAL_FILES, write_whole

LOCK_NAME = "archive.lock"
_STAGING = ".staging"


class Target(Protocol):
    """Named files and one manifest. Nothing shows before it is whole."""

    url: str
    lease_ms: int | None
    """How long a writer's claim holds without a commit; None where ``lock`` suffices."""

    def lock(self) -> AbstractContextManager[None]:
        """Keeps other writers out, where the target can. Raises ``FailedPrecondition``."""
        ...

    def staging(self) -> AbstractContextManager[Path]:
        """A local directory for files that are being written; whatever it held before is gone."""
        ...

    def names(self) -> set[str]:
        """Names of all data files, listed in the manifest or not."""
        ...

    def put(self, name: str, staged: Path) -> None:
        """Makes a staged file durable and visible under ``name``, replacing one that is there."""
        ...

    def open(self, name: str) -> pa.NativeFile:
        """Raises ``FileNotFoundError``."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file; one that is gone already is no error."""
        ...

    def read_manifest(self) -> tuple[bytes, str] | None:
        """(content, version) of the manifest; None without one."""
        ...

    def replace_manifest(self, data: bytes, version: str | None) -> str:
        """Replaces the manifest of ``version`` (None: there must be none yet), durably and at once.

        Returns the new version. Raises ``FailedPrecondition`` (ARCHIVE_LOCKED) when another writer
        has replaced it.
        """
        ...


def open_target(url: str) -> Target:
    """``s3://bucket/prefix`` or a local path.

    Raises ``InvalidArgument`` for any other URL, ``FailedPrecondition`` where the extra ``s3`` is
    not installed.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        if not url:
            raise InvalidArgument.field("archive", "is empty; name a directory or s3://bucket/path")
        return LocalTarget(Path(url))
    if scheme == "file":
        return LocalTarget(Path(rest))
    if scheme != "s3":
        raise InvalidArgument.field(
            "archive", f"{url!r} is neither a directory nor s3://bucket/path"
        )
    from offline.archive.remote import S3Target

    return S3Target(rest)


class LocalTarget:
    """An archive in a local directory, made with the first file.

    One writer at a time, by a lock that the kernel frees with its process.
    """

    lease_ms: int | None = None

    def __init__(self, directory: Path) -> None:
        self.url = str(directory)
        self._directory = directory

    @contextmanager
    def lock(self) -> Iterator[None]:
        LOCAL_FILES.make_directory(self._directory)
        try:
            handle = LOCAL_FILES.lock(self._directory / LOCK_NAME)
        except BlockingIOError as error:
            raise locked(self.url) from error
        try:
            yield
        finally:
            LOCAL_FILES.close(handle)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        staging = self._directory / _STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def names(self) -> set[str]:
        found = self._directory.glob("date=*/*")
        return {path.relative_to(self._directory).as_posix() for path in found}

    def put(self, name: str, staged: Path) -> None:
        path = self._directory / name
        LOCAL_FILES.make_directory(path.parent)
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.replace(path)
        LOCAL_FILES.sync_directory(path.parent)

    def open(self, name: str) -> pa.NativeFile:
        return pa.OSFile(str(self._directory / name))

    def remove(self, name: str) -> None:
        path = self._directory / name
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def read_manifest(self) -> tuple[bytes, str] | None:
        try:
            return (self._directory / MANIFEST_NAME).read_bytes(), ""
        except (FileNotFoundError, NotADirectoryError):
            return None

    def replace_manifest(self, data: bytes, version: str | None) -> str:  # noqa: ARG002 - locked
        write_whole(LOCAL_FILES, self._directory / MANIFEST_NAME, data)
        return ""


def locked(url: str, until: str = "") -> FailedPrecondition:
    """The error of a writer that finds another one."""
    return FailedPrecondition(
        f"{url} is being written by another process{until}", reason="ARCHIVE_LOCKED"
    )
