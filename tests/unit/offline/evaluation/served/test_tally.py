"""Figures of requests against counts by hand."""

import numpy as np
import pytest

from offline.evaluation.served.tally import Tally, clustered
from services.ranker.in_process import Answer


def answer(*found: list[str], slate: list[str], sources: list[str]) -> Answer:
    """Of two sources, of which nothing was filtered."""
    merged = [*dict.fromkeys(id_ for ids in found for id_ in ids)]
    return Answer(found, merged, merged[:2], ["a", "z"], merged, slate, sources)


def test_each_stage_is_counted_as_by_hand() -> None:
    tally = Tally(("near", "new"), recall_at=2)
    # Of the true a and c: near has a, both have c; the slate has c in the second place.
    tally.add({"a", "c"}, answer(["a", "c"], ["c", "d"], slate=["d", "c"], sources=["new", "near"]))
    # Of the true e: nothing.
    tally.add({"e"}, answer(["a"], ["b"], slate=["a", "b"], sources=["near", "new"]))
    tally.showable = {"a", "b", "c", "d", "e"}
    found = {name: values.tolist() for name, values in tally.metrics(10).items()}
    assert found["found near"] == [1.0, 0.0]
    assert found["found new"] == [0.5, 0.0]
    assert found["only near"] == [0.5, 0.0]
    assert found["only new"] == [0.0, 0.0]
    assert found["nearest@2"] == [0.5, 0.0]
    assert found["merged@2"] == [1.0, 0.0]
    assert found["slate"] == [0.5, 0.0]
    assert found["hr@10"] == [1.0, 0.0]
    assert found["mrr"] == [0.5, 0.0]
    # One of two right items, in the second place: 1 / log2(3) of 1 + 1 / log2(3).
    assert found["ndcg@10"] == pytest.approx([0.63093 / 1.63093, 0.0], abs=1e-5)
    assert "hr@20" not in found
    assert tally.shown == {"new": 2, "near": 2}
    assert tally.hits == {"near": 1, "new": 0}
    assert tally.coverage == 4 / 5


def test_requests_of_one_user_are_drawn_together() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])
    users = ["ann", "ann", "ann", "bob"]
    found = clustered(users, {"hr": values}, resamples=500, seed=1)["hr"]
    # Drawn are ann and ann, ann and bob, or bob and bob: means of 1, 3/4 and 0.
    assert (found.mean, found.low, found.high) == (0.75, 0.0, 1.0)
    alone = clustered(["a", "b", "c", "d"], {"hr": values}, resamples=500, seed=1)["hr"]
    assert alone.mean == 0.75
    assert alone.low > 0.0
