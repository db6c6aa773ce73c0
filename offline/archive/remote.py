"""An archive in S3 (fsspec, s3fs). The one home of both.

Credentials, region and endpoint come from where the AWS tools find them: environment, profile,
instance. S3 has no locks: a writer leaves its claim in the manifest and replaces the manifest only
if it is the one it read (``If-Match``): of two writers one fails, whatever their clocks say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from offline.archive.manifest import MANIFEST_NAME
from offline.archive.target import locked
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

LEASE_MS = 600_000
_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict")


class S3Target:
    """An archive under ``bucket/prefix``. Raises ``InvalidArgument`` without a bucket,
    ``FailedPrecondition`` where the extra ``s3`` is not installed."""

    lease_ms: int | None = LEASE_MS

    def __init__(self, path: str) -> None:
        path = path.strip("/")
        self.url = f"s3://{path}"
        bucket, _, prefix = path.partition("/")
        if not bucket or not prefix:
            raise InvalidArgument.field("archive", f"{self.url!r} is not s3://bucket/path")
        try:
            import fsspec

            # What another writer changed must show: no cached listings.
            self._files: Any = fsspec.filesystem("s3", use_listings_cache=False)
        except ImportError as error:
            raise FailedPrecondition(
                f"{self.url}: S3 needs the extra s3 (pip install 'podium[s3]')",
                reason="S3_NOT_INSTALLED",
            ) from error
        self._bucket, self._prefix = bucket, prefix

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield

    @contextmanager
    def staging(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="podium-archive-") as staging:
            yield Path(staging)

    def names(self) -> set[str]:
        root = f"{self._bucket}/{self._prefix}/"
        with self._named_errors():
            found = self._files.find(root)
        names = (path.removeprefix(root) for path in found)
        return {name for name in names if name.startswith("date=")}

    def put(self, name: str, staged: Path) -> None:
        with self._named_errors():
            self._files.put_file(str(staged), self._path(name))

    def open(self, name: str) -> pa.NativeFile:
        with self._named_errors(absent_is_an_error=False):
            return pa.BufferReader(self._files.cat_file(self._path(name)))

    def remove(self, name: str) -> None:
        with self._named_errors():
            self._files.call_s3("delete_object", Bucket=self._bucket, Key=self._key(name))

    def read_manifest(self) -> tuple[bytes, str] | None:
        path = self._path(MANIFEST_NAME)
        with self._named_errors(absent_is_an_error=False):
            try:
                version = self._version(path)
                while True:
                    data = self._files.cat_file(path)
                    if (found := self._version(path)) == version:
                        return data, version
                    version = found
            except FileNotFoundError:
                return None

    def replace_manifest(self, data: bytes, version: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        with self._named_errors():
            answer = self._files.call_s3(
                "put_object",
                Bucket=self._bucket,
                Key=self._key(MANIFEST_NAME),
                Body=data,
                **condition,
            )
        return str(answer["ETag"])

    def _version(self, path: str) -> str:
        return str(self._files.info(path)["ETag"])

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._bucket}/{self._prefix}/{name}"

    @contextmanager
    def _named_errors(self, *, absent_is_an_error: bool = True) -> Iterator[None]:
        """Turns what s3fs raises into domain errors that name the archive."""
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except FileNotFoundError as error:
            if absent_is_an_error:
                raise NotFound(f"{self.url}: {error}", reason="ARCHIVE_NOT_FOUND") from error
            raise
        except PermissionError as error:
            raise FailedPrecondition(
                f"{self.url}: no permission: {error}", reason="ARCHIVE_FORBIDDEN"
            ) from error
        except (OSError, BotoCoreError) as error:
            if _code(error) in _CONFLICTS:
                raise locked(self.url) from error
            raise Unavailable(f"{self.url}: {error}", reason="ARCHIVE_UNAVAILABLE") from error


def _code(error: BaseException) -> str:
    """S3's own code of an error; empty without one."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
