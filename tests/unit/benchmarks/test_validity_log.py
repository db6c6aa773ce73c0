"""What is measured from the log of a world is the world's own."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.validity_log import differences, domain_of_worlds, run
from benchmarks.validity_worlds import every_world

WORLDS = {world.name: world for world in every_world()}


def test_a_world_of_clusters_comes_through_the_log_as_it_was() -> None:
    assert run(WORLDS["clusters_6"], 0, 5, domain_of_worlds()) == []


def test_a_burn_in_leaves_whom_it_should() -> None:
    assert run(WORLDS["carry_over"], 0, 5, domain_of_worlds()) == []


def test_what_differs_is_named() -> None:
    world = WORLDS["clusters_6"]
    outcomes = world.draw(5, 0)
    assert outcomes.clusters is not None
    other = replace(outcomes, values=outcomes.values + 1.0 * outcomes.treated)
    assert {"values", "clustered"} <= set(differences(world, outcomes, other))
    merged = replace(outcomes, clusters=outcomes.clusters // 2)
    assert "clusters" in differences(world, outcomes, merged)
