"""Bundles on disk: atomic publish, the pointer to those that serve, verification.

``DIRECTORY/<version>/`` holds a bundle, ``DIRECTORY/current`` the pointer (see ``pointer``) and
``DIRECTORY/moves.jsonl`` every move of it, oldest first, one a line. In a store from before there
was a pointer ``current`` holds the live version alone, and ``history`` the promotions in force.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from services.common.bundle.manifest import (
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    read_manifest,
)
from services.common.bundle.pointer import Move, NewerPointer, Placed, Pointer, pointer_of
from services.common.errors import BundleError, InvalidArgument, NotFound, Unreadable

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

    def pointer(self) -> Pointer:
        """Which bundles serve; an empty pointer before the first promotion.

        Raises ``BundleError`` naming the file where it can't be read, or the live bundle is not
        there.
        """
        pointer = self._pointer()
        live = pointer.live
        if live is not None and not (_VERSION.match(live) and (self.directory / live).is_dir()):
            path = self.directory / "current"
            raise BundleError(f"{path}: names a bundle that is not there: {live!r}")
        return pointer

    def current(self) -> str | None:
        """The live version, or None before the first promotion. Raises ``BundleError``."""
        return self.pointer().live

    def history(self) -> tuple[str, ...]:
        """Promoted versions, oldest first; the last is the live one. Raises ``BundleError``."""
        return tuple(entry.version for entry in self.pointer().promoted)

    def moves(self) -> list[Move]:
        """Every move of the pointer, oldest first. A line that is not whole is left out."""
        path = self.directory / "moves.jsonl"
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        return [move for line in lines if (move := _move_of(line)) is not None]

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

    def promote(self, version: str, *, by: str = "") -> None:
        """Verifies a bundle and makes it live. ``by``: who moves the pointer.

        The live one may be promoted again, which changes no order: rankers that refused it look at
        it anew, for instance after its files were restored. Where the pointer is damaged, it goes
        on from the last move that is recorded; one of a later format is not damaged, and raises
        ``NewerPointer``.
        """
        self.verify(version)
        with self._locked():
            try:
                before = self.pointer()
            except NewerPointer:
                raise
            except BundleError:
                before = self._last_recorded()
            self._move("promote", version, before.promoting(version), by)

    def rollback(self, *, by: str = "") -> str:
        """Makes the version promoted before the live one live again; returns it.

        Raises ``NotFound`` when nothing was promoted before.
        """
        with self._locked():
            after = self._pointer().rolling_back()
            version = after.promoted[-1].version
            self.verify(version)
            self._move("roll-back", version, after, by)
            return version

    def canary(self, version: str | None, share: float = 1.0, *, by: str = "") -> None:
        """Verifies a bundle and gives it a share of the users, above 0 and at most 1; None ends the
        canary. Raises ``NotFound``, ``BundleError`` and ``InvalidArgument``."""
        self._share("canary", version, share, by, lambda p: p.with_canary(version, share))

    def shadow(self, version: str | None, share: float = 1.0, *, by: str = "") -> None:
        """The same for the bundle that ranks a share of the requests for comparison only."""
        self._share("shadow", version, share, by, lambda p: p.with_shadow(version, share))

    def serve_variants(self, version: str, *, by: str = "") -> None:
        """Verifies a bundle and lets variants of experiments name it."""
        self.verify(version)
        with self._locked():
            self._move("experiment", version, self._pointer().with_experiment(version), by)

    def end_variants(self, version: str, *, by: str = "") -> None:
        """The end of that: who is in such a variant gets the live bundle. Raises ``NotFound``."""
        with self._locked():
            after = self._pointer().without_experiment(version)
            self._move("end experiment", version, after, by)

    def _share(
        self,
        role: str,
        version: str | None,
        share: float,
        by: str,
        move: Callable[[Pointer], Pointer],
    ) -> None:
        if not 0 < share <= 1:
            raise InvalidArgument.field("share", f"{share:g} is not above 0 and at most 1")
        if version is not None:
            self.verify(version)
        with self._locked():
            before = self._pointer()
            if version is not None and version == before.live:
                raise InvalidArgument.field("version", f"{version} is live")
            action = role if version is not None else f"end {role}"
            self._move(action, version or "", move(before), by, share if version else None)

    def _move(
        self, action: str, version: str, pointer: Pointer, by: str, share: float | None = None
    ) -> None:
        move = Move(
            at=datetime.now(UTC),
            by=by,
            action=action,
            version=version,
            share=share,
            pointer=pointer,
        )
        # Recorded first: a crash between the two leaves a move that did not happen on record, and
        # the next one has its number again.
        _append(self.directory / "moves.jsonl", move.model_dump_json().encode())
        _write_atomically(self.directory / "current", pointer.to_text())
        (self.directory / "history").unlink(missing_ok=True)

    def _pointer(self) -> Pointer:
        path = self.directory / "current"
        try:
            text, stat = path.read_text(encoding="utf-8"), path.stat()
        except FileNotFoundError:
            return Pointer()
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: cannot be read: {error}") from error
        if text.lstrip().startswith("{"):
            return pointer_of(text, path)
        return self._pointer_from_before(text.strip(), stat.st_mtime_ns)

    def _pointer_from_before(self, live: str, promoted_ns: int) -> Pointer:
        if not _VERSION.match(live):
            raise BundleError(f"{self.directory / 'current'}: names no bundle: {live!r}")
        earlier = self._history_from_before()
        if earlier and earlier[-1].version == live:
            earlier.pop()
        # No move has a number here: when the file was replaced tells promotions apart.
        return Pointer(promoted=(*earlier, Placed(version=live, move=promoted_ns)))

    def _history_from_before(self) -> list[Placed]:
        path = self.directory / "history"
        try:
            versions = path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: cannot be read: {error}") from error
        return [Placed(version=version, move=0) for version in versions]

    def _last_recorded(self) -> Pointer:
        moves = self.moves()
        if moves:
            return moves[-1].pointer
        return Pointer(promoted=tuple(self._history_from_before()))

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
    """Hash and size of a file. Raises ``BundleError`` when it is not there, ``Unreadable`` when it
    cannot be read."""
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise Unreadable.of(error, path) from error
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def _move_of(line: bytes) -> Move | None:
    try:
        return Move.model_validate_json(line)
    except ValidationError:
        return None


def _append(path: Path, line: bytes) -> None:
    """Adds a line, on disk when this returns, and ends one that a crash left open."""
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        opened = file.read(1) not in (b"", b"\n")
        file.write((b"\n" if opened else b"") + line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _names(directory: Path) -> set[str]:
    try:
        return {path.name for path in directory.iterdir()}
    except OSError as error:
        raise Unreadable.of(error, directory) from error


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
