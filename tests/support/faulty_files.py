"""File systems for tests: one that loses power at a chosen call, one that fails as told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EIO, ENOSPC
from pathlib import Path
from random import Random
from typing import Literal

from services.common.files import LocalFiles

SECTOR_BYTES = 16


class PowerLost(OSError):
    """The machine is off: this call and all after it fail."""

    def __init__(self) -> None:
        super().__init__(EIO, "power lost")


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass(frozen=True)
class _Renaming:
    """A change of a directory that is not synced yet: ``target`` is the file that ``source`` was,
    a new one, or none."""

    kind: Literal["create", "replace", "remove"]
    target: Path
    source: Path | None = None


class CrashableFiles:
    """A file system in memory that counts calls and loses power at the one numbered ``crash_at``.

    ``after_crash`` gives what another machine finds on the disk: what was synced, and of the rest
    whatever chance leaves: of a file some of its sectors, of the changes of a directory some.
    ``fail_writes_after``: bytes for which the disk has room, None for any number.
    """

    def __init__(self, random: Random, crash_at: int | None = None) -> None:
        self.calls = 0
        self.crash_at = crash_at
        self.fail_writes_after: int | None = None
        self._random = random
        self._names: dict[Path, _File] = {}
        self._durable_names: dict[Path, _File] = {}
        self._renamings: dict[Path, list[_Renaming]] = {}
        self._handles: dict[int, _File | None] = {}
        self._locked: dict[int, Path] = {}

    def after_crash(self, crash_at: int | None = None) -> CrashableFiles:
        """The disk on another machine."""
        found = CrashableFiles(self._random, crash_at)
        names = dict(self._durable_names)
        for renamings in self._renamings.values():
            for renaming in renamings:
                if self._random.random() < 0.5:
                    self._rename(names, renaming)
        for path, file in names.items():
            left = self._left_of(file)
            found._names[path] = found._durable_names[path] = _File(bytearray(left), left)
        return found

    def flip(self, path: Path, offset: int, bits: int = 1) -> None:
        """Damages a byte."""
        file = self._names[path]
        file.data[offset] ^= bits
        file.synced = bytes(file.data)

    def make_directory(self, path: Path) -> None:  # noqa: ARG002 - directories are always there
        self._call()

    def names(self, directory: Path) -> list[str]:
        self._call()
        return [path.name for path in self._names if path.parent == directory]

    def size(self, path: Path) -> int:
        self._call()
        return len(self._file(path).data)

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        self._call()
        data = bytes(self._file(path).data[offset:])
        return data if limit < 0 else data[:limit]

    def open(self, path: Path) -> int:
        self._call()
        if path not in self._names:
            self._change(_Renaming("create", path))
        handle = len(self._handles)
        self._handles[handle] = self._names[path]
        return handle

    def write(self, handle: int, data: bytes | bytearray | memoryview) -> int:
        file = self._opened(handle)
        if self.calls + 1 == self.crash_at:
            file.data += data[: self._random.randint(0, len(data))]
        self._call()
        # A short write now and then: the caller has to go on with the rest.
        size = len(data) if self._random.random() < 0.8 else self._random.randint(1, len(data))
        if self.fail_writes_after is not None:
            size = min(size, self.fail_writes_after)
            self.fail_writes_after -= size
            if not size:
                raise OSError(ENOSPC, "no space left on device")
        file.data += data[:size]
        return size

    def sync(self, handle: int) -> None:
        self._call()
        file = self._opened(handle)
        file.synced = bytes(file.data)

    def truncate(self, handle: int, size: int) -> None:
        self._call()
        del self._opened(handle).data[size:]

    def close(self, handle: int) -> None:
        self._call()
        self._handles[handle] = None
        self._locked.pop(handle, None)

    def replace(self, source: Path, target: Path) -> None:
        self._call()
        self._change(_Renaming("replace", target, source))

    def remove(self, path: Path) -> None:
        self._call()
        self._change(_Renaming("remove", path))

    def sync_directory(self, path: Path) -> None:
        self._call()
        for renaming in self._renamings.pop(path, []):
            self._rename(self._durable_names, renaming)

    def lock(self, path: Path) -> int:
        self._call()
        if path in self._locked.values():
            raise BlockingIOError(path)
        handle = len(self._handles)
        self._handles[handle] = None
        self._locked[handle] = path
        return handle

    def _call(self) -> None:
        self.calls += 1
        if self.crash_at is not None and self.calls >= self.crash_at:
            raise PowerLost

    def _file(self, path: Path) -> _File:
        if path not in self._names:
            raise FileNotFoundError(path)
        return self._names[path]

    def _opened(self, handle: int) -> _File:
        file = self._handles[handle]
        assert file is not None, "the handle is closed"
        return file

    def _change(self, renaming: _Renaming) -> None:
        self._rename(self._names, renaming)
        self._renamings.setdefault(renaming.target.parent, []).append(renaming)

    def _rename(self, names: dict[Path, _File], renaming: _Renaming) -> None:
        match renaming.kind:
            case "create":
                # The file itself is one and the same, synced or not.
                names[renaming.target] = self._names.get(renaming.target) or _File()
            case "replace" if renaming.source in names:
                names[renaming.target] = names.pop(renaming.source)
            case "remove":
                names.pop(renaming.target, None)

    def _left_of(self, file: _File) -> bytes:
        """What is left of a file: as synced, as written last, or something between."""
        data, synced = bytes(file.data), file.synced
        same = 0
        while same < min(len(data), len(synced)) and data[same] == synced[same]:
            same += 1
        match self._random.randrange(4):
            case 0:
                return synced
            case 1:
                return data
            case 2:
                return data[: self._random.randint(same, len(data))]
            case _:
                torn = bytearray(data[: self._random.randint(same, len(data))])
                for start in range(same, len(torn), SECTOR_BYTES):
                    if self._random.random() < 0.4:
                        end = min(start + SECTOR_BYTES, len(torn))
                        torn[start:end] = bytes(end - start)
                return bytes(torn)


class FailingFiles(LocalFiles):
    """The operating system's files, with calls that fail as told.

    ``room`` is how many bytes may still be written: what is beyond fails with ``full``.
    """

    def __init__(self) -> None:
        self.room: int | None = None
        self.full: Callable[[], OSError] = lambda: OSError(ENOSPC, "no space left on device")
        self.sync_error: OSError | None = None

    def write(self, handle: int, data: bytes | bytearray | memoryview) -> int:
        if self.room is not None:
            if not self.room:
                raise self.full()
            data = data[: self.room]
            self.room -= len(data)
        return super().write(handle, data)

    def sync(self, handle: int) -> None:
        if self.sync_error is not None:
            raise self.sync_error
        super().sync(handle)
