"""What a failed call tells: always small enough to arrive, and only what can be sent."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import FieldViolation, InvalidArgument
from services.common.status import MAX_MESSAGE_BYTES, shown, status_of


@settings(max_examples=50)
@given(st.text(st.characters(codec=None), max_size=60), st.integers(20, 80))
def test_a_text_is_shown_within_its_limit(text: str, max_bytes: int) -> None:
    sent = shown(text, max_bytes)
    assert len(sent.encode()) <= max_bytes
    if len(text.encode("utf-8", "backslashreplace")) <= max_bytes:
        assert sent == text.encode("utf-8", "backslashreplace").decode()
    else:
        assert " … " in sent


def test_an_error_with_long_and_many_fields_arrives() -> None:
    violations = [FieldViolation("é" * 100_000 + str(n), "\ud800 is wrong") for n in range(20)]
    status = status_of(InvalidArgument("; ".join(map(str, violations)), violations=violations))
    # gRPC writes a byte of a text beyond ASCII as three, and drops trailers above 8 KiB.
    trailers = sum(len(key) + len(value) * 4 // 3 for key, value in status.trailing_metadata)
    assert len(status.message.encode()) * 3 + trailers < 7_500
    assert len(status.message.encode()) <= MAX_MESSAGE_BYTES


def test_an_error_of_usual_size_is_told_whole() -> None:
    violations = [FieldViolation(f"experiments.e{n}.salt", "is required") for n in range(20)]
    (_, details), *rest = status_of(
        InvalidArgument("wrong", violations=violations)
    ).trailing_metadata
    assert not rest
    for violation in violations:
        assert violation.field.encode() in details
