"""The steps of ``podium keys rotate``: pseudonyms under the newest key, and the others counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cli.erasure import shipped
from offline.archive.read import read_archive
from offline.archive.rewrite import rewrite_archive
from offline.archive.target import Target
from offline.progress import Progress, no_progress
from services.common.convert_event import logged_arrival
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.event_log import WRITER_LOCK, Segment, list_segments
from services.common.event_log.rewrite import rewrite_segment, rewrite_torn
from services.common.files import LOCAL_FILES
from services.common.pseudonym import SETTING, Pseudonymiser
from services.common.pseudonym_scan import PseudonymScan
from services.feature.views.generation import key_version_of
from services.feature.views.registry import DEFINITIONS_FILE, current_store
from services.ranker.explain.directory import capture_paths, rename_actors


@dataclass(frozen=True)
class Counted:
    """Pseudonyms by key version of what was looked at: files, or records of an archive.

    ``waiting`` of those under older keys are events that a spool has not shipped yet.
    """

    place: str
    looked_at: int
    versions: Counter[int] = field(default_factory=Counter)
    waiting: int = 0

    def left(self, names: Pseudonymiser) -> int:
        """Pseudonyms under the keys that are to go."""
        return sum(self.versions[version] for version in names.versions[:-1])


class RotationJob:
    """One log and what was made of it; each step may be killed anywhere, and repeated.

    Raises ``FailedPrecondition`` (KEY_VERSION_DIGITS) where pseudonyms would change their length,
    which they can't in files that are being read.
    """

    def __init__(self, log: Path, names: Pseudonymiser) -> None:
        if len({len(str(version)) for version in names.versions}) > 1:
            raise FailedPrecondition(
                f"the versions in {SETTING} must have as many digits as each other",
                reason="KEY_VERSION_DIGITS",
            )
        self._log = log
        self._names = names
        self._scan = PseudonymScan(names)

    def rewrite_log(self, progress: Progress = no_progress) -> int:
        """Rewrites the segments that nobody writes to; returns how many records changed.

        A service that has all keys begins a new segment when it starts.
        """
        segments = list_segments(self._log)
        changed = 0
        for number, segment in enumerate(segments[:-1]):
            progress("log", number, len(segments))
            changed += self._rewrite(segment)
        try:
            handle = LOCAL_FILES.lock(self._log / WRITER_LOCK)
        except BlockingIOError:
            # The service has it.
            pass
        else:
            try:
                for segment in list_segments(self._log)[max(0, len(segments) - 1) :]:
                    changed += self._rewrite(segment)
            finally:
                LOCAL_FILES.close(handle)
        rewrite_torn(self._log, self._scan.translated)
        progress("log", max(len(segments), 1), max(len(segments), 1))
        return changed

    def rewrite_archive(self, target: Target, progress: Progress = no_progress) -> int:
        """The same in the batches of an archive."""
        report = rewrite_archive(
            target, lambda _, record: self._scan.translated(record), progress=progress
        )
        return report.changed

    def rewrite_spool(self, directory: Path) -> int:
        """The same of what a spool has shipped, which nobody reads any more; the rest is opened
        when it is shipped."""
        before = shipped(directory)
        return sum(
            self._rewrite(segment, before=before, in_place=True)
            for segment in list_segments(directory)
        )

    def rewrite_captures(self, directory: Path, progress: Progress = no_progress) -> int:
        """Writes the captured requests of a ranker anew; returns how many changed. Those that the
        ranker removes meanwhile, and what is no capture, stay as they are."""
        paths = capture_paths(directory)
        changed = 0
        for number, path in enumerate(paths):
            progress(f"captures in {directory}", number, len(paths))
            with suppress(NotFound, InvalidArgument):
                changed += rename_actors(path, self._names)
        progress(f"captures in {directory}", max(len(paths), 1), max(len(paths), 1))
        return changed

    def count(
        self,
        places: Iterable[Path],
        spools: Iterable[Path],
        target: Target | None,
        progress: Progress = no_progress,
    ) -> list[Counted]:
        """What is under which key, in the log and everywhere else."""
        found = [self._count_files(place, progress) for place in (self._log, *places)]
        for spool in spools:
            counted = self._count_files(spool, progress)
            waiting = counted.left(self._names)
            found.append(Counted(counted.place, counted.looked_at, counted.versions, waiting))
        if target is not None:
            versions: Counter[int] = Counter()
            records = 0
            for _, record in read_archive(target):
                records += 1
                versions += self._scan.versions(record)
            found.append(Counted(target.url, records, versions))
        return found

    def _count_files(self, place: Path, progress: Progress) -> Counted:
        files: Sequence[Path] = [path for path in sorted(place.rglob("*")) if path.is_file()]
        versions: Counter[int] = Counter()
        for number, path in enumerate(files):
            progress(f"look in {place}", number + 1, len(files))
            versions += self._scan.versions_in(path)
        return Counted(str(place), len(files), versions)

    def _rewrite(
        self, segment: Segment, *, before: int | None = None, in_place: bool = False
    ) -> int:
        return rewrite_segment(
            segment,
            lambda _, record: self._scan.translated(record),
            self._scan.translated,
            logged_arrival,
            before=before,
            in_place=in_place,
        )


def stores_under_other_keys(store_dir: Path, version: int) -> list[Path]:
    """Directories of stores that have their pseudonyms under another key, or do not say which."""
    return [
        path
        for path in sorted(store_dir.iterdir())
        if (path / DEFINITIONS_FILE).exists() and key_version_of(path) != version
    ]


def key_of_store(store_dir: Path) -> int | None:
    """Version of the key of the store in force; None where there is none."""
    current = current_store(store_dir)
    return key_version_of(current) if current is not None else None
