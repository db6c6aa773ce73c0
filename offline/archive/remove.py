"""Gives the space of archived segments back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from offline.archive.log import last_sound_arrival, read_sound
from offline.archive.read import read_archive
from offline.archive.target import Target
from offline.archive.writer import load_manifest
from offline.progress import Progress, no_progress
from services.common.errors import FailedPrecondition
from services.common.event_log import Segment, list_segments
from services.common.files import LOCAL_FILES
from services.common.log_removed import note_removed


class Removable(NamedTuple):
    """A segment that is no longer needed; ``next_arrival`` is where it ends."""

    segment: Segment
    next_arrival: int


def removable_segments(segments: Sequence[Segment], before: int) -> list[Removable]:
    """Segments, oldest first, whose records all lie below ``before``; never the last one."""
    return [
        Removable(segment, following.first_arrival)
        for segment, following in pairwise(segments)
        if following.first_arrival <= before
    ]


def remove_archived(
    log_dir: Path,
    target: Target,
    applied_position: int,
    *,
    progress: Progress = no_progress,
) -> list[Segment]:
    """Removes segments that are archived and applied, the oldest first; returns them.

    The one with the last sound record before the position of either stays: by it a store and an
    archive know their log. Each is compared with the archive, byte for byte, before it goes.
    Raises ``FailedPrecondition`` (SEGMENT_DIFFERS) for one that differs or is damaged: it and what
    follows stay.
    """
    archived_position = load_manifest(target).next_arrival
    position = min(archived_position, applied_position)
    known_by = last_sound_arrival(log_dir, position)
    found = removable_segments(list_segments(log_dir), -1 if known_by is None else known_by)
    archived = read_archive(target, found[0].segment.first_arrival) if found else iter(())
    for number, (segment, end) in enumerate(found):
        progress("compare and remove", number, len(found))
        logged = read_sound(log_dir, segment.first_arrival, end)
        expected = segment.first_arrival
        for record, kept in zip(logged, archived, strict=False):
            if record != kept or record[0] != expected:
                break
            expected += 1
            if expected == end:
                break
        if expected < end:
            raise FailedPrecondition(
                f"{segment.path}: record {expected} is damaged or not as {target.url} holds it; the"
                " segment stays",
                reason="SEGMENT_DIFFERS",
            )
        note_removed(log_dir, end)
        segment.path.unlink()
        # One by one: a power loss must not leave a hole.
        LOCAL_FILES.sync_directory(log_dir)
    progress("compare and remove", len(found), max(len(found), 1))
    return [segment for segment, _ in found]
