"""Keys that sign tokens. The first signs, every one checks: so keys rotate without a refusal.

A new key is added behind the others on every replica, then put first, and the old one is taken out
when the last token under it has expired.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from services.common.errors import ConfigError

SETTING = "PODIUM_TOKEN_KEYS"
KEY_BYTES = 64
MAC_BYTES = 16
MAX_VERSION = 65_535

# Known to everybody, so that development needs no set-up. Services warn when it is in use and
# refuse it in production.
DEVELOPMENT_TOKEN_KEYS = (
    "1:" + base64.b64encode(b"podium tokens: not a secret".ljust(KEY_BYTES, b".")).decode()
)


class TokenKeys:
    """Makes and checks keyed digests. Thread-safe: it holds keys only."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """``keys``: 64-byte key by version, 1 to 65,535; the first signs."""
        if not keys:
            raise ConfigError(SETTING, 0, "", "has no key")
        self._keys = dict(keys)
        self.current = next(iter(self._keys))
        """Version of the key that signs."""

    @classmethod
    def from_text(cls, text: str) -> TokenKeys:
        """Reads ``VERSION:<base64 of 64 bytes>[,…]``; the first signs.

        Raises ``ConfigError``, which never repeats a key.
        """
        keys: dict[int, bytes] = {}
        for index, part in enumerate(text.split(",")):
            number, _, encoded = part.strip().partition(":")
            version = int(number) if number.isdecimal() else 0
            try:
                key = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ConfigError(SETTING, 0, "", f"key {index + 1} is not base64") from error
            if not 1 <= version <= MAX_VERSION or version in keys:
                raise ConfigError(
                    SETTING,
                    0,
                    "",
                    f"key {index + 1} needs a version of its own, 1 to {MAX_VERSION}",
                )
            if len(key) != KEY_BYTES:
                raise ConfigError(
                    SETTING, 0, "", f"key {version} has {len(key)} bytes, must have {KEY_BYTES}"
                )
            keys[version] = key
        return cls(keys)

    def knows(self, version: int) -> bool:
        """Whether there is a key of that version."""
        return version in self._keys

    def mac(self, data: bytes, version: int) -> bytes:
        """Keyed BLAKE2b of ``data`` (RFC 7693), 16 bytes: as sound as an HMAC, in a fraction of the
        time that OpenSSL takes to begin one."""
        return hashlib.blake2b(data, key=self._keys[version], digest_size=MAC_BYTES).digest()

    def holds(self, data: bytes, mac: bytes, version: int) -> bool:
        """Whether ``mac`` is that of ``data``."""
        return hmac.compare_digest(self.mac(data, version), mac)
