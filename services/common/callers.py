"""Who calls: as its certificate says, else its token, else, in development, as it says itself."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping

from services.common.call import CALLER_KEY
from services.common.errors import ConfigError

TOKEN_KEY = "authorization"  # noqa: S105 - where a token stands, not one
_SCHEME = "Bearer "
_MIN_TOKEN_BYTES = 16


class Callers:
    """Names callers. ``tokens``: names by token; ``trust_metadata``: whether callers may name
    themselves in it, which is for development."""

    def __init__(self, tokens: Mapping[str, str], *, trust_metadata: bool) -> None:
        self._tokens = [(token.encode(), name) for token, name in tokens.items()]
        self._trust_metadata = trust_metadata

    def name(
        self, identities: Iterable[bytes] | None, metadata: Iterable[tuple[str, str | bytes]]
    ) -> str:
        """Name of a caller with these certificate identities and metadata; empty for nobody."""
        for identity in identities or ():
            return identity.decode(errors="replace")
        said = ""
        for key, value in metadata:
            if key == TOKEN_KEY and isinstance(value, str) and value.startswith(_SCHEME):
                return self._of_token(value.removeprefix(_SCHEME).encode())
            if key == CALLER_KEY and isinstance(value, str):
                said = value
        return said if self._trust_metadata else ""

    def _of_token(self, given: bytes) -> str:
        found = ""
        for token, name in self._tokens:
            # All are compared: how long it takes tells nothing.
            if hmac.compare_digest(token, given):
                found = name
        return found


def tokens_of(text: str, setting: str) -> dict[str, str]:
    """Names by token, of ``NAME:TOKEN,...``. Raises ``ConfigError``, which shows no token."""
    found: dict[str, str] = {}
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        name, _, token = part.partition(":")
        if not name or len(token.encode()) < _MIN_TOKEN_BYTES:
            raise ConfigError(
                "environment",
                0,
                setting,
                f"number {number} must be NAME:TOKEN, of {_MIN_TOKEN_BYTES} bytes or more",
            )
        found[token] = name
    return found


def allowed(names: str, *, everybody: bool) -> Callable[[str], bool]:
    """Whether a caller is among ``names``, separated by commas; ``everybody`` where none is."""
    named = {name.strip() for name in names.split(",")} - {""}
    all_may = everybody and not named
    return lambda name: all_may or name in named
