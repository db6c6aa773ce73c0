"""When what was acknowledged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.feature.watch.acknowledged import MERGED_S, Acknowledgements


def test_what_is_applied_was_acknowledged_when_its_oldest_part_was() -> None:
    known = Acknowledgements()
    for second in (1, 2, 3):
        known.add(second * 10, second * 1_000, float(second))

    assert known.applied(9, 5_000) == (None, 1_000)
    assert known.applied(20, 5_000) == (1.0, 3_000)
    assert known.applied(20, 5_000) == (None, 3_000)
    assert known.applied(30, 5_000) == (3.0, 5_000)
    assert known.applied(30, 6_000) == (None, 6_000)


@given(
    steps=st.lists(st.tuples(st.integers(1, 5), st.sampled_from((0.0, 0.004, 0.02))), max_size=60),
    applied=st.integers(0, 200),
)
def test_the_time_up_to_which_all_is_applied_is_never_too_late(
    steps: list[tuple[int, float]], applied: int
) -> None:
    known = Acknowledgements()
    end, now_s = 0, 100.0
    times = []
    for records, pause_s in steps:
        end, now_s = end + records, now_s + pause_s
        known.add(end, int(now_s * 1000), now_s)
        times.append((end, int(now_s * 1000)))
    now_ms = int(now_s * 1000) + 50

    _, covered_ms = known.applied(applied, now_ms)

    missing = [at_ms for position, at_ms in times if position > applied]
    latest_ms = min(missing, default=now_ms)
    assert latest_ms - MERGED_S * 1000 - 1 <= covered_ms <= latest_ms
