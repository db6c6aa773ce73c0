"""Hosts, courses and videos as columns. Rows are never removed: a withdrawn one stays withdrawn.

Columns are allocated once, with room for the arrivals of the log and four weeks beyond.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.simulator import naming
from offline.simulator.parameters import DAY_MS, HOUR_MS, WEEK_MS, WorldParameters
from offline.simulator.records import Record, UpsertData

NEVER_MS = 1 << 62
UNLIMITED = -1
# In logits on the first day; it falls by e in a week.
NOVELTY = 1.3
NOVELTY_DAYS = 7.0


class Catalogue:
    """All catalogue state. Prices in minor units; ``seats_left`` is ``UNLIMITED`` where any number
    may enrol; times in epoch milliseconds. ``previous_course`` is the lower level of the same
    series, or ``courses_capacity`` when there is none."""

    def __init__(self, parameters: WorldParameters) -> None:
        grown = 1 + parameters.arrival_rate * (parameters.weeks + 4)
        self.courses_capacity = int(parameters.courses * grown) + 50
        self.hosts_capacity = parameters.hosts + parameters.weeks + 8
        self.videos_capacity = 2 * self.courses_capacity
        self.parameters = parameters
        self.topic_names = naming.topic_names()
        self.topic_category = np.array(naming.topic_categories())
        self.category_names = naming.category_names()
        hosts = self.hosts_capacity
        self.hosts = 0
        self.host_category = np.zeros(hosts, dtype=np.int16)
        self.host_quality = np.zeros(hosts, dtype=np.float32)
        self.host_language = np.zeros(hosts, dtype=np.int8)
        self.host_withdrawn = np.zeros(hosts, dtype=bool)
        self.host_topics: list[list[int]] = []
        self.host_courses: list[list[int]] = []
        size = self.courses_capacity
        self.courses = 0
        self.topic = np.zeros(size, dtype=np.int16)
        self.category = np.zeros(size, dtype=np.int16)
        self.host = np.zeros(size, dtype=np.int32)
        self.level = np.zeros(size, dtype=np.int8)
        self.price_minor = np.zeros(size, dtype=np.int64)
        self.log_price = np.zeros(size, dtype=np.float32)
        self.quality = np.zeros(size, dtype=np.float32)
        self.launched_ms = np.zeros(size, dtype=np.int64)
        self.withdrawn = np.zeros(size, dtype=bool)
        self.seats_left = np.full(size, UNLIMITED, dtype=np.int32)
        self.opens_ms = np.zeros(size, dtype=np.int64)
        self.closes_ms = np.full(size, NEVER_MS, dtype=np.int64)
        self.previous_course = np.full(size, size, dtype=np.int32)
        self.course_language = np.zeros(size, dtype=np.int8)
        self.interest = np.zeros(size, dtype=np.float32)
        self.hotness = np.zeros(size, dtype=np.float32)
        self._novelty_key = (-1, -1)
        self._novelty = np.zeros(0, dtype=np.float32)
        self.videos = 0
        self.video_course = np.zeros(self.videos_capacity, dtype=np.int32)
        self.video_duration_ms = np.zeros(self.videos_capacity, dtype=np.int64)
        self.video_withdrawn = np.zeros(self.videos_capacity, dtype=bool)

    def sellable(self, now_ms: int) -> NDArray[np.bool_]:
        """bool [courses]: not withdrawn, seats left, enrolment open."""
        n = self.courses
        good: NDArray[np.bool_] = (
            ~self.withdrawn[:n]
            & (self.seats_left[:n] != 0)
            & (self.opens_ms[:n] <= now_ms)
            & (self.closes_ms[:n] > now_ms)
        )
        return good

    def novelty(self, now_ms: int) -> NDArray[np.float32]:
        """float32 [courses]: what is new attracts, less each day; computed anew every hour."""
        key = (now_ms // HOUR_MS, self.courses)
        if key != self._novelty_key:
            self._novelty_key = key
            # As of the full hour: who asks first in an hour must not matter.
            hour_ms = now_ms // HOUR_MS * HOUR_MS
            age_days = np.maximum(hour_ms - self.launched_ms[: self.courses], 0) / DAY_MS
            self._novelty = (NOVELTY * np.exp(-age_days / NOVELTY_DAYS)).astype(np.float32)
        return self._novelty

    def is_sellable(self, course: int, now_ms: int) -> bool:
        """The same for one course."""
        return bool(
            not self.withdrawn[course]
            and self.seats_left[course] != 0
            and self.opens_ms[course] <= now_ms < self.closes_ms[course]
        )

    def add_host(self, rng: np.random.Generator) -> Record | None:
        """A new host, or None at capacity."""
        if self.hosts >= self.hosts_capacity:
            return None
        index = self.hosts
        self.hosts += 1
        category = index % len(self.category_names)
        topics = np.flatnonzero(self.topic_category == category)
        self.host_category[index] = category
        self.host_quality[index] = rng.normal(0, 0.4)
        self.host_language[index] = rng.choice(len(naming.LANGUAGES), p=[0.75, 0.17, 0.08])
        self.host_topics.append([int(t) for t in rng.choice(topics, 3, replace=False)])
        self.host_courses.append([])
        return self.host_upsert(index)

    def add_course(self, now_ms: int, rng: np.random.Generator) -> Record | None:
        """A new course: the next level of a series, or the first of a new one. None at capacity."""
        if self.courses >= self.courses_capacity:
            return None
        hosts = np.flatnonzero(~self.host_withdrawn[: self.hosts])
        host = int(rng.choice(hosts))
        own = [c for c in self.host_courses[host] if not self.withdrawn[c]]
        last: dict[int, int] = {}
        for course in own:
            topic = int(self.topic[course])
            if topic not in last or self.level[course] > self.level[last[topic]]:
                last[topic] = course
        open_series = [c for c in last.values() if self.level[c] < 3]
        index = self.courses
        if open_series and rng.random() < 0.65:
            before = open_series[int(rng.integers(len(open_series)))]
            topic, level = int(self.topic[before]), int(self.level[before]) + 1
            self.previous_course[index] = before
            base = float(self.price_minor[before]) * 1.25
        else:
            free = [t for t in self.host_topics[host] if t not in last]
            if free:
                topic = free[int(rng.integers(len(free)))]
            else:
                near = np.flatnonzero(self.topic_category == self.host_category[host])
                topic = int(rng.choice(near))
            level = int(rng.choice(3, p=[0.8, 0.15, 0.05])) + 1
            base = float(np.exp(rng.normal(np.log(3_200), 0.5)))
        self.courses += 1
        self.topic[index] = topic
        self.category[index] = self.topic_category[topic]
        self.host[index] = host
        self.level[index] = level
        self.host_courses[host].append(index)
        self.set_price(index, base)
        self.quality[index] = rng.normal(0, 0.5) + self.host_quality[host]
        self.launched_ms[index] = now_ms
        self.course_language[index] = self.host_language[host]
        # Before anybody bought, what attracts is the fame of the host, and luck.
        usual = float(np.median(self.interest[:index])) if index > 20 else 1.5
        self.interest[index] = usual * np.exp(rng.normal(float(self.host_quality[host]), 0.7))
        if rng.random() < 0.25:
            self.seats_left[index] = int(rng.integers(8, 40))
            self.opens_ms[index] = now_ms
            self.closes_ms[index] = now_ms + int(rng.integers(10, 24)) * DAY_MS
        return self.course_upsert(index)

    def add_video(self, rng: np.random.Generator) -> Record | None:
        """A new short video about a course on offer, or None at capacity."""
        courses = np.flatnonzero(~self.withdrawn[: self.courses])
        if self.videos >= self.videos_capacity or not len(courses):
            return None
        index = self.videos
        self.videos += 1
        newest = rng.random() < 0.5
        course = int(courses[-1 - int(len(courses) * rng.random() ** 2)] if newest else 0)
        if not newest:
            course = int(rng.choice(courses))
        self.video_course[index] = course
        self.video_duration_ms[index] = int(rng.integers(40, 240)) * 1_000
        host = int(self.host[course])
        topic = self.topic_names[self.topic[course]]
        return Record(
            "entity_upsert",
            entities=(("video", naming.video_id(index)),),
            payload=UpsertData(
                {
                    "title": naming.video_title(topic, naming.host_name(host), index),
                    "host_id": naming.host_id(host),
                    "course_id": naming.course_id(course),
                    "category": self.category_names[self.category[course]],
                    "duration_ms": int(self.video_duration_ms[index]),
                }
            ),
        )

    def set_price(self, course: int, price_minor: float) -> None:
        """Rounds to a price as shops write them (…90) and stores it."""
        rounded = max(490, int(price_minor // 100) * 100 + 90)
        self.price_minor[course] = min(rounded, 29_990)
        self.log_price[course] = np.log(self.price_minor[course])

    def reopen(self, course: int, now_ms: int, rng: np.random.Generator) -> Record:
        """A new cohort: seats and enrolment window start again."""
        self.seats_left[course] = int(rng.integers(8, 40))
        self.opens_ms[course] = now_ms
        self.closes_ms[course] = now_ms + int(rng.integers(10, 24)) * DAY_MS
        return Record(
            "entity_upsert",
            entities=(("course", naming.course_id(course)),),
            payload=UpsertData(
                {},
                seats_left=int(self.seats_left[course]),
                opens_ms=int(self.opens_ms[course]),
                closes_ms=int(self.closes_ms[course]),
            ),
        )

    def host_upsert(self, host: int) -> Record:
        """The host as it is now."""
        return Record(
            "entity_upsert",
            entities=(("host", naming.host_id(host)),),
            payload=UpsertData(
                {
                    "title": naming.host_name(host),
                    "category": self.category_names[self.host_category[host]],
                },
                language=naming.LANGUAGES[self.host_language[host]],
            ),
        )

    def course_upsert(self, course: int) -> Record:
        """The course as it is now, every attribute."""
        host = int(self.host[course])
        level = int(self.level[course])
        topic = self.topic_names[self.topic[course]]
        limited = self.seats_left[course] != UNLIMITED
        return Record(
            "entity_upsert",
            entities=(("course", naming.course_id(course)),),
            payload=UpsertData(
                {
                    "title": naming.course_title(topic, level, naming.host_name(host)),
                    "host_id": naming.host_id(host),
                    "category": self.category_names[self.category[course]],
                    "level": level,
                },
                price_minor=int(self.price_minor[course]),
                seats_left=int(self.seats_left[course]) if limited else None,
                language=naming.LANGUAGES[self.course_language[course]],
                opens_ms=int(self.opens_ms[course]) if limited else None,
                closes_ms=int(self.closes_ms[course]) if limited else None,
            ),
        )

    def refresh_hotness(self, elapsed_ms: int) -> None:
        """Standardises the logarithm of recent interest, which fades with a half-life of 5 days."""
        n = self.courses
        self.interest[:n] *= np.float32(0.5 ** (elapsed_ms / (5 * DAY_MS)))
        values = np.log1p(self.interest[:n])
        spread = float(values.std()) or 1.0
        self.hotness[:n] = np.clip((values - values.mean()) / spread, -2.5, 2.5)

    def first_weeks(self, rng: np.random.Generator, start_ms: int) -> None:
        """Spreads the launch of the courses there are over the ten weeks before ``start_ms``."""
        n = self.courses
        ages = np.sort(rng.random(n))[::-1] * 10 * WEEK_MS
        self.launched_ms[:n] = start_ms - ages.astype(np.int64)
