"""Who calls: certificates before tokens, and one's own word in development alone."""

from __future__ import annotations

import pytest

from services.common.callers import Callers, allowed, tokens_of
from services.common.errors import ConfigError

TOKEN = "0123456789abcdef"  # noqa: S105 - of nobody
SAID = ("x-podium-caller", "eve")
TOLD = ("authorization", f"Bearer {TOKEN}")


def test_a_certificate_counts_first_then_a_token_then_ones_own_word() -> None:
    callers = Callers({TOKEN: "ann"}, trust_metadata=True)
    assert callers.name([b"spiffe://job"], [SAID, TOLD]) == "spiffe://job"
    assert callers.name(None, [SAID, TOLD]) == "ann"
    assert callers.name([], [SAID]) == "eve"
    assert callers.name([], [SAID, ("authorization", "Bearer wrong")]) == ""
    assert Callers({}, trust_metadata=False).name([], [SAID]) == ""


def test_tokens_are_read_and_never_shown() -> None:
    assert tokens_of(f"ann:{TOKEN}, job:{TOKEN}2", "X") == {TOKEN: "ann", f"{TOKEN}2": "job"}
    assert tokens_of("", "X") == {}
    for wrong in ("ann:secret", f":{TOKEN}", TOKEN):
        with pytest.raises(ConfigError, match="X: number 1 must be NAME:TOKEN") as refused:
            tokens_of(wrong, "X")
        assert wrong not in str(refused.value)


def test_named_callers_alone_may_or_everybody_where_none_is_named() -> None:
    may = allowed("ann, bob", everybody=True)
    assert [may(name) for name in ("ann", "bob", "eve", "")] == [True, True, False, False]
    assert allowed("", everybody=True)("eve")
    assert not allowed("", everybody=False)("eve")
    assert not allowed(" , ", everybody=False)("")
