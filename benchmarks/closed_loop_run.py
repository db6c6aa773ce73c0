"""The loop: visitors come, the ranker shows slates, what they do is in the features of the next.

What is shown is the slate of one arm. At each visit the slates of all other arms are made of the
very same state and valued by the truth, so that differences are paired and nothing of them is luck
but who came.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop_ranker import SURFACE, Ranker
from benchmarks.closed_loop_truth import (
    CourseValues,
    best_slate,
    course_values,
    examination,
    intents_of,
    slate_value,
)
from benchmarks.closed_loop_world import Catalogue, OnlineFeatures, PreparedWorld
from offline.simulator import naming
from offline.simulator.catalogue import UNLIMITED
from offline.simulator.live import LiveWorld
from offline.simulator.parameters import HOUR_MS, MINUTE_MS
from offline.simulator.scene import Visitor
from podium.event.v1 import event_pb2
from services.ranker.types import Placement, Slate

Floats = NDArray[np.float64]

COURSE = "course"
STEP_MS = 6 * HOUR_MS
STEPS_A_DAY = 4
ORACLE, TASTES, LOGGING = "oracle", "oracle without the intent", "logging policy"
LENGTH = 10
VISITORS_AT_ONCE = 8


@dataclass(frozen=True)
class NewCourse:
    """A course that was published in the loop, or opened again, and is on sale at the end of it.

    ``seen_ms`` are the times of its impressions in the loop; the guarantee counts those that it had
    before it opened again. ``placed``: how often the slot for new items was its since.
    """

    published_ms: int
    seen_ms: list[int]
    placed: int

    def impressions_within(self, within_ms: int) -> int:
        """Impressions by ``within_ms`` after it was published."""
        return sum(at_ms < self.published_ms + within_ms for at_ms in self.seen_ms)


@dataclass
class Found:
    """What a loop found: for each slate in turn who saw it, and by arm its value by the truth."""

    person: list[int] = field(default_factory=list)
    purchases: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    opens: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    revenue_minor: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    new_courses: list[NewCourse] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)


class Loop:
    """One continuation of a prepared world. ``shown`` is the arm whose slates are shown;
    ``follows``: the catalogue follows every few visitors, not once a step."""

    def __init__(
        self,
        prepared: PreparedWorld,
        features: OnlineFeatures,
        rankers: Sequence[Ranker],
        shown: str,
        *,
        follows: bool = False,
    ) -> None:
        self.world = prepared.copy_of_world()
        self._live = LiveWorld(self.world, run="loop")
        self._features = features
        self.rankers = rankers
        self._shown = shown
        self._follows = follows
        parameters = self.world.parameters
        self._start_ms = parameters.end_ms
        self._rng = np.random.default_rng([parameters.seed, 411])
        self._weights = examination(LENGTH, parameters.position_bias)
        self._catalogue = Catalogue(COURSE, rankers[0].view)
        self.tables = self._catalogue.take(features.catalogue(COURSE))
        # Of each course: the times of its impressions, and of those that the slot brought it.
        self._impressions: dict[str, list[int]] = defaultdict(list)
        self._placed: dict[str, list[int]] = defaultdict(list)
        self.found = Found()

    def run(self, days: int, slates: int) -> Found:
        """Shows ``slates`` slates, evenly over ``days``."""
        steps = days * STEPS_A_DAY
        for step in range(steps):
            now_ms = self._start_ms + (step + 1) * STEP_MS
            self._take(self._live.advance(now_ms), now_ms)
            self._refresh()
            count = (step + 1) * slates // steps - step * slates // steps
            visitors = self.visitors(count)
            for at in range(0, len(visitors), VISITORS_AT_ONCE):
                self._visit(visitors[at : at + VISITORS_AT_ONCE], now_ms)
        self.found.new_courses = self._new_courses(self._start_ms + steps * STEP_MS)
        return self.found

    def _take(self, events: Sequence[event_pb2.Event], now_ms: int) -> None:
        """Events into the features; they lie at most some seconds after ``now_ms``."""
        self._features.now_ms = now_ms + STEP_MS // 2
        self._features.add(events)
        self._features.now_ms = now_ms
        for event in events:
            self.found.events[event.type] += 1
            if event.type == "impression" and event.surface == SURFACE:
                self._impressions[event.entities[0].id].append(event.event_time.ToMilliseconds())

    def _refresh(self) -> None:
        self.tables = self._catalogue.take(self._features.catalogue(COURSE))
        for ranker in self.rankers:
            ranker.take(self.tables)

    def visitors(self, count: int) -> list[int]:
        """Different people with an account, drawn by how often they come."""
        people, now_ms = self.world.people, self._features.now_ms
        rate = people.rate[: people.accounts] * (people.joins_ms[: people.accounts] <= now_ms)
        drawn = self._rng.choice(people.accounts, count, replace=False, p=rate / rate.sum())
        return [int(person) for person in drawn]

    def _visit(self, visitors: Sequence[int], now_ms: int) -> None:
        users = [naming.user_id(person) for person in visitors]
        rank_ids = [self.world.new_rank_id(now_ms) for _ in visitors]
        slates: list[dict[str, Slate]] = [{} for _ in visitors]
        for ranker in self.rankers:
            for of_user, more in zip(slates, ranker.slates(users, rank_ids, LENGTH), strict=True):
                of_user.update(more)
        events: list[event_pb2.Event] = []
        for person, user, rank_id, of_user in zip(visitors, users, rank_ids, slates, strict=True):
            events += self._show(person, user, rank_id, of_user, now_ms)
        self._take(events, now_ms)
        if self._follows:
            # What these did lies within the minute.
            self._features.now_ms = now_ms + MINUTE_MS
            self._refresh()
            self._features.now_ms = now_ms

    def _show(
        self, person: int, user: str, rank_id: str, slates: Mapping[str, Slate], now_ms: int
    ) -> list[event_pb2.Event]:
        """Values every arm's slate, and shows one of them."""
        world = self.world
        likely = intents_of(world, person)
        by_intent = {
            intent: course_values(world, Visitor(person, signed_in=True, intent=intent), now_ms)
            for intent, _ in likely
        }
        intent = world.people.choose_intent(person, self._rng)
        values = by_intent[intent]
        rows = {arm: _rows(slate.ids) for arm, slate in slates.items()}
        expected = sum(chance * by_intent[about].purchases for about, chance in likely)
        rows[ORACLE] = best_slate(values.purchases, LENGTH).tolist()
        rows[TASTES] = best_slate(np.asarray(expected), LENGTH).tolist()
        rows[LOGGING] = world.compose(SURFACE, person, signed_in=True, now_ms=now_ms).items
        self._note(person, values, rows)
        shown = slates[self._shown]
        for id_, placement in zip(shown.ids, shown.placements, strict=False):
            if placement is Placement.NEW_ITEM:
                self._placed[id_].append(now_ms)
        return self._live.respond(
            user,
            SURFACE,
            shown.ids,
            rank_id=rank_id,
            now_ms=now_ms,
            rng=self._rng,
            intent=naming.category_names()[intent],
        )

    def _note(self, person: int, values: CourseValues, rows: Mapping[str, Sequence[int]]) -> None:
        found, weights = self.found, self._weights
        found.person.append(person)
        for arm, shown in rows.items():
            found.purchases[arm].append(slate_value(values.purchases, shown, weights))
            found.opens[arm].append(slate_value(values.opens, shown, weights))
            found.revenue_minor[arm].append(slate_value(values.revenue_minor, shown, weights))

    def _new_courses(self, end_ms: int) -> list[NewCourse]:
        catalogue = self.world.catalogue
        n = catalogue.courses
        new = catalogue.sellable(end_ms) & (catalogue.opens_ms[:n] >= self._start_ms)
        new &= catalogue.seats_left[:n] != UNLIMITED
        courses = []
        for row in np.flatnonzero(new).tolist():
            since_ms, id_ = int(catalogue.opens_ms[row]), naming.course_id(row)
            placed = sum(at_ms >= since_ms for at_ms in self._placed[id_])
            courses.append(NewCourse(since_ms, self._impressions[id_], placed))
        return courses


def _rows(ids: Sequence[str]) -> list[int]:
    return [int(id_.rpartition("_")[2]) for id_ in ids]
