"""The bytes of a token. They hold digests in place of everything that could name somebody.

A token is ``base64url(head + variants + items + MAC)``, at most 4,096 characters:

    head      kind, key version, when it expires, keyed digest of the actor, digests of surface,
              filter, candidate ids and bundle, seed of the first page, traffic class, page, first
              position, rank_id answered under
    variants  8 bytes each: digest of experiment and variant
    items     of a page token 5 bytes each, of a refresh token 8: the catalogue's hash of the id

Forty bits are enough to say what was shown: none of it comes back, and of the 500 candidates of a
page some item nobody has seen is left out once in four million pages. What is refreshed has to be
found among millions, and takes all 64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from services.common.token_keys import MAC_BYTES
from services.ranker.arrays import ByteArray, UInt64Array

MAX_TOKEN_BYTES = 4_096
MAX_SHOWN = 500
MAX_VARIANTS = 48
MAX_PAGE = 65_535
"""What is refreshed over and over stays at this number."""

DIGEST_BYTES = 8
SHOWN_BYTES = 5
SHOWN_MASK = np.uint64((1 << (8 * SHOWN_BYTES)) - 1)

_FORMAT = 2
_HEAD = struct.Struct("<BBHQ8s8s8s8s8sQBHH26sBH")
_HASH_BYTES = 8
# Format, kind and key version stand at the beginning of every format.
_LEAST_BYTES = 4


class OtherFormatError(ValueError):
    """The bytes are of a format that this build does not read."""

    def __init__(self, found: int) -> None:
        super().__init__(f"is of format {found}, this build reads {_FORMAT}")


class Kind(IntEnum):
    """What a token asks for."""

    PAGE = 1
    REFRESH = 2


class Token(NamedTuple):
    """What a token says. ``items`` uint64 [n]: hashes, of a page token their lowest 40 bits."""

    kind: Kind
    key_version: int
    expires_s: int
    actor: bytes
    surface: bytes
    filter: bytes
    candidates: bytes
    bundle: bytes
    seed: int
    traffic: int
    page: int
    first_position: int
    rank_id: str
    variants: Sequence[bytes]
    items: UInt64Array


def digest_of(*texts: str) -> bytes:
    """8 bytes that stand for texts which name nobody."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for text in texts:
        hashed.update(text.encode() + b"\0")
    return hashed.digest()


def packed(token: Token) -> bytes:
    """The bytes to sign. There are at most 48 variants, and 500 items (a page's)."""
    head = _HEAD.pack(
        _FORMAT,
        token.kind,
        token.key_version,
        token.expires_s,
        token.actor,
        token.surface,
        token.filter,
        token.candidates,
        token.bundle,
        token.seed,
        token.traffic,
        token.page,
        token.first_position,
        token.rank_id.encode(),
        len(token.variants),
        len(token.items),
    )
    items = token.items.astype("<u8", copy=False)
    if token.kind is Kind.PAGE:
        items = items.view(np.uint8).reshape(-1, _HASH_BYTES)[:, :SHOWN_BYTES]
    return b"".join((head, *token.variants, items.tobytes()))


def unpacked(data: bytes) -> Token:
    """The way back. Raises ``ValueError`` for bytes of another form, ``OtherFormatError`` for those
    that begin with the number of another one."""
    if data[:1] != bytes([_FORMAT]):
        raise OtherFormatError(data[0]) if data else ValueError("no token")
    if len(data) < _HEAD.size:
        raise ValueError("not a token of this form")
    _, kind_, version, expires_s, actor, surface, *rest = _HEAD.unpack_from(data)
    filter_, candidates, bundle, *rest = rest
    seed, traffic, page, first_position, rank_id, variants, count = rest
    kind = Kind(kind_)
    width = _width(kind)
    start = _HEAD.size + variants * DIGEST_BYTES
    if len(data) != start + count * width:
        raise ValueError("a token whose parts do not fit together")
    bare: ByteArray = np.frombuffer(data, np.uint8, count * width, start)
    items = np.zeros((count, _HASH_BYTES), np.uint8)
    items[:, :width] = bare.reshape(count, width)
    return Token(
        kind=kind,
        key_version=version,
        expires_s=expires_s,
        actor=actor,
        surface=surface,
        filter=filter_,
        candidates=candidates,
        bundle=bundle,
        seed=seed,
        traffic=traffic,
        page=page,
        first_position=first_position,
        rank_id=rank_id.decode(),
        variants=[data[at : at + DIGEST_BYTES] for at in range(_HEAD.size, start, DIGEST_BYTES)],
        items=items.view("<u8").ravel().astype(np.uint64),
    )


def key_version_of(data: bytes) -> int:
    """Version of the key that signed what ``unpacked`` takes: of every format the same bytes."""
    version: int = struct.unpack_from("<H", data, 2)[0]
    return version


def to_text(data: bytes, mac: bytes) -> str:
    """Signed bytes as text without padding."""
    return base64.urlsafe_b64encode(data + mac).rstrip(b"=").decode()


def from_text(text: str) -> tuple[bytes, bytes]:
    """(data, MAC). Raises ``ValueError`` for text of another form."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    try:
        found = base64.b64decode(padded, b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    data, mac = found[:-MAC_BYTES], found[-MAC_BYTES:]
    # Base64 has bits to spare at its end: one token has one text.
    if len(data) < _LEAST_BYTES or to_text(data, mac) != text:
        raise ValueError("not a token")
    return data, mac


def _width(kind: Kind) -> int:
    return SHOWN_BYTES if kind is Kind.PAGE else _HASH_BYTES
