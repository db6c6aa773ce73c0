"""Groups of items against sorting them one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ranker.sources.groups import Groups, Named

LARGE = 2**63 - 1
VALUES = st.one_of(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(-3, 3), st.booleans()), max_size=12),
    st.lists(
        st.tuples(
            st.integers(-1, 3), st.sampled_from([0, 70_000, LARGE, -LARGE - 1]), st.booleans()
        ),
        max_size=12,
    ),
)


@given(VALUES, st.booleans(), st.integers(1, 4), st.lists(st.integers(-1, 6), max_size=5))
def test_a_group_is_its_eligible_items_sorted(
    items: list[tuple[int, int, bool]], as_floats: bool, limit: int, asked: list[int]
) -> None:
    group = np.array([number for number, _, _ in items], np.int64)
    values = np.array([value for _, value, _ in items], np.float32 if as_floats else np.int64)
    eligible = np.array([allowed for _, _, allowed in items], np.bool_)
    tie = np.array([n * 7 % 13 for n in range(len(items))], np.uint64)
    groups = Groups.of(group, 4, eligible, values, tie)
    expected = {
        number: sorted(
            (n for n, (own, _, allowed) in enumerate(items) if own == number and allowed),
            key=lambda n: (-values[n].item(), tie[n]),
        )[:limit]
        for number in range(4)
    }
    for number in range(6):
        assert groups.head(number, limit) == expected.get(number, [])
    slots, place = groups.heads(np.array(asked, np.int64), limit)
    pairs = [(slot, n) for n, number in enumerate(asked) for slot in expected.get(number, [])]
    assert list(zip(slots.tolist(), place.tolist(), strict=True)) == pairs


def test_firsts_are_the_heads_of_each_text_in_turn() -> None:
    codes = np.array([1, 2, 1, 0, 3, 1], np.int64)
    eligible = np.array([True, True, True, True, False, True])
    groups = Groups.of(codes, 4, eligible, np.array([5, 4, 9, 1, 1, 7]), np.arange(6, dtype="u8"))
    items = Named(groups, {"a": 1, "b": 2, "gone": 3, "later": 8}.get)
    lists = [["b", "a"], [], ["nothing", "gone", "later"], ["a", "b"]]
    assert [found.tolist() for found in items.firsts(lists, 2)] == [[1, 2], [], [], [2, 5]]
    assert [found.tolist() for found in items.firsts(lists, 9)] == [
        [1, 2, 5, 0],
        [],
        [],
        [2, 5, 0, 1],
    ]
    assert [len(found) for found in items.firsts([[], []], 3)] == [0, 0]
