"""What makes folding a record again come to the same: refunds' sources, attribute notes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.feature.states.applied_event import RefundFacts
from services.feature.states.attribute_notes import AttributeNotes
from services.feature.states.refunds import RefundLedger

AMOUNT = 100
amounts = st.lists(st.tuples(st.integers(0, 9), st.integers(1, AMOUNT)), min_size=1, max_size=6)


def refund(time_ms: int, amount_minor: int) -> tuple[int, RefundFacts, list[tuple[str, str]]]:
    return time_ms, RefundFacts("p", 5, AMOUNT, amount_minor), [("user", "ann")]


@given(amounts, st.data())
def test_a_refund_entered_again_changes_nothing_and_says_the_same(
    parts: list[tuple[int, int]], data: st.DataObject
) -> None:
    ledger = RefundLedger()
    said = [ledger.take(f"log:{number}", *refund(*part)) for number, part in enumerate(parts)]
    stored = ledger.encode()

    again = data.draw(st.integers(0, len(parts) - 1))
    assert ledger.take(f"log:{again}", *refund(*parts[again])) == said[again]
    assert ledger.encode() == stored


def test_an_attribute_is_read_again_as_it_was() -> None:
    first = AttributeNotes()
    values = {3: "music", 4: "music", 8: "art", 9: None}
    for arrival, value in values.items():
        assert first.read("course", "c", "category", arrival, lambda v=value: v) == value

    again = AttributeNotes(first.encode(10))
    for arrival, value in values.items():
        assert again.read("course", "c", "category", arrival, lambda: "later") == value
    assert again.read("course", "c", "category", 10, lambda: "later") == "later"
    assert again.read("course", "other", "category", 3, lambda: "now") == "now"


def test_notes_of_nothing_are_empty() -> None:
    assert AttributeNotes(b"").encode(3) == b""


def test_a_shorter_batch_keeps_the_notes_of_the_longer_one() -> None:
    first = AttributeNotes()
    for arrival, value in ((3, "music"), (8, "art")):
        first.read("course", "c", "category", arrival, lambda v=value: v)

    shorter = AttributeNotes(first.encode(10))
    assert shorter.read("course", "c", "category", 3, lambda: "later") == "music"
    rest = AttributeNotes(shorter.encode(5))

    assert rest.read("course", "c", "category", 8, lambda: "later") == "art"
