"""The level that shrinks the work."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ranker.governor import Governor


@given(
    latencies=st.lists(st.lists(st.floats(0, 1), max_size=16), max_size=200),
    floor=st.floats(0.1, 1),
    configured=st.integers(1, 5_000),
    wanted=st.integers(1, 200),
)
def test_never_below_the_floor_nor_what_is_wanted(
    latencies: list[list[float]], floor: float, configured: int, wanted: int
) -> None:
    governor = Governor(target_s=0.05, floor=floor)
    for batch in latencies:
        governor.answered(batch)
        assert floor <= governor.level <= 1
        granted = governor.candidates(configured, wanted)
        assert min(configured, wanted) <= granted <= configured
        assert granted >= int(floor * configured)


def test_late_answers_take_off_what_answers_in_time_restore() -> None:
    governor = Governor(target_s=0.05, floor=0.25)
    governor.answered([0.01] * 100)
    assert governor.level == 1
    governor.answered([0.06] * 5)
    assert governor.level == 1
    governor.answered([0.06] * 5)
    assert np.isclose(governor.level, (1 - 10 * 0.0002 * 99) / 0.9)
    governor.answered([0.06] * 100)
    assert governor.level == 0.25
    governor.answered([0.05] * 5_000)
    assert governor.level == 1


def test_the_level_rests_where_one_answer_in_a_hundred_is_late() -> None:
    """Latency is drawn around a mean in proportion to the work."""
    random = np.random.default_rng(7)
    governor = Governor(target_s=0.05, floor=0.1)
    late = []
    for _ in range(60_000):
        latency_s = 0.06 * governor.level * random.lognormal(0, 0.3)
        governor.answered([latency_s])
        late.append(latency_s > 0.05)
    assert 0.006 < float(np.mean(late[20_000:])) < 0.014
    assert 0.1 < governor.level < 1
