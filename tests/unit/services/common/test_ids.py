"""Identifiers, against the specification's alphabet and order."""

from __future__ import annotations

import re
import time

from services.common.ids import id_from, new_rank_id

DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def value_of(text: str) -> int:
    """The number that a text stands for, digit by digit."""
    number = 0
    for digit in text:
        number = 32 * number + DIGITS.index(digit)
    return number


def test_an_id_is_16_bytes_in_crockfords_base_32() -> None:
    for digest in (bytes(16), b"\xff" * 16, bytes(range(16)), bytes(15) + b"\x21"):
        text = id_from(digest)
        assert len(text) == 26
        assert value_of(text) == int.from_bytes(digest)
    assert id_from(b"\xff" * 16) == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
    # The example of the specification: 1469918176385 ms.
    assert id_from((1469918176385 << 80).to_bytes(16)).startswith("01ARYZ6S41")


def test_a_new_id_tells_its_millisecond_and_comes_once() -> None:
    before_ms = time.time_ns() // 1_000_000
    ids = [new_rank_id() for _ in range(100)]
    after_ms = time.time_ns() // 1_000_000
    assert all(re.fullmatch(f"[{DIGITS}]{{26}}", id_) for id_ in ids)
    assert all(before_ms <= value_of(id_) >> 80 <= after_ms for id_ in ids)
    assert len(set(ids)) == 100
