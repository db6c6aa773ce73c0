"""The views that are kept: one small file each, in a directory beside the event log.

They can't be derived from the log, and a store can be made anew from both. A running service looks
at the directory now and then, so that a command registers and retires views by changing it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from services.common.errors import FailedPrecondition, NotFound
from services.common.files import LOCAL_FILES, Files, write_whole
from services.feature.views.documents import FORMAT_VERSION, StateDefinitions, ViewDocument

BUILD_FILE: Final = "build"
CURRENT_FILE: Final = "current"
KEY_FILE: Final = "key_version"
DEFINITIONS_FILE: Final = "definitions.json"
_SUFFIX: Final = ".json"
_SHORTEST_PREFIX: Final = 6


def registry_of(log_dir: Path) -> ViewRegistry:
    """The registry beside an event log."""
    return ViewRegistry(log_dir / "views")


class ViewRegistry:
    """Documents in ``directory``, which needs not be there yet."""

    def __init__(self, directory: Path, files: Files = LOCAL_FILES) -> None:
        self.directory = directory
        self._files = files

    def documents(self) -> list[ViewDocument]:
        """Every registered view, by entity type and hash. Raises ``FailedPrecondition`` naming a
        file that can't be read."""
        found = [self._read(self.directory / name) for name in self._names()]
        return sorted(found, key=lambda document: (document.entity, document.hash))

    def fingerprint(self) -> tuple[str, ...]:
        """Changes when a view is registered or retired, or a new store is asked for."""
        return (*self._names(), str(self.build()), str(self.key_version()))

    def register(self, documents: Iterable[ViewDocument]) -> list[ViewDocument]:
        """Keeps documents durably; returns those that are new. What is registered never changes."""
        added: list[ViewDocument] = []
        self._files.make_directory(self.directory)
        known = set(self._names())
        for document in documents:
            name = _file_name(document)
            if name not in known:
                self._write(name, document.model_dump_json(indent=1).encode() + b"\n")
                added.append(document)
        return added

    def retire(self, document: ViewDocument) -> None:
        """Forgets a view."""
        path = self.directory / _file_name(document)
        self._files.remove(path)
        self._files.sync_directory(self.directory)

    def find(self, prefix: str) -> ViewDocument:
        """The one view whose hash begins with ``prefix``. Raises ``NotFound``."""
        found = [d for d in self.documents() if d.hash.startswith(prefix)]
        if len(prefix) < _SHORTEST_PREFIX or len(found) != 1:
            raise NotFound(
                f"{len(found)} registered views have a hash that begins with {prefix!r}; "
                f"give {_SHORTEST_PREFIX} characters or more of one",
                reason="UNKNOWN_VIEW",
            )
        return found[0]

    def build(self) -> int:
        """Number of times that a new store was asked for."""
        try:
            return int(self._files.read(self.directory / BUILD_FILE))
        except (FileNotFoundError, ValueError):
            return 0

    def ask_for_new_store(self) -> int:
        """Asks for a store made anew from the log; returns the number of that build."""
        build = self.build() + 1
        self._files.make_directory(self.directory)
        self._write(BUILD_FILE, str(build).encode())
        return build

    def key_version(self) -> int | None:
        """Version of the key that stores are to have their pseudonyms under; None before it was
        said."""
        try:
            return int(self._files.read(self.directory / KEY_FILE))
        except (FileNotFoundError, ValueError):
            return None

    def ask_for_key(self, version: int) -> None:
        """Asks for a store under a key."""
        self._files.make_directory(self.directory)
        self._write(KEY_FILE, str(version).encode())

    def _names(self) -> list[str]:
        return sorted(n for n in self._files.names(self.directory) if n.endswith(_SUFFIX))

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self._files, self.directory / name, data)

    def _read(self, path: Path) -> ViewDocument:
        try:
            return ViewDocument.model_validate_json(self._files.read(path))
        except ValidationError as error:
            raise _unreadable(path, error) from error


def write_definitions(directory: Path, state: StateDefinitions, files: Files = LOCAL_FILES) -> None:
    """Says in a store's directory what the store is filled for."""
    files.make_directory(directory)
    write_whole(files, directory / DEFINITIONS_FILE, state.model_dump_json(indent=1).encode())


def read_definitions(directory: Path, files: Files = LOCAL_FILES) -> StateDefinitions:
    """What the store in a directory is filled for. Raises ``OSError`` where it does not say, and
    ``FailedPrecondition`` for what can't be read."""
    path = directory / DEFINITIONS_FILE
    try:
        return StateDefinitions.model_validate_json(files.read(path))
    except ValidationError as error:
        raise _unreadable(path, error) from error


def current_store(store_dir: Path, files: Files = LOCAL_FILES) -> Path | None:
    """Directory of the store in force among those in ``store_dir``; None before there is one."""
    try:
        name = files.read(store_dir / CURRENT_FILE).decode(errors="replace").strip("\0 \n")
    except FileNotFoundError:
        return None
    directory = store_dir / name
    return directory if name and DEFINITIONS_FILE in files.names(directory) else None


def put_in_force(directory: Path, files: Files = LOCAL_FILES) -> None:
    """Makes a store the one in force among those beside it, durably."""
    write_whole(files, directory.parent / CURRENT_FILE, directory.name.encode() + b"\n")


def _file_name(document: ViewDocument) -> str:
    return f"{document.entity}-{document.hash}{_SUFFIX}"


def _unreadable(path: Path, error: ValidationError) -> FailedPrecondition:
    first = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return FailedPrecondition(
        f"{path}: no document of format {FORMAT_VERSION}: {where}: {first['msg']}",
        reason="VIEW_UNREADABLE",
    )
