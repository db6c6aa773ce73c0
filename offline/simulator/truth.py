"""What only the simulator knows, written apart from the log.

Per week boundary w (and at the end), in files ``cut_WWW_*.npy``: ``appeal`` float32 [users,
courses] (logits without the intent of a visit), ``buy_probability`` float32 (that a person who
opens the course page buys there and then, budget aside), ``eligible`` bool (not bought, on offer),
``interest`` float32 [users, categories], ``intended`` int32 [n, 2] (user and course row of late
purchases already decided on). ``parameters.json`` and ``cuts.json`` name the rest: users and
courses in order of rows and columns, categories, budgets, times in epoch milliseconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from offline.simulator import naming
from offline.simulator.appeal import course_appeal
from offline.simulator.scene import BUY_AFTER_CLICK
from offline.simulator.steps import BuyAttempt
from offline.simulator.world import World


class TruthWriter:
    """Observes a world at the start of each week; ``finish`` adds the state at the end."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._cuts: list[dict[str, int]] = []

    def observe(self, world: World, week: int, now_ms: int) -> None:
        """Writes the truth as of ``now_ms``; one row at a time is in memory."""
        users, courses = world.people.accounts, world.catalogue.courses
        shape = (users, courses)
        appeal = self._create(week, "appeal", np.float32, shape)
        probability = self._create(week, "buy_probability", np.float32, shape)
        eligible = self._create(week, "eligible", np.bool_, shape)
        sellable = world.catalogue.sellable(now_ms)
        slope, threshold = BUY_AFTER_CLICK
        for person in range(users):
            logits = course_appeal(
                world.parameters, world.people, world.catalogue, person, now_ms=now_ms
            )
            appeal[person] = logits
            probability[person] = 1.0 / (1.0 + np.exp(threshold - slope * logits))
            eligible[person] = sellable & ~world.people.bought[person][:courses]
        interests = self._create(week, "interest", np.float32, (users, world.people.categories))
        interests[:] = world.people.interests()[:users]
        decided = sorted(
            (step.person, step.course)
            for step in world.agenda.pending()
            if isinstance(step, BuyAttempt) and not step.rank_id
        )
        np.save(
            self._directory / f"cut_{week:03d}_intended.npy",
            np.array(decided, dtype=np.int32).reshape(-1, 2),
        )
        self._cuts.append({"week": week, "time_ms": now_ms, "courses": courses})

    def finish(self, world: World) -> None:
        """The state at the end of the log, and what the files mean."""
        parameters = world.parameters
        self.observe(world, parameters.weeks, parameters.end_ms)
        (self._directory / "parameters.json").write_text(
            json.dumps(parameters.as_dict(), indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        courses = range(world.catalogue.courses)
        description = {
            "cuts": self._cuts,
            "users": [naming.user_id(p) for p in range(world.people.accounts)],
            "courses": [naming.course_id(c) for c in courses],
            "topics": [world.catalogue.topic_names[world.catalogue.topic[c]] for c in courses],
            "categories": naming.category_names(),
            "weekly_budget_minor": world.people.weekly_budget_minor[
                : world.people.accounts
            ].tolist(),
        }
        (self._directory / "cuts.json").write_text(
            json.dumps(description, sort_keys=True) + "\n", encoding="utf-8"
        )

    def _create(
        self, week: int, name: str, dtype: type[np.generic], shape: tuple[int, int]
    ) -> np.ndarray[tuple[int, int], np.dtype[np.generic]]:
        path = self._directory / f"cut_{week:03d}_{name}.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
