"""Pseudonyms: deterministic keyed encryption of user and device ids (AES-SIV, RFC 5297).

Everything a service writes holds pseudonyms. Equal ids give equal pseudonyms under one key, so
stored events can be joined; only a holder of the key can go back. The key's version is part of
the pseudonym (``p1.…``), so that old and new keys are valid side by side while keys rotate.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from services.common.errors import ConfigError, FailedPrecondition, InvalidArgument

KEY_BYTES = 64
SETTING = "PODIUM_PSEUDONYM_KEYS"

# Known to everybody, so that development needs no set-up. Services warn when it is in use and
# refuse it in production.
DEVELOPMENT_KEYS = (
    "1:" + base64.b64encode(b"podium development key: not a secret".ljust(64, b".")).decode()
)

_PSEUDONYM = re.compile(r"^p(\d+)\.([A-Za-z0-9_-]+)$")


class Pseudonymiser:
    """Turns raw ids into pseudonyms and back. Thread-safe: it holds keys only."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        """``keys``: 64-byte key by version, from 1; ``current`` is the version that encrypts."""
        if current not in keys:
            raise ConfigError(SETTING, 0, "", f"has no key of version {current}")
        self._ciphers = {version: AESSIV(key) for version, key in keys.items()}
        self._current = self._ciphers[current]
        self._prefix = f"p{current}."

    @classmethod
    def from_text(cls, text: str) -> Pseudonymiser:
        """Reads ``1:<base64 of 64 bytes>[,2:…]``; the highest version encrypts.

        Raises ``ConfigError``, which never repeats a key.
        """
        keys: dict[int, bytes] = {}
        for index, part in enumerate(text.split(",")):
            version, _, encoded = part.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ConfigError(SETTING, 0, "", f"key {index + 1} is not base64") from error
            if not version.isdecimal() or int(version) < 1 or int(version) in keys:
                raise ConfigError(
                    SETTING, 0, "", f"key {index + 1} needs a version of its own, from 1"
                )
            if len(key) != KEY_BYTES:
                raise ConfigError(
                    SETTING, 0, "", f"key {version} has {len(key)} bytes, must have {KEY_BYTES}"
                )
            keys[int(version)] = key
        return cls(keys, max(keys))

    def encrypt(self, raw: str) -> str:
        """Pseudonym of a raw id: ``p<version>.<base64url>``; of an empty id, an empty string.

        An id of n bytes gives ``ceil((n + 16) * 4 / 3)`` characters after the prefix.
        """
        return _sealed(self._current, self._prefix, raw) if raw else ""

    def under_every_key(self, raw: str) -> list[str]:
        """Pseudonyms of a raw id under each key there is, by version."""
        return [_sealed(cipher, f"p{v}.", raw) for v, cipher in sorted(self._ciphers.items())]

    def decrypt(self, pseudonym: str) -> str:
        """Raw id of a pseudonym.

        Raises ``InvalidArgument`` (BAD_PSEUDONYM) for anything else, and ``FailedPrecondition``
        (PSEUDONYM_KEY_MISSING) where there is no key of its version.
        """
        if not pseudonym:
            return ""
        match = _PSEUDONYM.match(pseudonym)
        if match is None:
            raise InvalidArgument("not a pseudonym", reason="BAD_PSEUDONYM")
        version, text = match.groups()
        cipher = self._ciphers.get(int(version))
        if cipher is None:
            raise FailedPrecondition(
                f"{SETTING} has no key of version {version}", reason="PSEUDONYM_KEY_MISSING"
            )
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return cipher.decrypt(sealed, None).decode()
        except (InvalidTag, ValueError) as error:
            raise InvalidArgument(
                "not a pseudonym under its key", reason="BAD_PSEUDONYM"
            ) from error


def _sealed(cipher: AESSIV, prefix: str, raw: str) -> str:
    return (
        prefix + base64.urlsafe_b64encode(cipher.encrypt(raw.encode(), None)).rstrip(b"=").decode()
    )
