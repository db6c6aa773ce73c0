"""What the logs need of a file system, small enough to be faked, failed and crashed in tests.

What was written survives the process; only what was synced survives the machine. That goes for
names, too: a created, replaced or removed one is durable once its directory is synced.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """A file system. Every method raises ``OSError``."""

    def make_directory(self, path: Path) -> None:
        """Makes a directory and those above it, durably; nothing where it is there."""
        ...

    def names(self, directory: Path) -> list[str]:
        """Names in a directory, in no order; none where it is missing."""
        ...

    def size(self, path: Path) -> int:
        """Bytes of a file."""
        ...

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """At most ``limit`` bytes from ``offset`` on; all of them by default."""
        ...

    def open(self, path: Path) -> int:
        """Opens a file to append to it, creating it; returns a handle."""
        ...

    def write(self, handle: int, data: bytes | bytearray | memoryview) -> int:
        """Appends, perhaps not everything; returns how many bytes."""
        ...

    def sync(self, handle: int) -> None:
        """Waits until what was written is on disk."""
        ...

    def truncate(self, handle: int, size: int) -> None:
        """Cuts a file."""
        ...

    def close(self, handle: int) -> None:
        """Frees a handle."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Renames a file over another."""
        ...

    def remove(self, path: Path) -> None:
        """Removes a file."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Waits until created, replaced and removed names in a directory are on disk."""
        ...

    def lock(self, path: Path) -> int:
        """Takes an exclusive lock that ends with the process, or with ``close`` of its handle.

        Raises ``BlockingIOError`` while somebody else holds it.
        """
        ...


class LocalFiles:
    """The operating system's."""

    def make_directory(self, path: Path) -> None:
        if path.is_dir():
            return
        self.make_directory(path.parent)
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)
            ) from error
        self.sync_directory(path.parent)

    def names(self, directory: Path) -> list[str]:
        try:
            return os.listdir(directory)  # noqa: PTH208 - names, and none of pathlib's objects
        except FileNotFoundError:
            return []

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, handle: int, data: bytes | bytearray | memoryview) -> int:
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        # Unlike fsync it does not wait for times; the size it does wait for.
        os.fdatasync(handle)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def close(self, handle: int) -> None:
        os.close(handle)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


LOCAL_FILES = LocalFiles()


def write_all(files: Files, handle: int, data: bytes | bytearray) -> None:
    """``files.write`` until everything is written. Raises ``OSError``."""
    view = memoryview(data)
    while view:
        view = view[files.write(handle, view) :]


def write_whole(files: Files, path: Path, data: bytes) -> None:
    """Writes a file that is there whole or, after a crash, as it was before. Raises ``OSError``."""
    staged = path.with_name(path.name + ".new")
    handle = files.open(staged)
    try:
        files.truncate(handle, 0)
        write_all(files, handle, data)
        files.sync(handle)
    finally:
        files.close(handle)
    files.replace(staged, path)
    files.sync_directory(path.parent)
