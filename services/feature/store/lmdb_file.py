"""What an LMDB file says of its own size, read before it is mapped: touching a page that the file
does not have ends the process (SIGBUS)."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import Final

from services.common.errors import Unavailable

_MAGIC: Final = 0xBEEFC0DE
_META = struct.Struct("<16xII16xI44x48xQQ")
"""A page's header, then magic, version, (address, size of the map), size of a page (in the first
tree's record), the second tree's record, last page, transaction."""

_SLACK_PAGES: Final = 64
"""A sound file may lack pages at its end that were taken and given back in one transaction."""

_logger = logging.getLogger(__name__)


def check_size(path: Path) -> None:
    """Compares a file with what its header says, if it has one that can be read. The few pages that
    it may lack are added, empty: read by mistake, they are damage that LMDB names.

    Raises ``Unavailable`` (STORE_DAMAGED) for a file that lacks more than a few pages.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = [_read_meta(file.read(_META.size))]
            if found[0] is not None:
                file.seek(found[0][0])
                found.append(_read_meta(file.read(_META.size)))
    except FileNotFoundError:
        return
    metas = [meta for meta in found if meta is not None]
    if not metas:
        return
    page_bytes, last_page, _ = max(metas, key=lambda meta: meta[2])
    needed = (last_page + 1) * page_bytes
    if size < needed - _SLACK_PAGES * page_bytes:
        raise Unavailable(
            f"the feature store is damaged: {path} has {size} of {needed} bytes; remove it, and it "
            "is filled again from the log",
            reason="STORE_DAMAGED",
        )
    if size < needed:
        _add_pages(path, size, needed)


def _add_pages(path: Path, size: int, needed: int) -> None:
    """Lets a file grow to the bytes needed; what another process writes meanwhile stays."""
    try:
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), size, needed - size)
    except OSError as error:
        _logger.warning("%s lacks pages at its end, and can't be given them: %s", path, error)


def _read_meta(data: bytes) -> tuple[int, int, int] | None:
    """(bytes of a page, last page, transaction) of a meta page."""
    if len(data) < _META.size:
        return None
    magic, _, page_bytes, last_page, transaction = _META.unpack(data)
    return (page_bytes, last_page, transaction) if magic == _MAGIC and page_bytes else None
