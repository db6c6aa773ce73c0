"""The last good copy of the catalogue on disk, so that a restart needs no feature service.

One file a set of views, in NumPy's zip format (whose members carry a CRC-32), replaced atomically.
Strings are stored as UTF-8 bytes with int64 end offsets, lists of them with their lengths. While no
row changes, a small file beside it says up to when the rows have held.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from services.ranker.catalogue.pools import ListPool, StringPool
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View

_FORMAT = 2
_COLUMNS = ("alive", "floats", "ints", "codes", "list_codes", "present", "repaired", "tie")
_logger = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Copy:
    """Tables with the token to resume their watch, and the time they held (epoch ms)."""

    tables: Mapping[str, EntityTable]
    resume_token: bytes
    as_of_ms: int


class ReplicaDisk:
    """Reads and writes the copy for one set of views; one thread writes.

    What a table's dictionaries gained since the last copy is all that is encoded for the next.
    """

    def __init__(self, directory: Path, views: Mapping[str, View]) -> None:
        self._views = dict(views)
        key = json.dumps([[entity, view.hash] for entity, view in sorted(views.items())])
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.path = directory / f"catalogue-{name}.npz"
        self._renewal = self.path.with_suffix(".json")
        self._saved: dict[str, object] | None = None
        self._texts: dict[str, _GrowingTexts] = {}

    def save(self, copy: Copy) -> None:
        """Replaces the copy. Raises ``OSError``."""
        arrays: Arrays = {"token": np.frombuffer(copy.resume_token, np.uint8)}
        entities = sorted(copy.tables)
        for number, entity in enumerate(entities):
            arrays |= packed(f"{number}/", copy.tables[entity], self._growing)
        header = {"format": _FORMAT, "as_of_ms": copy.as_of_ms, "entities": entities}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)

        def write(file: BinaryIO) -> None:
            np.savez(file, allow_pickle=False, **arrays)

        _replace(self.path, write)
        self._saved = _mark(copy.resume_token, copy.as_of_ms)

    def renew(self, resume_token: bytes, as_of_ms: int) -> None:
        """Says that the rows last saved or loaded still hold. Raises ``OSError``."""
        content = {"of": self._saved, "now": _mark(resume_token, as_of_ms)}
        _replace(self._renewal, lambda file: file.write(json.dumps(content).encode()))

    def load(self) -> Copy | None:
        """The copy; None when there is none or it can't be read, which is logged."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                header = json.loads(stored["header"].tobytes())
                if header["format"] != _FORMAT:
                    raise ValueError(f"format {header['format']} is not supported")
                tables = {
                    entity: unpacked(f"{number}/", entity, self._views[entity], stored)
                    for number, entity in enumerate(header["entities"])
                }
                token, as_of_ms = stored["token"].tobytes(), int(header["as_of_ms"])
            self._saved = _mark(token, as_of_ms)
            return Copy(tables, *self._renewed(token, as_of_ms))
        except FileNotFoundError:
            return None
        except Exception as error:
            # A damaged archive fails in many ways, as one that wants a password, for example; the
            # feature service has another copy.
            _logger.warning("%s: the catalogue's copy is not usable: %s", self.path, error)
            return None

    def _renewed(self, token: bytes, as_of_ms: int) -> tuple[bytes, int]:
        """Token and time of the renewal, if there is one of this copy; else those given."""
        try:
            content = json.loads(self._renewal.read_bytes())
            if content["of"] == self._saved:
                return bytes.fromhex(content["now"]["token"]), int(content["now"]["as_of_ms"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _logger.warning("%s: is not usable: %s", self._renewal, error)
        return token, as_of_ms

    def _growing(self, name: str, values: Sequence[str], count: int) -> Arrays:
        texts = self._texts.setdefault(name, _GrowingTexts())
        return texts.packed(name, values, count)


def packed_strings(name: str, values: Sequence[str], count: int | None = None) -> Arrays:
    """The first ``count`` texts (all by default) as arrays, by ``name`` and another that begins
    with it."""
    return _GrowingTexts().packed(name, values, len(values) if count is None else count)


PackTexts = Callable[[str, Sequence[str], int], Arrays]
"""Gives the first so many texts as arrays, by a name and others that begin with it."""


def packed(prefix: str, table: EntityTable, texts: PackTexts = packed_strings) -> Arrays:
    """A table as arrays, by names that begin with ``prefix``."""
    arrays: Arrays = {prefix + name: getattr(table, name) for name in _COLUMNS}
    arrays |= texts(f"{prefix}ids", table.ids, len(table))
    for at, pool in enumerate(table.pools):
        arrays |= texts(f"{prefix}pool{at}", pool.values, len(pool.values))
    for at, list_pool in enumerate(table.list_pools):
        lists = list_pool.values
        flat = [value for found in lists for value in found]
        arrays |= packed_strings(f"{prefix}lists{at}", flat)
        arrays[f"{prefix}lists{at}_sizes"] = np.array([len(found) for found in lists], np.int64)
    return arrays


def unpacked(
    prefix: str, entity: str, view: View, stored: Mapping[str, npt.NDArray[np.generic]]
) -> EntityTable:
    """The table again. Raises ``ValueError`` and ``KeyError`` where it does not fit the view."""
    ids = unpacked_strings(prefix + "ids", stored)
    empty = EntityTable.empty(entity, view)
    columns = {
        name: stored[prefix + name].astype(getattr(empty, name).dtype, copy=False)
        for name in _COLUMNS
    }
    for name, column in columns.items():
        if column.shape != (len(ids), *getattr(empty, name).shape[1:]):
            raise ValueError(f"{entity}.{name} has shape {column.shape}")
    return EntityTable(
        entity=entity,
        view=view,
        ids=ids,
        slot_of={id_: slot for slot, id_ in enumerate(ids)},
        changed_at=np.zeros(len(ids), np.int64),
        pools=tuple(
            StringPool(unpacked_strings(f"{prefix}pool{at}", stored))
            for at in range(len(empty.pools))
        ),
        list_pools=tuple(
            ListPool(_unpacked_lists(f"{prefix}lists{at}", stored))
            for at in range(len(empty.list_pools))
        ),
        **columns,
    )


def unpacked_strings(name: str, stored: Mapping[str, npt.NDArray[np.generic]]) -> list[str]:
    """The texts again. Raises ``KeyError`` where there are none of that name."""
    content = stored[name].tobytes()
    ends = stored[f"{name}_ends"].tolist()
    return [content[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=False)]


def _unpacked_lists(
    name: str, stored: Mapping[str, npt.NDArray[np.generic]]
) -> list[tuple[str, ...]]:
    values = unpacked_strings(name, stored)
    ends = np.cumsum(stored[f"{name}_sizes"]).tolist()
    return [tuple(values[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


class _GrowingTexts:
    """Texts of a list that only grows, encoded once each."""

    def __init__(self) -> None:
        self._values: Sequence[str] = ()
        self._content = b""
        self._ends = np.zeros(0, np.int64)

    def packed(self, name: str, values: Sequence[str], count: int) -> Arrays:
        """The first ``count`` texts; another list, or fewer, begins anew."""
        if values is not self._values or count < len(self._ends):
            self._values, self._content, self._ends = values, b"", np.zeros(0, np.int64)
        known = len(self._ends)
        added = [value.encode() for value in islice(values, known, count)]
        ends = len(self._content) + np.cumsum([len(value) for value in added], dtype=np.int64)
        self._content += b"".join(added)
        self._ends = np.concatenate([self._ends, ends])
        return {name: np.frombuffer(self._content, np.uint8), f"{name}_ends": self._ends}


def _mark(resume_token: bytes, as_of_ms: int) -> dict[str, object]:
    return {"token": resume_token.hex(), "as_of_ms": as_of_ms}


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
