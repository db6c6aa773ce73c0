"""A header and arrays in one run of bytes.

``PODCAP01``, the CRC-32 of what follows, the header's length (uint32, little-endian), the header
as JSON, then the bytes of the arrays, one after another, as the header's ``arrays`` lists them:
name, dtype, shape. Nothing is compressed.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

_MAGIC: Final = b"PODCAP01"
_START: Final = struct.Struct("<8sII")


def pack(header: Mapping[str, Any], arrays: Arrays) -> bytes:
    """The bytes of a header, which JSON can hold, and arrays."""
    listed = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    text = json.dumps({**header, "arrays": listed}, ensure_ascii=False).encode()
    parts = [text, *(array.tobytes() for array in arrays.values())]
    body = b"".join(parts)
    return _START.pack(_MAGIC, zlib.crc32(body), len(text)) + body


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Header and arrays again. Raises ``ValueError`` for anything else, or where it is damaged."""
    if len(data) < _START.size:
        raise ValueError("it is cut off")
    magic, crc, length = _START.unpack_from(data)
    body = memoryview(data)[_START.size :]
    if magic != _MAGIC:
        raise ValueError("it begins otherwise")
    if zlib.crc32(body) != crc:
        raise ValueError("its checksum is wrong")
    header: dict[str, Any] = json.loads(bytes(body[:length]))
    arrays: dict[str, npt.NDArray[Any]] = {}
    at = length
    for name, dtype, shape in header.pop("arrays"):
        kind = np.dtype(dtype)
        size = kind.itemsize * math.prod(shape)
        arrays[name] = np.frombuffer(body[at : at + size], kind).reshape(shape)
        at += size
    return header, arrays
