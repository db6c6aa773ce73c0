"""Every knob does what its description says."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from itertools import chain, pairwise

import numpy as np
import pytest

from offline.simulator.parameters import WorldParameters
from offline.simulator.records import Record
from offline.simulator.world import World
from services.common.errors import InvalidArgument

END_MS = 1_780_000_000_000


@cache
def records_of(**knobs: float) -> tuple[World, list[Record]]:
    size = {"users": 200, "weeks": 2, "courses": 100, "rooms_live": 2}
    parameters = WorldParameters(END_MS, **{**size, **knobs})  # type: ignore[arg-type]
    world = World(parameters)
    return world, list(chain.from_iterable(world.run_until(END_MS)))


def click_rate_ratio(records: list[Record]) -> float:
    """Click rate of the first two positions over that of positions 4 and beyond."""
    shown: Counter[bool] = Counter()
    opened: Counter[bool] = Counter()
    for record in records:
        if record.rank_id and record.position >= 0 and record.position not in (2, 3):
            first = record.position < 2
            shown[first] += record.type == "impression"
            opened[first] += record.type in ("click", "room_enter")
    return (opened[True] / shown[True]) / (opened[False] / shown[False])


def test_position_bias_lowers_clicks_further_down() -> None:
    _, flat = records_of(position_bias=0.0)
    _, steep = records_of(position_bias=1.5, refund_rate=0.3)
    assert click_rate_ratio(flat) < 2.0
    assert click_rate_ratio(steep) > 2 * click_rate_ratio(flat)


def top_share(records: list[Record]) -> float:
    """Share of purchases that the tenth of courses bought most take."""
    sold = Counter(
        dict(record.entities)["course"] for record in records if record.type == "purchase"
    )
    counts = sorted(sold.values(), reverse=True)
    return sum(counts[:10]) / sum(counts)


def test_herding_concentrates_sales() -> None:
    _, calm = records_of()
    _, herd = records_of(herding=3.0)
    assert top_share(herd) > 1.2 * top_share(calm)


def test_drift_changes_interests_at_the_stated_rate() -> None:
    def changed(drift: float) -> float:
        parameters = WorldParameters(
            END_MS, users=200, weeks=2, drift=drift, activity=0.1, rooms_live=1
        )
        world = World(parameters)
        before = world.people.interests()
        for _ in world.run_until(END_MS):
            pass
        return float((world.people.interests() != before).any(axis=1).mean())

    assert changed(0.0) == 0.0
    # 13 days of 0.25 x drift / 7: 1 - exp(-0.46) of the people at drift 1.
    assert changed(1.0) == pytest.approx(0.37, abs=0.1)
    assert changed(4.0) > 0.7


def test_refund_rate_is_the_share_refunded() -> None:
    _, records = records_of(position_bias=1.5, refund_rate=0.3)
    kinds = Counter(record.type for record in records)
    # Those of the last days are still to come.
    assert 0.15 < kinds["refund"] / kinds["purchase"] < 0.33


def test_no_refunds_at_rate_zero() -> None:
    _, records = records_of(refund_rate=0.0, users=50)
    assert not any(record.type == "refund" for record in records)


def own_category_lift(**knobs: float) -> float:
    """How much oftener than others' a person's purchases repeat a category they bought before."""
    world, records = records_of(**knobs)
    baskets: dict[int, list[int]] = defaultdict(list)
    for record in records:
        if record.type == "purchase":
            course = int(dict(record.entities)["course"].removeprefix("course_"))
            baskets[record.person].append(int(world.catalogue.category[course]))
    everything = np.concatenate(list(baskets.values()))
    share = np.bincount(everything) / len(everything)
    pairs = [(a, b) for basket in baskets.values() for a, b in pairwise(basket)]
    return float(np.mean([a == b for a, b in pairs]) / (share**2).sum())


def test_personal_signal_makes_choices_personal() -> None:
    assert own_category_lift() > 1.6
    assert own_category_lift(personal_signal=0.0) < 1.3


def test_rates_of_arrival_and_activity_are_kept() -> None:
    world, records = records_of(arrival_rate=0.5, activity=1.0)
    # 100 courses, two weeks, half as many new ones a week; some are withdrawn but stay in rows.
    assert 160 < world.catalogue.courses < 250
    visits = {
        (record.person, record.payload.session_id)  # type: ignore[union-attr]
        for record in records
        if record.type == "slate_served" and record.person < 200
    }
    assert 0.6 < len(visits) / (200 * 2) < 1.2


@pytest.mark.parametrize(
    ("field", "value"),
    [("weeks", 0), ("users", 3), ("refund_rate", 1.5), ("personal_signal", -1), ("herding", 9)],
)
def test_parameters_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(InvalidArgument) as raised:
        WorldParameters(END_MS, **{field: value})  # type: ignore[arg-type]
    assert [violation.field for violation in raised.value.violations] == [field]


def test_not_a_number_is_out_of_range() -> None:
    with pytest.raises(InvalidArgument, match="drift"):
        WorldParameters(END_MS, drift=float("nan"))
