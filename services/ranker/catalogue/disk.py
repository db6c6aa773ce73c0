"""The last good copy of the catalogue on disk, so that a restart needs no feature service.

One file a set of views, in NumPy's zip format (whose members carry a CRC-32), replaced atomically.
Strings are stored as UTF-8 bytes with int64 end offsets, lists of them with their lengths.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """Reads and writes the copy for one set of views."""

    def __init__(self, directory: Path, views: Mapping[str, View]) -> None:
        self._views = dict(views)
        key = json.dumps([[entity, view.hash] for entity, view in sorted(views.items())])
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.path = directory / f"catalogue-{name}.npz"

    def save(self, copy: Copy) -> None:
        """Replaces the copy. Raises ``OSError``."""
        arrays: Arrays = {"token": np.frombuffer(copy.resume_token, np.uint8)}
        entities = sorted(copy.tables)
        for number, entity in enumerate(entities):
            arrays |= packed(f"{number}/", copy.tables[entity])
        header = {"format": _FORMAT, "as_of_ms": copy.as_of_ms, "entities": entities}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

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
                return Copy(tables, stored["token"].tobytes(), int(header["as_of_ms"]))
        except FileNotFoundError:
            return None
        except Exception as error:
            # A damaged archive fails in many ways, as one that wants a password, for example; the
            # feature service has another copy.
            _logger.warning("%s: the catalogue's copy is not usable: %s", self.path, error)
            return None


def packed(prefix: str, table: EntityTable) -> Arrays:
    """A table as arrays, by names that begin with ``prefix``."""
    size = len(table)
    arrays: Arrays = {name: getattr(table, name) for name in _COLUMNS}
    arrays |= packed_strings("ids", table.ids[:size])
    for at, pool in enumerate(table.pools):
        arrays |= packed_strings(f"pool{at}", list(pool.values))
    for at, list_pool in enumerate(table.list_pools):
        lists = list(list_pool.values)
        arrays |= packed_strings(f"lists{at}", [value for found in lists for value in found])
        arrays[f"lists{at}_sizes"] = np.array([len(found) for found in lists], np.int64)
    return {prefix + name: array for name, array in arrays.items()}


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


def packed_strings(name: str, values: Sequence[str]) -> Arrays:
    """Texts as arrays, by ``name`` and another that begins with it."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
    return {name: np.frombuffer(b"".join(encoded), np.uint8), f"{name}_ends": ends}


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
