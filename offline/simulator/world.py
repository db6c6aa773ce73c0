"""The live-course world: state, and what happens at every step of the agenda.

Time comes from the steps alone. ``World.run_until`` yields records in the order of their times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from offline.simulator import naming, policy, steps
from offline.simulator.agenda import Agenda
from offline.simulator.behaviour import Behaviour
from offline.simulator.catalogue import Catalogue
from offline.simulator.changes import CatalogueChanges
from offline.simulator.jobs import weekly_profiles
from offline.simulator.parameters import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS, WorldParameters
from offline.simulator.people import People
from offline.simulator.records import ExposureData, Record, SlateData
from offline.simulator.rooms import TICK_MS, Rooms
from offline.simulator.scene import Planned, Visitor
from offline.simulator.shop import Shop

SURFACES = ("courses", "rooms", "videos", "hosts")
# Shares of 42, 28, 18 and 12 %.
SURFACE_CUTS = (0.42, 0.70, 0.88)
SLATE_LENGTH = {"courses": 10, "rooms": 8, "videos": 8, "hosts": 6}
WeekObserver = Callable[["World", int, int], None]


class World:
    """One simulated world. ``observer`` is told (world, week, time_ms) as each week begins."""

    def __init__(
        self, parameters: WorldParameters, *, observer: WeekObserver | None = None
    ) -> None:
        self.parameters = parameters
        self.rng = np.random.default_rng([parameters.seed, 20])
        self.catalogue = Catalogue(parameters)
        self.people = People(
            parameters,
            self.rng,
            self.catalogue.hosts_capacity,
            self.catalogue.courses_capacity,
        )
        self.agenda: Agenda[steps.Step] = Agenda()
        self.ids = naming.EventIds(
            naming.seeded_ulid(parameters.start_ms, repr(parameters))[-10:] + "-"
        )
        self.rooms = Rooms(parameters, self.catalogue, self.agenda, self.emit, self.rng)
        self.changes = CatalogueChanges(
            parameters, self.catalogue, self.rooms, self.agenda, self.emit, self.rng
        )
        self.behaviour = Behaviour(parameters, self.people, self.catalogue, self.rooms)
        self.shop = Shop(
            parameters,
            self.people,
            self.catalogue,
            self.rooms,
            self.agenda,
            self.emit,
            self.ids,
            self.rng,
        )
        self.observer = observer
        # Background visits; the live world switches them off.
        self.visits = True
        self._records: list[Record] = []
        self._known_courses = 0
        self._ticks = 0
        self._open(parameters.start_ms)

    def run_until(self, end_ms: int) -> Iterator[list[Record]]:
        """Yields the records of step after step, while steps lie before ``end_ms``."""
        if self._records:
            yield self.take_records()
        while (due := self.agenda.pop_before(end_ms)) is not None:
            self.execute(*due)
            if self._records:
                yield self.take_records()

    def take_records(self) -> list[Record]:
        """Records emitted since the last call."""
        records, self._records = self._records, []
        return records

    def emit(self, time_ms: int, record: Record) -> None:
        """Stamps a record with time and id."""
        record.time_ms = time_ms
        record.event_id = self.ids.new()
        self._records.append(record)

    def execute(self, now_ms: int, step: steps.Step) -> None:
        """Makes one step happen."""
        match step:
            case steps.Happen(record):
                self.emit(now_ms, record)
            case steps.ShowSlate():
                if self.visits:
                    self._show_slate(now_ms, step)
            case steps.Visit():
                if self.visits:
                    self._visit(now_ms, step)
            case steps.BuyAttempt():
                self.shop.buy(now_ms, step)
            case steps.RefundDue():
                self.shop.refund(now_ms, step)
            case steps.LeaveRoom(number, record):
                room = self.rooms.all.get(number)
                if room is not None:
                    room.inside = max(0, room.inside - 1)
                self.emit(now_ms, record)
            case steps.RoomTick():
                self._ticks += 1
                if self._ticks % 4 == 0:
                    self.catalogue.refresh_hotness(4 * TICK_MS)
                self.rooms.tick(now_ms)
            case steps.RoomStart(number):
                self.rooms.start(number, now_ms)
            case steps.RoomHeartbeat(number):
                self.rooms.heartbeat(number, now_ms)
            case steps.RoomSwitch(number):
                self.rooms.switch(number, now_ms)
            case steps.RoomEnd(number):
                self.rooms.end(number, now_ms)
            case steps.RoomRemoval(number):
                self.rooms.removal(number, now_ms)
            case steps.CatalogueChange(kind, row):
                self.changes.make(now_ms, kind, row)
            case steps.DayBegins(number):
                self._day(now_ms, number)

    def new_rank_id(self, now_ms: int) -> str:
        """A ULID that depends on the world and the count of ids so far."""
        return naming.seeded_ulid(now_ms, self.ids.new())

    def compose(self, surface: str, person: int, *, signed_in: bool, now_ms: int) -> policy.Slate:
        """The slate that the logging policy shows."""
        catalogue, people = self.catalogue, self.people
        following = np.zeros(catalogue.hosts, dtype=bool)
        variant = policy.VARIANTS[0]
        good = catalogue.sellable(now_ms)
        blocked = people.blocked[person][: catalogue.hosts]
        if signed_in:
            variant = policy.variant_of(people.bucket[person])
            following[list(people.following[person])] = True
            good &= ~people.bought[person][: catalogue.courses]
            if people.has_blocked[person]:
                good &= ~blocked.take(catalogue.host[: catalogue.courses])
        items: NDArray[np.int64]
        selling: NDArray[np.int64]
        if surface == "hosts":
            items = np.arange(catalogue.hosts)
            selling = items
            candidates = policy.Candidates(
                catalogue.host_quality[items] * np.float32(2.0),
                catalogue.host_category[items],
                following,
                ~catalogue.host_withdrawn[items] & ~blocked,
            )
        else:
            if surface == "courses":
                items = selling = np.arange(catalogue.courses)
                hot, allowed = catalogue.hotness[items], good
            elif surface == "videos":
                items = np.arange(catalogue.videos)
                selling = catalogue.video_course[items].astype(np.int64)
                hot = catalogue.hotness[selling]
                allowed = good[selling] & ~catalogue.video_withdrawn[items]
            else:
                rooms = list(self.rooms.live.values())
                items = np.array([room.number for room in rooms], dtype=np.int64)
                selling = np.array([room.selling for room in rooms], dtype=np.int64)
                audience = np.array([room.audience + room.inside for room in rooms])
                hot = self.rooms.heat(audience) + np.float32(0.5) * catalogue.hotness[selling]
                allowed = good[selling]
            candidates = policy.Candidates(
                hot,
                catalogue.category[selling],
                following[catalogue.host[selling]],
                allowed,
            )
        rows, values, sources = policy.order(
            candidates,
            people.seen_category[person],
            k=SLATE_LENGTH[surface],
            personal_weight=min(1.0, self.parameters.personal_signal),
            variant=variant,
            rng=self.rng,
        )
        sold = [-1] * len(rows) if surface == "hosts" else selling[rows].tolist()
        entity = surface.removesuffix("s")
        return policy.Slate(entity, items[rows].tolist(), sold, values, sources)

    def put_planned(self, now_ms: int, planned: Planned) -> None:
        """Puts steps on the agenda, ``offset`` after ``now_ms``."""
        for offset, step in planned:
            self.agenda.put(now_ms + offset, step)

    def _open(self, now_ms: int) -> None:
        """The catalogue of the first day, rooms on air, and the first day's plan."""
        self.changes.open(now_ms)
        self.rooms.tick(now_ms, immediately=True)
        self.agenda.put(now_ms, steps.DayBegins(0))

    def _day(self, now_ms: int, number: int) -> None:
        parameters, rng, people = self.parameters, self.rng, self.people
        if number % 7 == 0:
            if number:
                self._write_profiles(now_ms, number // 7)
            self._known_courses = self.catalogue.courses
            people.new_week()
            if self.observer is not None:
                self.observer(self, number // 7, now_ms)
        self.agenda.put(now_ms + DAY_MS, steps.DayBegins(number + 1))
        if number:
            people.drift_one_day(parameters.drift, rng)
        self.changes.plan_day(now_ms)
        if not self.visits:
            return
        counts = rng.poisson(people.rate / 7)
        counts[people.joins_ms > now_ms] = 0
        visitors = np.repeat(np.arange(people.count), counts)
        hour = people.favourite_hour[visitors] + rng.normal(0, 2.5, len(visitors))
        offset = ((hour * HOUR_MS - now_ms) % DAY_MS).astype(np.int64)
        known = (visitors < people.accounts) & (
            rng.random(len(visitors)) >= parameters.anonymous_share
        )
        for person, later, signed_in in zip(
            visitors.tolist(), offset.tolist(), known.tolist(), strict=True
        ):
            self.agenda.put(now_ms + later, steps.Visit(person, signed_in))

    def _write_profiles(self, now_ms: int, week: int) -> None:
        known = self._known_courses
        for record in weekly_profiles(self.people, self.catalogue, known, week, now_ms):
            self.emit(now_ms, record)

    def _visit(self, now_ms: int, visit: steps.Visit) -> None:
        rng, people = self.rng, self.people
        person, signed_in = visit.person, visit.signed_in
        intent = people.choose_intent(person, rng)
        visitor = Visitor(person, signed_in, intent)
        session = f"session_{self.ids.new()}"
        chance = rng.random(7).tolist()
        if signed_in and chance[0] < 0.1:
            self.shop.offer_coupon(now_ms, person)
        if signed_in and chance[1] < 0.12 and people.following[person]:
            self.put_planned(now_ms + 400, self.behaviour.join_followed(visitor, now_ms + 400, rng))
        slates = 1 + (chance[2] < 0.4) + (chance[2] < 0.1)
        at = now_ms + 1_000
        for number in range(int(slates)):
            surface = SURFACES[bisect_right(SURFACE_CUTS, chance[4 + number])]
            self.agenda.put(at, steps.ShowSlate(person, signed_in, surface, intent, session))
            at += int((2 + 5 * float(rng.random())) * MINUTE_MS)
        if chance[3] < 0.25:
            self.put_planned(at, self.behaviour.search(visitor, at, rng))

    def _show_slate(self, now_ms: int, step: steps.ShowSlate) -> None:
        person, signed_in = step.person, step.signed_in
        slate = self.compose(step.surface, person, signed_in=signed_in, now_ms=now_ms)
        rank_id = self.new_rank_id(now_ms)
        bucket = float(self.people.bucket[person])
        variant = policy.variant_of(bucket) if signed_in else ""
        self.emit(
            now_ms,
            Record(
                "slate_served",
                person,
                signed_in,
                rank_id,
                surface=step.surface,
                payload=SlateData(
                    slate.entity_type,
                    [naming.entity_id(slate.entity_type, item) for item in slate.items],
                    [naming.course_id(c) for c in slate.selling if c >= 0],
                    slate.sources,
                    slate.values,
                    step.session_id,
                    variant,
                    bucket,
                ),
            ),
        )
        if signed_in and now_ms >= self.people.exposed_until_ms[person]:
            self.people.exposed_until_ms[person] = now_ms + WEEK_MS
            exposure = ExposureData(variant, bucket)
            self.emit(
                now_ms,
                Record("exposure", person, True, rank_id, surface=step.surface, payload=exposure),
            )
        visitor = Visitor(person, signed_in, step.intent)
        planned = self.behaviour.react(
            visitor,
            slate,
            surface=step.surface,
            rank_id=rank_id,
            now_ms=now_ms,
            rng=self.rng,
        )
        self.put_planned(now_ms, planned)
