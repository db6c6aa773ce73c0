"""A log or spool without the actors that are to be forgotten. In what can't be read as a record
(damage, cut-off tails) only their pseudonyms are overwritten."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from services.common.event_log import list_segments
from services.common.event_log.format import ArrivalOf
from services.common.event_log.rewrite import RewriteRecord, rewrite_segment, rewrite_torn


def erase_in_log(
    directory: Path,
    erase: RewriteRecord,
    arrival_of: ArrivalOf,
    pseudonyms: Collection[str],
    *,
    before: int | None = None,
    in_place: bool = False,
) -> int:
    """Erases in the segments of a log or spool; returns the number of records that changed.

    ``before``: only records with an arrival below it. ``in_place``: no file is replaced by another,
    for a directory whose files its owner removes.
    """
    changed = 0
    segments = list_segments(directory)

    def without_names(data: bytes) -> bytes:
        return _blotted(data, pseudonyms)

    for segment in segments:
        writable = segment == segments[-1] or in_place
        changed += rewrite_segment(
            segment, erase, without_names, arrival_of, before=before, in_place=writable
        )
    rewrite_torn(directory, without_names)
    return changed


def _blotted(data: bytes, pseudonyms: Collection[str]) -> bytes:
    for name in pseudonyms:
        data = data.replace(name.encode(), b"x" * len(name.encode()))
    return data
