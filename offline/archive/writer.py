"""The one writer of an archive: batches become visible by replacing the manifest."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from offline.archive.manifest import Batch, Lease, Manifest, parse_manifest
from offline.archive.target import Target, locked
from services.common.clock import system_clock_ms
from services.common.errors import NotFound, PodiumError


def load_manifest(target: Target) -> Manifest:
    """Raises ``NotFound`` where there is no archive, ``LogCorrupt`` for a bad manifest."""
    found = target.read_manifest()
    if found is None:
        raise NotFound(f"there is no archive at {target.url}", reason="ARCHIVE_NOT_FOUND")
    return parse_manifest(found[0], target.url)


class ArchiveWriter:
    """Made by ``write_archive``; ``manifest`` is what the archive holds now.

    ``staging``: local directory for files on their way.
    """

    def __init__(
        self, target: Target, staging: Path, holder: str, clock_ms: Callable[[], int]
    ) -> None:
        found = target.read_manifest()
        self.staging = staging
        self.manifest = parse_manifest(found[0], target.url) if found else Manifest()
        self._version = found[1] if found else None
        self._target = target
        self._holder = holder
        self._clock_ms = clock_ms

    def claim(self) -> None:
        """Keeps other writers out, where the target has no lock that does."""
        if self._target.lease_ms is None:
            return
        lease = self.manifest.lease
        if lease is not None and lease.until_ms > self._clock_ms():
            until = datetime.fromtimestamp(lease.until_ms / 1_000, UTC).isoformat(" ", "seconds")
            raise locked(self._target.url, f" ({lease.holder}), or was, until {until} at most")
        self._replace(self.manifest)

    def release(self) -> None:
        """Lets other writers in."""
        if self._target.lease_ms is not None:
            self._replace(self.manifest, held=False)

    def clean(self) -> None:
        """Removes files that the manifest does not list."""
        for name in sorted(self._target.names() - self.manifest.names()):
            self._target.remove(name)

    def commit(
        self,
        batch: Batch,
        staged: Mapping[str, Path],
        *,
        replaced: Batch | None,
        last_digest: str,
    ) -> None:
        """Puts ``batch`` in place of ``replaced`` (None: after the last) and shows it."""
        for name, path in staged.items():
            self._target.put(name, path)
        batches = list(self.manifest.batches)
        if replaced is None:
            batches.append(batch)
        else:
            batches[batches.index(replaced)] = batch
        self._replace(
            self.manifest.model_copy(update={"batches": tuple(batches), "last_digest": last_digest})
        )
        if replaced is not None:
            kept = {file.name for file in batch.files}
            for file in replaced.files:
                if file.name not in kept:
                    self._target.remove(file.name)

    def mark_duplicates(self, arrivals: Iterable[int]) -> None:
        """Keeps marks of records that are second copies, beside those there are."""
        marked = tuple(sorted({*self.manifest.duplicates, *arrivals}))
        if marked != self.manifest.duplicates:
            self._replace(self.manifest.model_copy(update={"duplicates": marked}))

    def _replace(self, manifest: Manifest, *, held: bool = True) -> None:
        lease = None
        if held and self._target.lease_ms is not None:
            lease = Lease(holder=self._holder, until_ms=self._clock_ms() + self._target.lease_ms)
        manifest = manifest.model_copy(update={"lease": lease})
        data = (manifest.model_dump_json(indent=1) + "\n").encode()
        self._version = self._target.replace_manifest(data, self._version)
        self.manifest = manifest


@contextmanager
def write_archive(
    target: Target, clock_ms: Callable[[], int] = system_clock_ms
) -> Iterator[ArchiveWriter]:
    """The writer of an archive, alone; what an interrupted one left behind is removed.

    Raises ``FailedPrecondition`` (ARCHIVE_LOCKED) while there is another one. On a target without
    locks an interrupted writer counts as there until its lease has run out.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    with target.lock(), target.staging() as staging:
        writer = ArchiveWriter(target, staging, holder, clock_ms)
        writer.claim()
        try:
            writer.clean()
            yield writer
        except BaseException:
            # The first error is the one to tell of.
            with suppress(PodiumError):
                writer.release()
            raise
        writer.release()
