"""Hands out tokens with answers, and takes them back with the requests that follow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from services.common.actor import actor_key
from services.common.errors import InvalidArgument
from services.common.ids import seed_of
from services.common.token_keys import TokenKeys
from services.ranker.tokens.format import (
    DIGEST_BYTES,
    MAX_PAGE,
    MAX_SHOWN,
    MAX_TOKEN_BYTES,
    MAX_VARIANTS,
    SHOWN_MASK,
    Kind,
    OtherFormatError,
    Token,
    digest_of,
    from_text,
    key_version_of,
    packed,
    to_text,
    unpacked,
)
from services.ranker.types import Call, Following, RankCommand, RankResult, Traffic

_CACHED_DIGESTS = 4_096


class Tokens:
    """Signs and checks tokens. Thread-safe. ``now_s``: seconds since the epoch."""

    def __init__(
        self, keys: TokenKeys, *, lifetime_s: int, now_s: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._lifetime_s = lifetime_s
        self._now_s = now_s
        self._digest = lru_cache(_CACHED_DIGESTS)(digest_of)

    def issued(self, result: RankResult) -> tuple[str, str]:
        """(next_page_token, refresh_token) of an answer; either may be empty.

        There is no next page when no candidate is left, when nothing was shown, or when 500 items
        were; a refresh has none of its own.
        """
        if not len(result.hashes):
            return "", ""
        refresh = self._token(Kind.REFRESH, result)
        shown = result.hashes & SHOWN_MASK
        if result.command.following is not None:
            shown = np.concatenate([result.command.following.items, shown])
        if result.command.call is not Call.RANK or not result.more or len(shown) >= MAX_SHOWN:
            return "", self._signed(refresh)
        page = refresh._replace(
            kind=Kind.PAGE,
            first_position=result.first_position + len(result.hashes),
            items=shown,
        )
        return self._signed(page), self._signed(refresh)

    def next_page(self, text: str, command: RankCommand, default_k: int) -> RankCommand:
        """The command for the page that a token asks for; it has what is left of 500 items at most.

        Raises ``InvalidArgument`` with the reason why the token does not hold.
        """
        token = self._taken("page_token", text, Kind.PAGE, command)
        k = min(command.k or default_k, MAX_SHOWN - len(token.items))
        return _following(token, replace(command, k=k))

    def refreshed(self, text: str, command: RankCommand) -> RankCommand:
        """The command that scores the slate of a token anew. Raises ``InvalidArgument``."""
        token = self._taken("refresh_token", text, Kind.REFRESH, command)
        return _following(token, replace(command, call=Call.REFRESH, k=len(token.items)))

    def _token(self, kind: Kind, result: RankResult) -> Token:
        command, following = result.command, result.command.following
        version = self._keys.current
        variants = [
            self._digest(assigned.experiment_key, assigned.variant_key)
            for assigned in result.assignments
            if assigned.variant_key
        ]
        return Token(
            kind=kind,
            key_version=version,
            expires_s=int(self._now_s()) + self._lifetime_s,
            actor=self._actor(command, version),
            surface=self._digest(command.surface),
            filter=command.filter_digest,
            candidates=command.candidates_digest,
            bundle=self._digest(result.bundle_version),
            seed=result.seed if following is None else _session_seed(result, following),
            traffic=result.traffic.value,
            page=1 if following is None else min(following.page + 1, MAX_PAGE),
            first_position=result.first_position,
            rank_id=result.rank_id,
            variants=variants[:MAX_VARIANTS],
            items=result.hashes,
        )

    def _signed(self, token: Token) -> str:
        data = packed(token)
        return to_text(data, self._keys.mac(data, token.key_version))

    def _actor(self, command: RankCommand, version: int) -> bytes:
        actor = actor_key(command.user_id, command.device_id)
        return self._keys.mac(b"actor\0" + actor.encode(), version)[:DIGEST_BYTES]

    def _taken(self, field: str, text: str, kind: Kind, command: RankCommand) -> Token:
        token = self._checked(field, text)
        if token.kind is not kind:
            raise _refused(field, "is a token of another call", "TOKEN_OF_ANOTHER_CALL")
        if token.expires_s <= self._now_s():
            raise _refused(field, f"has expired; tokens last {self._lifetime_s} s", "TOKEN_EXPIRED")
        if token.actor != self._actor(command, token.key_version):
            raise _refused(field, "belongs to another actor", "TOKEN_OF_ANOTHER_ACTOR")
        if token.surface != self._digest(command.surface):
            raise _refused(field, "belongs to another surface", "TOKEN_OF_ANOTHER_SURFACE")
        if token.filter != command.filter_digest:
            raise _refused(
                field, "belongs to a request with another filter", "TOKEN_OF_ANOTHER_FILTER"
            )
        # A refresh has no candidates but those it shows.
        if kind is Kind.PAGE and token.candidates != command.candidates_digest:
            raise _refused(
                field,
                "belongs to a request with other candidate_ids",
                "TOKEN_OF_OTHER_CANDIDATES",
            )
        return token

    def _checked(self, field: str, text: str) -> Token:
        """The token, when its signature holds."""
        size = len(text.encode())
        if not 1 <= size <= MAX_TOKEN_BYTES:
            raise _refused(
                field, f"has {size} bytes, must have 1 to {MAX_TOKEN_BYTES}", "TOKEN_MALFORMED"
            )
        try:
            data, mac = from_text(text)
            version = key_version_of(data)
            if not self._keys.knows(version):
                raise _refused(
                    field, f"is signed by key {version}, unknown here", "TOKEN_KEY_UNKNOWN"
                )
            if not self._keys.holds(data, mac, version):
                raise _refused(field, "has a wrong signature", "TOKEN_SIGNATURE_WRONG")
            return unpacked(data)
        except OtherFormatError as error:
            raise _refused(field, str(error), "TOKEN_FORMAT_UNSUPPORTED") from error
        except ValueError as error:
            raise _refused(field, "is not a token of this service", "TOKEN_MALFORMED") from error


def _following(token: Token, command: RankCommand) -> RankCommand:
    return replace(
        command,
        # Draws of pages and refreshes must not repeat those of the slate before.
        seed=seed_of(f"{token.seed} {token.kind} {token.page}"),
        traffic=Traffic(token.traffic),
        following=Following(
            parent_rank_id=token.rank_id,
            page=token.page,
            first_position=token.first_position,
            items=token.items,
            bundle=token.bundle,
            variants=frozenset(token.variants),
            session_seed=token.seed,
        ),
    )


def _session_seed(result: RankResult, following: Following) -> int:
    return result.seed if following.session_seed is None else following.session_seed


def _refused(field: str, description: str, reason: str) -> InvalidArgument:
    return InvalidArgument.field(field, description, reason=reason)
