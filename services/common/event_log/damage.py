"""Damage to a log: what is told of it, and where that is kept.

Damage is named once it is met: in a line of the service's log, and in a file beside the segment
(``00000000000000000042.damage``, JSON lines) for metrics and commands. Who restores a segment from
a copy removes that file.

A power loss may leave a later part of what was not synced yet and none of an earlier one. Nobody
can tell that from damage to what was acknowledged: it is named all the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from services.common.errors import PodiumError
from services.common.event_log.format import ArrivalOf
from services.common.files import LOCAL_FILES, Files, write_whole

REPORT_SUFFIX = ".damage"

_logger = logging.getLogger(__name__)


class LogCorrupt(PodiumError):
    """A record inside the log (not at its end) does not match its checksum."""

    reason = "LOG_CORRUPT"


@dataclass(frozen=True)
class Damage:
    """A stretch of a log that can't be read.

    ``kind``: ``bad`` bytes before sound ones or inside the log; a ``torn`` tail of the last
    segment, cut off and kept in ``kept_in``; records that are ``missing``, with the end of a
    segment or a whole one. ``segment`` is a file name; ``offset`` and ``bytes`` say where in it.
    ``records`` from ``first_arrival`` on are lost; None where nobody can know how many.
    """

    kind: Literal["bad", "torn", "missing"]
    segment: str
    offset: int
    bytes: int
    first_arrival: int
    records: int | None
    kept_in: str = ""

    def __str__(self) -> str:
        count = "an unknown number of" if self.records is None else str(self.records)
        return (
            f"{self.segment}: {self.bytes} bytes from byte {self.offset} are {self.kind}: "
            f"{count} records from {self.first_arrival} on are lost"
        )


@dataclass(frozen=True)
class Salvage:
    """How to go on behind damage: who knows the arrival in a payload, and who is told."""

    arrival_of: ArrivalOf
    found: Callable[[Damage], None]


class DamageReport:
    """What is known of a log's damage, in files beside its segments.

    Processes may add to it: each file is replaced as a whole, and what gets lost between two of
    them is met and told again.
    """

    def __init__(self, directory: Path, files: Files = LOCAL_FILES) -> None:
        self._directory = directory
        self._files = files

    def add(self, damage: Damage) -> None:
        """Tells of damage that was not known yet. Not being able to keep it is only logged."""
        path = (self._directory / damage.segment).with_suffix(REPORT_SUFFIX)
        try:
            known = self._load(path)
            if damage in known:
                return
            _logger.error("the log is damaged: %s", damage)
            lines = [json.dumps(asdict(found)) for found in (*known, damage)]
            write_whole(self._files, path, "".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            _logger.error("the log is damaged: %s; %s can't be written: %s", damage, path, error)

    def all(self) -> list[Damage]:
        """Everything known, by place."""
        names = [n for n in self._files.names(self._directory) if n.endswith(REPORT_SUFFIX)]
        found = [damage for name in names for damage in self._load(self._directory / name)]
        return sorted(found, key=lambda damage: (damage.segment, damage.offset))

    def _load(self, path: Path) -> list[Damage]:
        try:
            data = self._files.read(path)
        except FileNotFoundError:
            return []
        try:
            return [Damage(**json.loads(line)) for line in data.splitlines()]
        except (ValueError, TypeError):
            _logger.error("%s is no damage report: starting it anew", path)
            return []
