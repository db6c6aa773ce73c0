"""When a training ends: by its epochs, or by its CPU time."""

import pytest

from offline.training.budget import CpuBudget, Progression


class Clock:
    """CPU time that stands still unless told to move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_budget_epochs_count() -> None:
    progression = Progression(4)
    assert progression.share(0.5) == 0.125
    progression.epoch = 3
    assert (progression.share(0.5), progression.done) == (0.875, False)
    progression.epoch = 4
    assert progression.done


def test_a_budget_counts_in_place_of_epochs() -> None:
    clock = Clock()
    progression = Progression(1, CpuBudget(10.0, clock))
    progression.epoch = 7
    assert (progression.share(0.9), progression.done) == (0.0, False)
    clock.now_s += 4.0
    assert progression.share(0.0) == pytest.approx(0.4)
    clock.now_s += 6.0
    assert (progression.share(0.0), progression.done) == (1.0, True)


def test_a_part_is_of_what_is_left() -> None:
    clock = Clock()
    budget = CpuBudget(10.0, clock)
    clock.now_s += 2.0
    part = budget.part(0.5)
    clock.now_s += 3.0
    assert (part.seconds, part.spent_s, budget.spent_s) == (4.0, 3.0, 5.0)
    clock.now_s += 90.0
    assert budget.part(0.5).seconds == 0.0
