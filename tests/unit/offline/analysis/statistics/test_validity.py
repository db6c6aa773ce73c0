from dataclasses import replace

import pytest

from offline.analysis.statistics.validity import Measured, markdown, measured, warnings_of

GOOD = Measured(
    "clusters_6", "clustered", "fixed", 2000, 0.05, 0.95, 0.8, None, 6, 0.0, "6 clusters"
)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"type_one": 0.064}, "finds too much"),
        ({"type_one": 0.02}, None),
        ({"coverage": 0.93}, "holds too little"),
        ({"kind": "sequential", "type_one": 0.0, "coverage": 0.935}, "holds too little"),
        ({"coverage": None}, None),
        ({"type_one": 0.02, "world": "normal"}, "finds too little"),
        ({"kind": "sequential", "type_one": 0.005, "width": 1.9}, None),
        ({"kind": "sequential", "type_one": 0.07, "width": 1.9}, "finds too much"),
        ({"kind": "sequential", "type_one": 0.005, "width": 2.1}, "too wide"),
    ],
)
def test_faults(changes: dict[str, object], fault: str | None) -> None:
    row = replace(GOOD, **changes)
    assert row.fault == fault
    assert (row.warning is None) == (fault is None)


def test_warnings_are_of_worlds_like_the_data() -> None:
    table = [
        replace(GOOD, method="welch", type_one=0.4),
        replace(GOOD, method="welch", world="clusters_30", clusters_an_arm=30, type_one=0.3),
        replace(GOOD, method="welch", world="normal", clusters_an_arm=None),
    ]

    def warned(clusters_an_arm: int | None) -> tuple[str, ...]:
        return warnings_of("welch", clusters_an_arm=clusters_an_arm, table=table)

    assert warned(None) == ()
    assert "40.0 %" in warned(6)[0]
    assert "40.0 %" in warned(3)[0]
    assert "40.0 %" in warned(29)[0]
    assert "30.0 %" in warned(500)[0]
    assert warnings_of("unknown", clusters_an_arm=6, table=table) == ()


def test_skewed_worlds_count_for_skewed_data_alone() -> None:
    row = replace(GOOD, method="welch", clusters_an_arm=None, coverage=0.9, skewness=30.0)

    def warned(skewness: float) -> tuple[str, ...]:
        return warnings_of("welch", clusters_an_arm=None, skewness=skewness, table=[row])

    assert warned(0.0) == warned(10.0) == ()
    assert "90.0 %" in warned(25.0)[0]


def test_the_stored_table_says_what_is_known() -> None:
    rows = {(row.world, row.method): row for row in measured()}
    assert rows["clusters_6", "welch"].fault == "finds too much"
    assert rows["normal", "welch"].fault is None
    assert warnings_of("welch", clusters_an_arm=6)
    assert "clusters_6 | welch" in markdown(measured())
