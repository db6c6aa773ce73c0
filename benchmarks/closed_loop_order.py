"""Position bias: what a bundle makes of places on the screen, held against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop_ranker import Ranker
from benchmarks.closed_loop_truth import Floats, course_values, intents_of
from offline.simulator import naming
from offline.simulator.scene import Visitor
from offline.simulator.world import World

CLICK = "click"


def orders(
    world: World, rankers: Mapping[str, Ranker], people: Sequence[int], now_ms: int
) -> dict[str, Floats]:
    """Rank correlation (Spearman) of predicted with true chances that an examined course is opened,
    over the courses on offer, of each of n people: float64 [n] by way of training.

    Of each ranker the first arm is judged. The truth leaves open what the visit will be about.
    """
    found: dict[str, list[float]] = {way: [] for way in rankers}
    for person in people:
        chance = opening(world, person, now_ms)
        bought = world.people.bought[person][: len(chance)]
        offered = np.flatnonzero(world.catalogue.sellable(now_ms) & ~bought)
        ids = [naming.course_id(row) for row in offered.tolist()]
        for way, ranker in rankers.items():
            predicted = ranker.predictions(naming.user_id(person), ids)[CLICK].astype(np.float64)
            kept = np.isfinite(predicted)
            found[way].append(spearman(predicted[kept], chance[offered][kept]))
    return {way: np.array(values) for way, values in found.items()}


def opening(world: World, person: int, now_ms: int) -> Floats:
    """Chance float64 [courses] that a person opens a course that is examined on the next visit."""
    likely = intents_of(world, person)
    parts = [
        chance * course_values(world, Visitor(person, signed_in=True, intent=intent), now_ms).opens
        for intent, chance in likely
    ]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def learned_curve(
    at: Sequence[Ranker], people: Sequence[int], ids: Sequence[str]
) -> NDArray[np.float64]:
    """Mean predicted chance of a click at each position, as a share of that at the first.

    ``at[p]`` predicts for position p (``Positioned``).
    """
    users = [naming.user_id(person) for person in people]
    means = [
        float(np.nanmean([ranker.predictions(user, ids)[CLICK] for user in users])) for ranker in at
    ]
    return np.array(means) / means[0]


def spearman(first: Floats, second: Floats) -> float:
    """Rank correlation of two lists of numbers; equal ones in the order of the list."""
    ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
