"""Pseudonyms: deterministic, reversible, keyed, versioned."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ConfigError, FailedPrecondition, InvalidArgument
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser

OLD, NEW = b"o" * 64, b"n" * 64


def _text(version: int, key: bytes) -> str:
    return f"{version}:{base64.b64encode(key).decode()}"


@given(st.text(max_size=60))
def test_round_trip(raw: str) -> None:
    names = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
    sealed = names.encrypt(raw)
    assert names.decrypt(sealed) == raw
    assert sealed == names.encrypt(raw)
    assert not raw or (sealed.startswith("p1.") and raw != sealed)


def test_golden() -> None:
    # Frozen: stored pseudonyms must keep meaning the same id.
    assert Pseudonymiser({3: bytes(range(64))}, 3).encrypt("user-1") == GOLDEN


GOLDEN = "p3.mwaCl8UzObDs_P9PkpHUokL6hHXI3w"


def test_rotation_keeps_old_pseudonyms_readable() -> None:
    before = Pseudonymiser.from_text(_text(1, OLD)).encrypt("user-1")
    both = Pseudonymiser.from_text(_text(1, OLD) + "," + _text(2, NEW))
    assert both.decrypt(before) == "user-1"
    assert both.encrypt("user-1").startswith("p2.")
    assert both.encrypt("user-1") != before


@pytest.mark.parametrize("bad", ["user-1", "p1.", "p1.AAAA", "p1.!!!!"])
def test_what_is_no_pseudonym_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Pseudonymiser.from_text(DEVELOPMENT_KEYS).decrypt(bad)
    assert refused.value.reason == "BAD_PSEUDONYM"


def test_a_missing_key_is_told_from_what_is_no_pseudonym() -> None:
    with pytest.raises(FailedPrecondition, match="version 9") as refused:
        Pseudonymiser.from_text(DEVELOPMENT_KEYS).decrypt("p9.AAAA")
    assert refused.value.reason == "PSEUDONYM_KEY_MISSING"


def test_a_changed_pseudonym_is_refused() -> None:
    names = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
    sealed = names.encrypt("user-1")
    changed = sealed[:-2] + ("A" if sealed[-2] != "A" else "B") + sealed[-1]
    with pytest.raises(InvalidArgument):
        names.decrypt(changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secretsecret",
        "1:secret!",
        _text(0, OLD),
        _text(1, b"secret"),
        f"{_text(1, OLD)},{_text(1, NEW)}",
    ],
)
def test_wrong_keys_are_named_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigError, match="PODIUM_PSEUDONYM_KEYS") as refused:
        Pseudonymiser.from_text(text)
    assert "secret" not in str(refused.value)
