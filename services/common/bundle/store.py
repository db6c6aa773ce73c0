"""Bundles on disk: atomic publish, promote, rollback, verification.

``DIRECTORY/<version>/`` holds a bundle, ``DIRECTORY/current`` the promoted version and
``DIRECTORY/history`` all promotions in force, oldest first, one version a line.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.bundle.manifest import (
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    read_manifest,
)
from services.common.errors import BundleError, NotFound

_VERSION = re.compile(r"^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$")
_CHUNK_BYTES = 1 << 20


class BundleStore:
    """A directory of bundles. Safe for many readers; writers exclude one another by a lock file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def versions(self) -> list[str]:
        """All published bundles, oldest first, corrupt ones too. Raises ``NotFound``."""
        if not self.directory.is_dir():
            raise NotFound(f"there is no directory of bundles at {self.directory}")
        return sorted(
            entry.name
            for entry in self.directory.iterdir()
            if entry.is_dir() and _VERSION.match(entry.name)
        )

    def current(self) -> str | None:
        """The promoted version, or None before the first promotion."""
        path = self.directory / "current"
        try:
            version = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: cannot be read: {error}") from error
        if not _VERSION.match(version) or not (self.directory / version).is_dir():
            raise BundleError(f"{path}: names a bundle that is not there: {version!r}")
        return version

    def history(self) -> tuple[str, ...]:
        """Promoted versions, oldest first; the last is the current one."""
        path = self.directory / "history"
        try:
            return tuple(path.read_text(encoding="utf-8").split())
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: cannot be read: {error}") from error

    def path(self, version: str) -> Path:
        """Directory of a version. Raises ``NotFound``."""
        path = self.directory / version
        if not _VERSION.match(version) or not path.is_dir():
            raise NotFound(f"no bundle {version!r} in {self.directory}")
        return path

    def manifest(self, version: str) -> Manifest:
        """Manifest of a version. Raises ``NotFound`` or ``BundleError``."""
        return read_manifest(self.path(version))

    def verify(self, version: str) -> Manifest:
        """Checks every file of a bundle against its hash; ``BundleError`` names the file."""
        return verify_directory(self.path(version))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty directory beside the bundles to build one in; removed unless published."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=".staging-", dir=self.directory))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def publish(self, staging: Path, manifest: Manifest) -> str:
        """Seals ``staging`` and renames it into place; returns the version.

        The version is the manifest's creation time and the start of the hash of its files, so
        versions sort by time. All is on disk (fsync) before the rename; readers see all or nothing.
        """
        files = {
            path.name: file_entry(path)
            for path in sorted(staging.iterdir())
            if path.name != MANIFEST_FILE
        }
        content = hashlib.sha256("".join(e.sha256 for e in files.values()).encode()).hexdigest()
        stamp = re.sub(r"[^0-9TZ]", "", manifest.created_at)
        version = manifest.version or f"{stamp}-{content[:8]}"
        if not _VERSION.match(version):
            raise BundleError(f"{version!r} is not a version name")
        sealed = manifest.sealed(version, files)
        (staging / MANIFEST_FILE).write_bytes(sealed.to_bytes())
        for path in staging.iterdir():
            _sync(path)
        staging.chmod(0o755)
        _sync(staging)
        with self._locked():
            target = self.directory / version
            if target.exists():
                raise BundleError(f"{target}: a bundle of this version exists already")
            staging.rename(target)
            _sync(self.directory)
        return version

    def promote(self, version: str) -> None:
        """Verifies a bundle and makes it the current one.

        The current one may be promoted again, which changes no history: rankers that refused it
        look at it anew, for instance after its files were restored.
        """
        self.verify(version)
        with self._locked():
            history = self.history()
            again = history and history[-1] == version and self._current_is(version)
            self._write_current(history if again else (*history, version))

    def rollback(self) -> str:
        """Promotes the version promoted before the current one again; returns it.

        Raises ``NotFound`` when nothing was promoted before.
        """
        with self._locked():
            history = self.history()
            if len(history) < 2:
                raise NotFound("no earlier promotion to roll back to")
            self.verify(history[-2])
            self._write_current(history[:-1])
            return history[-2]

    def _current_is(self, version: str) -> bool:
        path = self.directory / "current"
        return path.is_file() and path.read_bytes().strip() == version.encode()

    def _write_current(self, history: tuple[str, ...]) -> None:
        # History first: a crash between the two leaves the old bundle current, never a gap.
        _write_atomically(self.directory / "history", "\n".join(history) + "\n")
        _write_atomically(self.directory / "current", history[-1] + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def verify_directory(directory: Path) -> Manifest:
    """Checks manifest, sizes and hashes of a bundle directory; ``BundleError`` names the file.

    A file that the manifest does not list is refused too.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest.files.items():
        path = directory / name
        if Path(name).name != name or not path.is_file():
            raise BundleError(f"{path}: missing from the bundle")
        if file_entry(path) != expected:
            raise BundleError(f"{path}: corrupt: its SHA-256 is not the manifest's")
    unlisted = _names(directory) - {MANIFEST_FILE, *manifest.files}
    if unlisted:
        raise BundleError(f"{directory / min(unlisted)}: missing from the manifest")
    return manifest


def file_entry(path: Path) -> FileEntry:
    """Hash and size of a file. Raises ``BundleError`` when it cannot be read."""
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def _names(directory: Path) -> set[str]:
    try:
        return {path.name for path in directory.iterdir()}
    except OSError as error:
        raise BundleError(f"{directory}: cannot be read: {error.strerror}") from error


def _write_atomically(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)
    Path(name).replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
