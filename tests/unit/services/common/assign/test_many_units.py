"""Units by the million: deciding keeps nothing of them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

from services.common.assign.assign import (
    Common,
    Context,
    Definitions,
    Experiment,
    Holdout,
    Layer,
    Prerequisite,
    Sticky,
    Variant,
    evaluate,
)

HALVES = (Variant("a", 0.5), Variant("b", 0.5))
DEFINITIONS = Definitions(
    {
        "layered": Experiment(
            "layered", "user", "layered", HALVES, layer="home", layer_ranges=((0.0, 0.5),)
        ),
        "plain": Experiment(
            "plain", "user", "plain", HALVES, condition={"region": {"$in": ["US"]}}
        ),
        "sticky": Experiment(
            "sticky",
            "user",
            "sticky",
            HALVES,
            sticky=Sticky(),
            prerequisites=(Prerequisite("plain", {"value": {"$exists": True}}),),
        ),
    },
    "hash",
    layers={"home": Layer("home", "user", "home")},
    common=Common(holdout=Holdout("holdout", 0.05)),
)


def assigned(first: int, count: int) -> Iterator[str]:
    """Variants of units one after another, as a job goes through them."""
    for number in range(first, first + count):
        context = Context({"user": f"user-{number}"}, {"region": "US"}, sticky={}, now_ms=1)
        for assignment in evaluate(DEFINITIONS, context).assignments:
            yield assignment.variant_key


def test_memory_stays_flat_over_any_number_of_units() -> None:
    seen = sum(map(bool, assigned(0, 500)))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        seen += sum(map(bool, assigned(1_000, 5_000)))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen > 5_000
    # The ids alone, kept, would take 300,000 bytes.
    assert after - before < 20_000
