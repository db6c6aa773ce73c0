"""What ``benchmarks.swap`` makes of the calls its client saw."""

from __future__ import annotations

import pytest

from benchmarks.swap import Seen, Swap, summarise


def test_calls_count_by_when_they_were_due() -> None:
    swaps = [Swap("b", promoted_s=10.0, in_force_s=12.0), Swap("a", 20.0, 21.0)]
    calls = [
        Seen(7.9, 900.0, "", "a"),  # before the quiet seconds
        Seen(8.0, 5.0, "", "a"),
        Seen(9.9, 5.0, "", "a"),
        Seen(10.0, 20.0, "", "a"),
        Seen(12.9, 20.0, "", "b"),
        Seen(13.1, 900.0, "", "b"),  # settled
        Seen(19.0, 5.0, "", "b"),
        Seen(20.5, 20.0, "", "a"),
        Seen(21.5, 0.0, "UNAVAILABLE", ""),
    ]
    found = summarise(calls, swaps, quiet_s=2.0)
    assert found["p99_before_ms"] == 5.0
    assert found["p99_during_ms"] == 20.0
    assert found["ratio"] == 4.0
    assert found["failed"] == 1
    assert found["errors"] == {"UNAVAILABLE": 1}
    assert found["swap_s"] == 2.0
    assert found["calls"] == 9


def test_a_bundle_that_never_answered_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="'b'"):
        summarise([Seen(9.0, 5.0, "", "a")], [Swap("b", 10.0, 12.0)], quiet_s=2.0)
