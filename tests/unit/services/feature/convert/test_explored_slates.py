"""Limits of what a slate says of its placements and draws."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from podium.event.v1.event_pb2 import Exploration, SlateServed
from services.common.errors import InvalidArgument
from services.feature.convert.slates import check_slate


def slate(**drawn: Any) -> SlateServed:
    """Two items of which the second was drawn from three."""
    exploration: dict[str, Any] = {
        "seed": 2**64 - 1,
        "share": 0.02,
        "temperature": 0.5,
        "similarity_weight": 0.0,
        "spread": 0.1,
        "weights": [1.0],
        "candidate_ids": ["b", "c", "d"],
        "considered_count": 3,
        "terms": struct.pack("<3f", 0.1, 0.2, 0.3),
        "feasible": bytes([0, 7]),
        "chosen": [-1, 0],
    }
    return SlateServed(
        surface="courses",
        item_ids=["a", "b"],
        objectives=["buy"],
        placements=[SlateServed.PLACEMENT_PIN, SlateServed.PLACEMENT_DRAWN],
        log_propensities=[0, -0.5],
        feasible_counts=[0, 3],
        interleaving_teams=["", "x"],
        exploration=Exploration(**(exploration | drawn)),
    )


def test_what_fits_together_is_taken() -> None:
    check_slate("slate", slate())
    check_slate("slate", slate(adjustments=bytes(12), similarities=bytes(6)))


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"share": 0}, "exploration.share"),
        ({"temperature": float("inf")}, "exploration.temperature"),
        ({"spread": -1}, "exploration.spread"),
        ({"similarity_weight": float("nan")}, "exploration.similarity_weight"),
        ({"weights": [1, 2]}, "exploration.weights"),
        ({"weights": [float("nan")]}, "exploration.weights"),
        ({"candidate_ids": ["b", "c" * 129, "d"]}, r"exploration.candidate_ids\[1\]"),
        ({"terms": bytes(11)}, "exploration.terms"),
        ({"terms": struct.pack("<3f", 0, float("nan"), 0)}, "exploration.terms"),
        ({"adjustments": bytes(4)}, "exploration.adjustments"),
        ({"similarities": bytes(3)}, "exploration.similarities"),
        ({"feasible": bytes(1)}, "exploration.feasible"),
        ({"chosen": [0]}, "exploration.chosen"),
        ({"chosen": [0, 3]}, "exploration.chosen"),
    ],
)
def test_a_draw_that_does_not_is_named(part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        check_slate("slate", slate(**part))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("log_propensities", [0.1, 0]),
        ("log_propensities", [float("-inf"), 0]),
        ("log_propensities", [0]),
        ("feasible_counts", [-1, 0]),
        ("placements", [0, 1]),
        ("placements", [99, 1]),
        ("interleaving_teams", ["x" * 129, ""]),
        ("interleaving_teams", ["x"]),
    ],
)
def test_a_column_that_does_not_is_named(name: Any, values: list[Any]) -> None:
    wrong = slate()
    wrong.ClearField(name)
    getattr(wrong, name).extend(values)
    with pytest.raises(InvalidArgument, match=name):
        check_slate("slate", wrong)
