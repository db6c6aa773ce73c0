"""People: interests that drift, budgets, skills, followed and blocked hosts.

All arrays are [P, ...] with P = accounts + guests; guests are the last rows and never buy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.simulator import naming
from offline.simulator.parameters import WorldParameters

Floats = NDArray[np.float32]

FOCUS_WEIGHTS = np.array([1.0, 0.75, 0.5], dtype=np.float32)
# Interest in a topic of a focus category is 2.6 x its weight above that in any other category.
FOCUS_GAIN = 2.6
OUTSIDE = -1.0
DRIFT_PER_WEEK = 0.25
# Chance that a visit is about what the visit before was about.
KEEP_INTENT = 0.7


class People:
    """State of everybody. ``courses_capacity`` and ``hosts_capacity`` bound ids ever used.

    ``focus`` int16 [P, 3] categories; ``topic_affinity`` float32 [P, topics]; ``skill`` int8
    [P, topics] highest level bought; ``host_affinity`` float32 [P, hosts]; ``bought`` bool
    [P, courses + 1] (the last column is always False: "no previous course"); money in minor units.
    """

    def __init__(
        self,
        parameters: WorldParameters,
        rng: np.random.Generator,
        hosts_capacity: int,
        courses_capacity: int,
    ) -> None:
        self.accounts = parameters.users
        self.count = parameters.users + parameters.guests
        count = self.count
        self.topic_category = np.array(naming.topic_categories())
        self.categories = len(naming.CATEGORIES)
        topics = len(self.topic_category)
        # A few categories are more common than others, as anywhere.
        share = np.linspace(1.6, 0.6, self.categories)
        keys = np.log(share / share.sum()) + rng.gumbel(size=(count, self.categories))
        self.focus = np.argsort(-keys, axis=1)[:, :3].astype(np.int16)
        self.topic_taste = rng.normal(0, 0.8, (count, topics)).astype(np.float32)
        self.topic_affinity = np.empty((count, topics), dtype=np.float32)
        for person in range(count):
            self.refresh_affinity(person)
        self.host_affinity = rng.normal(0, 0.5, (count, hosts_capacity)).astype(np.float32)
        self.following: list[set[int]] = [set() for _ in range(count)]
        self.blocked = np.zeros((count, hosts_capacity), dtype=bool)
        self.has_blocked = [False] * count
        self.skill = np.zeros((count, topics), dtype=np.int8)
        # Some people come with experience in what they like.
        known = rng.random((count, topics)) < 0.2
        self.skill[known] = 1
        self.bought = np.zeros((count, courses_capacity + 1), dtype=bool)
        self.disliked = np.zeros((count, courses_capacity + 1), dtype=bool)
        self.has_disliked = [False] * count
        self.preferred_log_price = rng.normal(np.log(3_500), 0.5, count).astype(np.float32)
        self.weekly_budget_minor = np.round(
            np.exp(rng.normal(np.log(16_000), 0.45, count) + 0.5 * self._price_lean()), -2
        ).astype(np.int64)
        self.spent_minor = np.zeros(count, dtype=np.int64)
        self.language = rng.choice(len(naming.LANGUAGES), count, p=[0.7, 0.2, 0.1]).astype(np.int8)
        self.rate = (
            rng.gamma(2.0, parameters.activity / 2.0, count).clip(0.2, None).astype(np.float64)
        )
        self.rate[self.accounts :] *= 0.3
        # Hour of the day around which a person's visits fall.
        self.favourite_hour = rng.normal(20, 3, count) % 24
        # A sixth of the accounts is opened while the log runs.
        self.joins_ms = np.full(count, parameters.start_ms, dtype=np.int64)
        late = rng.random(count) < 1 / 6
        length = parameters.end_ms - parameters.start_ms
        self.joins_ms[late] += (rng.random(int(late.sum())) * 0.8 * length).astype(np.int64)
        self.intent = np.full(count, -1, dtype=np.int16)
        self.seen_category = np.zeros((count, self.categories), dtype=np.float32)
        self.coupon_minor = np.zeros(count, dtype=np.int64)
        self.coupon_number = np.zeros(count, dtype=np.int64)
        self.coupon_until_ms = np.zeros(count, dtype=np.int64)
        self.exposed_until_ms = np.zeros(count, dtype=np.int64)
        salt = f"slate_policy_{parameters.seed}:"
        self.bucket = np.array(
            [naming.hash_fraction(salt + naming.user_id(p)) for p in range(count)]
        )

    def _price_lean(self) -> Floats:
        """Those who like dear courses also have more to spend."""
        lean: Floats = self.preferred_log_price - np.float32(np.log(3_500))
        return lean

    def refresh_affinity(self, person: int) -> None:
        """Recomputes a person's topic affinities from focus and taste."""
        strength = np.full(self.categories, OUTSIDE, dtype=np.float32)
        strength[self.focus[person]] += FOCUS_GAIN * FOCUS_WEIGHTS
        self.topic_affinity[person] = strength[self.topic_category] + self.topic_taste[person]

    def interests(self) -> Floats:
        """Latent interest in every category, float32 [P, categories]."""
        strength = np.full((self.count, self.categories), OUTSIDE, dtype=np.float32)
        np.put_along_axis(
            strength, self.focus.astype(np.int64), OUTSIDE + FOCUS_GAIN * FOCUS_WEIGHTS, axis=1
        )
        return strength

    def drift_one_day(self, drift: float, rng: np.random.Generator) -> None:
        """For those whose interests change today: another focus category, or another order."""
        changed = np.flatnonzero(rng.random(self.count) < drift * DRIFT_PER_WEEK / 7)
        for person in changed:
            focus = self.focus[person]
            if rng.random() < 0.3:
                focus[0], focus[1] = focus[1], focus[0]
            else:
                others = np.setdiff1d(np.arange(self.categories), focus)
                slot = int(rng.integers(3))
                # What is new is exciting: it takes the first place, and the slot's old one goes.
                kept = np.delete(focus, slot)
                self.focus[person] = np.concatenate([[rng.choice(others)], kept])
            self.refresh_affinity(int(person))
        # The policy's view of what somebody looked at fades.
        self.seen_category *= 0.93

    def choose_intent(self, person: int, rng: np.random.Generator) -> int:
        """The category this visit is about: often the one of the visit before."""
        previous = int(self.intent[person])
        focus = self.focus[person].tolist()
        chance = float(rng.random())
        if previous in focus and chance < KEEP_INTENT:
            return previous
        if previous in focus:
            chance = (chance - KEEP_INTENT) / (1 - KEEP_INTENT)
        chosen = int(focus[(chance >= 0.5) + (chance >= 0.8)])
        self.intent[person] = chosen
        return chosen

    def block(self, person: int, host: int) -> None:
        """Nothing of this host appeals to the person, or is shown to them, any more."""
        self.blocked[person, host] = True
        self.has_blocked[person] = True

    def dislike(self, person: int, course: int, host: int) -> None:
        """The person was disappointed and gets money back."""
        self.disliked[person, course] = True
        self.has_disliked[person] = True
        self.host_affinity[person, host] -= 0.8

    def new_week(self) -> None:
        """Budgets start again."""
        self.spent_minor[:] = 0
