"""The last good copy of the definitions on disk, so that a restart needs no experiment service."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from services.common.assign.canonical import Item, definitions_hash
from services.common.files import LOCAL_FILES, Files, write_whole

_FORMAT = 1
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DefinitionsCopy:
    """Definitions with the token to resume their watch, and when they were known to be in force
    (epoch ms)."""

    items: Sequence[Item]
    resume_token: bytes
    as_of_ms: int


class DefinitionsDisk:
    """Reads and writes the copy."""

    def __init__(self, directory: Path, files: Files = LOCAL_FILES) -> None:
        self.path = directory / "definitions.json"
        self._files = files

    def save(self, copy: DefinitionsCopy) -> None:
        """Replaces the copy. Raises ``OSError``."""
        content = {
            "format": _FORMAT,
            "as_of_ms": copy.as_of_ms,
            "resume_token": base64.b64encode(copy.resume_token).decode(),
            "hash": definitions_hash(copy.items),
            "items": [asdict(item) for item in copy.items],
        }
        self._files.make_directory(self.path.parent)
        write_whole(self._files, self.path, json.dumps(content, ensure_ascii=False).encode())

    def load(self) -> DefinitionsCopy | None:
        """The copy; None when there is none or it can't be read, which is logged."""
        try:
            content = json.loads(self._files.read(self.path))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']} is not supported")
            items = [Item(**item) for item in content["items"]]
            if definitions_hash(items) != content["hash"]:
                raise ValueError("it does not have the hash that it should")
            token = base64.b64decode(content["resume_token"])
            return DefinitionsCopy(items, token, int(content["as_of_ms"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            # The experiment service has another.
            _logger.warning("%s: the definitions' copy is not usable: %s", self.path, error)
            return None
