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
from functools import lru_cache

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
_CACHED_TRANSLATIONS = 50_000


class Pseudonymiser:
    """Turns raw ids into pseudonyms and back. Thread-safe: it holds keys only."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        """``keys``: 64-byte key by version, from 1; ``current`` is the version that encrypts."""
        if current not in keys:
            raise ConfigError(SETTING, 0, "", f"has no key of version {current}")
        self.version = current
        """Version of the key that encrypts."""
        self._keys = dict(keys)
        self._ciphers = {version: AESSIV(key) for version, key in keys.items()}
        self._current = self._ciphers[current]
        self._prefix = f"p{current}."
        self._translated = lru_cache(_CACHED_TRANSLATIONS)(self._translate)

    def __reduce__(self) -> tuple[type[Pseudonymiser], tuple[dict[int, bytes], int]]:
        """What another process of the same service needs to make one of its own."""
        return Pseudonymiser, (self._keys, self.version)

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

    @property
    def versions(self) -> list[int]:
        """Versions of all keys there are, the oldest first."""
        return sorted(self._keys)

    def under(self, version: int) -> Pseudonymiser:
        """The same keys, of which that of ``version`` encrypts.

        Raises ``FailedPrecondition`` (PSEUDONYM_KEY_MISSING) where there is none.
        """
        if version not in self._keys:
            raise _missing(version)
        return Pseudonymiser(self._keys, version)

    def encrypt(self, raw: str) -> str:
        """Pseudonym of a raw id: ``p<version>.<base64url>``; of an empty id, an empty string.

        An id of n bytes gives ``ceil((n + 16) * 4 / 3)`` characters after the prefix.
        """
        return _sealed(self._current, self._prefix, raw) if raw else ""

    def under_every_key(self, raw: str) -> list[str]:
        """Pseudonyms of a raw id under each key there is, by version."""
        return [_sealed(cipher, f"p{v}.", raw) for v, cipher in sorted(self._ciphers.items())]

    def translate(self, name: str) -> str:
        """A pseudonym of any key as it is under the one that encrypts.

        What is no pseudonym of a key with its version stays as it is: a log of another origin may
        hold anything. Raises ``FailedPrecondition`` (PSEUDONYM_KEY_MISSING).
        """
        if not name or name.startswith(self._prefix):
            return name
        return self._translated(name)

    def _translate(self, name: str) -> str:
        try:
            return self.encrypt(self.decrypt(name))
        except InvalidArgument:
            return name

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
            raise _missing(int(version))
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return cipher.decrypt(sealed, None).decode()
        except (InvalidTag, ValueError) as error:
            raise InvalidArgument(
                "not a pseudonym under its key", reason="BAD_PSEUDONYM"
            ) from error


def _missing(version: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"{SETTING} has no key of version {version}", reason="PSEUDONYM_KEY_MISSING"
    )


def _sealed(cipher: AESSIV, prefix: str, raw: str) -> str:
    return (
        prefix + base64.urlsafe_b64encode(cipher.encrypt(raw.encode(), None)).rstrip(b"=").decode()
    )
