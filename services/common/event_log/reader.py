"""Readers of an event log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from services.common.errors import NotFound
from services.common.event_log.damage import Damage, LogCorrupt, Salvage
from services.common.event_log.format import (
    HEADER,
    MAX_PAYLOAD_BYTES,
    Segment,
    list_segments,
    resume,
    split_frames,
)
from services.common.files import LOCAL_FILES, Files

_CHUNK_BYTES = 4 << 20


class LogReader:
    """Follows a log, keeping its place; the writer may be appending meanwhile.

    ``next_arrival`` is the arrival of the record that ``read`` gives next, or would give were it
    not lost. Not thread-safe.
    """

    def __init__(
        self,
        directory: Path,
        from_arrival: int = 0,
        *,
        salvage: Salvage | None = None,
        files: Files = LOCAL_FILES,
    ) -> None:
        self.next_arrival = from_arrival
        self._directory = directory
        self._salvage = salvage
        self._files = files
        self._segment: Segment | None = None
        self._offset = 0
        self._ready: list[bytes] = []

    def read(self, limit: int, through: int | None = None) -> list[tuple[int, bytes]]:
        """At most ``limit`` (arrival, payload) that are there now; may be empty.

        With ``through`` only those before that arrival, which are known to have been written. An
        unfinished record at the very end is waited for. Damage before ``through`` or a later
        segment is told to the ``salvage`` and passed, arrivals then have a gap; without a
        ``salvage`` it raises ``LogCorrupt``, each time.
        """
        found: list[tuple[int, bytes]] = []
        while len(found) < limit and (through is None or self.next_arrival < through):
            try:
                if not self._ready and not self._load(through):
                    break
            except LogCorrupt:
                # What came before it is sound: it goes out first, the next read raises again.
                if found:
                    break
                raise
            wanted = limit - len(found)
            if through is not None:
                # Behind damage the next record may be one that came later.
                wanted = max(0, min(wanted, through - self.next_arrival))
            taken = self._ready[:wanted]
            del self._ready[: len(taken)]
            found.extend(enumerate(taken, self.next_arrival))
            self.next_arrival += len(taken)
        return found

    def _load(self, through: int | None) -> bool:
        """Reads the next chunk of records; False when there is none now."""
        if self._segment is None:
            return self._find(through)
        while True:
            self._ready = self._read_chunk(self._segment.path)
            if self._ready:
                return True
            following = self._following(self._segment)
            # The segment may have been filled and closed since it was read above.
            self._ready = self._read_chunk(self._segment.path)
            if self._ready:
                return True
            if not self._pass(self._segment, following, through):
                return False

    def _following(self, segment: Segment) -> Segment | None:
        segments = list_segments(self._directory, self._files)
        later = (s for s in segments if s > segment and s.first_arrival >= self.next_arrival)
        return next(later, None)

    def _pass(self, segment: Segment, following: Segment | None, through: int | None) -> bool:
        """Goes on behind the end of a segment, or behind damage; False where neither is met."""
        if following is not None:
            before = following.first_arrival
        elif self._salvage is not None and through is not None and self.next_arrival < through:
            before = through
        else:
            # The writer may be in the middle of a record.
            return False
        rest = self._files.read(segment.path, self._offset)
        if self._salvage is not None and rest:
            further = resume(rest, 0, self.next_arrival, before, self._salvage.arrival_of)
            if further is not None:
                self._tell("bad", segment, further.offset, further.arrival)
                self._offset += further.offset
                self.next_arrival = further.arrival
                return True
        if following is None:
            return False
        if rest or self.next_arrival < before:
            self._tell("bad" if rest else "missing", segment, len(rest), before)
        self._segment, self._offset, self.next_arrival = following, 0, before
        return True

    def _tell(
        self, kind: Literal["bad", "missing"], segment: Segment, size: int, sound: int
    ) -> None:
        """Damage of ``size`` bytes from here on, up to the record with the arrival ``sound``."""
        name, first = segment.path.name, self.next_arrival
        if self._salvage is None:
            what = f"record {first} at byte {self._offset} is {kind}"
            raise LogCorrupt(f"{segment.path}: {what}")
        self._salvage.found(Damage(kind, name, self._offset, size, first, sound - first))

    def _read_chunk(self, path: Path) -> list[bytes]:
        data = self._files.read(path, self._offset, _CHUNK_BYTES)
        if len(data) >= HEADER.size:
            needed = HEADER.size + HEADER.unpack_from(data)[0]
            if len(data) < needed <= HEADER.size + MAX_PAYLOAD_BYTES:
                data = self._files.read(path, self._offset, needed)
        payloads, end = split_frames(data)
        self._offset += end
        return payloads

    def _find(self, through: int | None) -> bool:
        """Opens the segment that holds ``next_arrival`` and skips to it."""
        segments = list_segments(self._directory, self._files)
        index = bisect_right(segments, self.next_arrival, key=lambda s: s.first_arrival) - 1
        if index < 0:
            if self._salvage is None or not segments:
                return False
            first = segments[0]
            self._tell("missing", first, 0, first.first_arrival)
            self.next_arrival, index = first.first_arrival, 0
        self._segment, self._offset = segments[index], 0
        wanted, self.next_arrival = self.next_arrival, self._segment.first_arrival
        try:
            while self.next_arrival < wanted:
                if not self._load(through):
                    self.next_arrival, self._segment = wanted, None
                    return False
                # What was wanted may be lost: then it goes on behind that.
                skipped = max(0, min(len(self._ready), wanted - self.next_arrival))
                del self._ready[:skipped]
                self.next_arrival += skipped
        except LogCorrupt:
            self.next_arrival, self._segment = wanted, None
            raise
        return bool(self._ready) or self._load(through)


def read_log(
    directory: Path,
    from_arrival: int = 0,
    to_arrival: int | None = None,
    *,
    salvage: Salvage | None = None,
) -> Iterator[tuple[int, bytes]]:
    """(arrival, payload) of every record in [from_arrival, to_arrival), in order.

    Stops quietly at a torn tail. Raises ``NotFound`` when there is no such directory, and, without
    a ``salvage``, ``LogCorrupt`` for damage before the end.
    """
    if not directory.is_dir():
        raise NotFound(f"there is no event log at {directory}", reason="LOG_NOT_FOUND")
    reader = LogReader(directory, from_arrival, salvage=salvage)
    while to_arrival is None or reader.next_arrival < to_arrival:
        limit = 4096 if to_arrival is None else min(4096, to_arrival - reader.next_arrival)
        found = reader.read(limit)
        for arrival, payload in found:
            if to_arrival is None or arrival < to_arrival:
                yield arrival, payload
        if not found:
            return


def last_payload_before(
    directory: Path, arrival: int, salvage: Salvage | None, files: Files = LOCAL_FILES
) -> bytes | None:
    """The last sound record below ``arrival``; None where there is none."""
    for segment in reversed(list_segments(directory, files)):
        if segment.first_arrival >= arrival:
            continue
        last: bytes | None = None
        reader = LogReader(directory, segment.first_arrival, salvage=salvage, files=files)
        while found := reader.read(4096):
            below = [payload for at, payload in found if at < arrival]
            last = below[-1] if below else last
            if len(below) < len(found):
                break
        if last is not None:
            return last
    return None
