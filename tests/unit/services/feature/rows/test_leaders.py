"""Leaders against a brute-force ranking, and against an event-by-event decay."""

from __future__ import annotations

import math
from random import Random

import pytest

from services.common.errors import InvalidArgument
from services.feature.definitions import compile_views
from services.feature.rows.leaders import (
    DecayedScore,
    FeatureScore,
    RisingScore,
    leaders,
    ring_weights,
)
from services.feature.rows.rows import NULL, PRESENT, Row, row_readers
from tests.support.feature_streams import domain_with

WINDOWS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
DOMAIN = domain_with(
    {
        "title": {"kind": "attribute", "entities": ["room"], "attribute": "selling_course_id"},
        "live": {"kind": "attribute", "entities": ["room"]},
        **{
            f"clicks_1{name}": {
                "kind": "count",
                "entities": ["room"],
                "events": ["click"],
                "window": f"1{name}",
            }
            for name in WINDOWS
        },
        "buys_7d": {"kind": "count", "entities": ["room"], "events": ["purchase"], "window": "7d"},
    }
)
COLUMNS = row_readers(DOMAIN)["room"].columns
NAMES = [column.name for column in COLUMNS]
HALF_LIFE_MS = 1_800_000.0


def some_rows(random: Random, count: int) -> list[tuple[str, Row]]:
    found = []
    for number in range(count):
        minute = random.choice([0, 0, 1, 2, 5])
        hour = minute + random.randrange(5)
        values = {
            "title": "x",
            "live": random.randrange(2),
            "clicks_1m": minute,
            "clicks_1h": hour,
            "clicks_1d": hour + random.randrange(20),
        }
        statuses = bytes([NULL if random.random() < 0.05 else PRESENT for _ in NAMES])
        found.append((f"r{number:03d}", Row(tuple(values.get(n, 0) for n in NAMES), statuses)))
    random.shuffle(found)
    return found


def cells(row: Row) -> dict[str, float]:
    """Values that are PRESENT."""
    return {
        name: value
        for name, value, status in zip(NAMES, row.values, row.statuses, strict=True)
        if status == PRESENT and not isinstance(value, str | tuple)
    }


def brute(rows: list[tuple[str, Row]], kind: str, required: str, limit: int) -> list[tuple]:
    scored = []
    for identity, row in rows:
        known = cells(row)
        if required and not known.get(required):
            continue
        try:
            minute, hour, day = (known[f"clicks_1{w}"] for w in "mhd")
        except KeyError:
            if kind != "feature" or "clicks_1h" not in known:
                continue
            hour = known["clicks_1h"]
        if kind == "feature":
            score = hour
        elif kind == "rising":
            if minute <= 0:
                continue
            score = (minute + 5) / (hour / 60 + 5)
        else:
            a, b, c = ring_weights(list(WINDOWS.values()), HALF_LIFE_MS)
            score = a * minute + b * (hour - minute) + c * (day - hour)
            if score <= 0:
                continue
        scored.append((identity, score))
    scored.sort(key=lambda pair: (-pair[1], pair[0]))
    return scored[:limit]


SCORES = {
    "feature": FeatureScore("clicks_1h"),
    "rising": RisingScore("clicks_1m", "clicks_1h", 5.0),
    "decayed": DecayedScore(("clicks_1d", "clicks_1m", "clicks_1h"), HALF_LIFE_MS),
}


@pytest.mark.parametrize("kind", ["feature", "decayed"])
@pytest.mark.parametrize("required", ["", "live"])
@pytest.mark.parametrize("seed", range(3))
def test_leaders_are_those_of_brute_force(kind: str, required: str, seed: int) -> None:
    rows = some_rows(Random(seed), 120)
    found = leaders(COLUMNS, rows, SCORES[kind], limit=20, required=required)
    wanted = brute(rows, kind, required, 20)
    assert [leader.identity for leader in found] == [identity for identity, _ in wanted]
    assert [leader.score for leader in found] == pytest.approx([score for _, score in wanted])


def test_what_rises_has_more_of_late_than_before() -> None:
    def row(minute: int, hour: int) -> Row:
        values = {"title": "", "live": 1, "clicks_1m": minute, "clicks_1h": hour, "clicks_1d": hour}
        return Row(tuple(values.get(n, 0) for n in NAMES), bytes([PRESENT]) * len(NAMES))

    rows = [("steady", row(5, 300)), ("new", row(20, 20)), ("b", row(2, 2)), ("a", row(2, 2))]
    rows.append(("silent", row(0, 500)))
    found = leaders(COLUMNS, rows, SCORES["rising"], limit=10)
    assert [leader.identity for leader in found] == ["new", "a", "b", "steady"]
    assert found[0].score == pytest.approx(25 / (20 / 60 + 5))


def test_the_weight_of_a_ring_is_the_mean_of_what_is_left_of_events_in_it() -> None:
    edges = [0, *WINDOWS.values()]
    for number, weight in enumerate(ring_weights(list(WINDOWS.values()), HALF_LIFE_MS)):
        start, end = edges[number], edges[number + 1]
        steps = 20_000
        ages = (start + (end - start) * (step + 0.5) / steps for step in range(steps))
        mean = math.fsum(2 ** (-age / HALF_LIFE_MS) for age in ages) / steps
        assert weight == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize(
    ("score", "field"),
    [
        (FeatureScore("nothing"), "feature"),
        (FeatureScore("title"), "feature"),
        (RisingScore("clicks_1h", "clicks_1m", 5.0), "rising.recent"),
        (RisingScore("live", "clicks_1m", 5.0), "rising.recent"),
        (RisingScore("clicks_1m", "buys_7d", 5.0), "rising.baseline"),
        (DecayedScore(("clicks_1h", "clicks_1h"), 1.0), "decayed.features"),
        (DecayedScore(("clicks_1h", "buys_7d"), 1.0), r"decayed.features\[1\]"),
    ],
)
def test_what_does_not_fit_is_named(score: object, field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        leaders(COLUMNS, [], score, limit=5)  # type: ignore[arg-type]


def test_an_unknown_requirement_is_named() -> None:
    assert compile_views(DOMAIN)["room"]
    with pytest.raises(InvalidArgument, match="required"):
        leaders(COLUMNS, [], SCORES["feature"], limit=5, required="alive")
