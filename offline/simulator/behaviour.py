"""What a person does with a slate: examine by position, click or enter by appeal, watch, talk,
follow, put into the cart, buy now or days later.

Every function returns steps with an offset in milliseconds. What a person comes to like, follow or
block takes effect at once; money, seats and rooms are settled when a ``BuyAttempt`` happens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline.simulator import naming
from offline.simulator.appeal import course_appeal, host_appeal, logistic
from offline.simulator.catalogue import Catalogue
from offline.simulator.parameters import DAY_MS, WorldParameters
from offline.simulator.people import People
from offline.simulator.policy import Slate
from offline.simulator.records import AttributeScalar, EntityReference, Record
from offline.simulator.rooms import Rooms
from offline.simulator.steps import BuyAttempt, Happen, LeaveRoom, Step

Planned = list[tuple[int, Step]]

# Logit = slope x appeal - threshold.
CLICK = {"course": (0.75, 1.0), "room": (0.7, 0.9), "video": (0.7, 0.6), "host": (0.8, 0.7)}
BUY_AFTER_CLICK = (0.9, 1.7)
BUY_IN_ROOM = (0.9, 2.1)
BUY_AFTER_VIDEO = (0.9, 3.4)
ALREADY_BOUGHT = -6.0
COUPON_PULL = 0.6


@dataclass(slots=True, frozen=True)
class Visitor:
    """Who looks at a slate; ``intent`` is the category of this visit, -1 for none."""

    person: int
    signed_in: bool
    intent: int


class Behaviour:
    """Reads the world's state; see the module."""

    def __init__(
        self,
        parameters: WorldParameters,
        people: People,
        catalogue: Catalogue,
        rooms: Rooms,
    ) -> None:
        self.parameters = parameters
        self.people = people
        self.catalogue = catalogue
        self.rooms = rooms

    def appeal(self, visitor: Visitor, now_ms: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Logits float32 [courses] for the visitor now; what was bought appeals no more."""
        n = self.catalogue.courses
        logits = course_appeal(
            self.parameters,
            self.people,
            self.catalogue,
            visitor.person,
            now_ms,
            visitor.intent,
        )
        return np.where(self.people.bought[visitor.person][:n], np.float32(ALREADY_BOUGHT), logits)

    def react(
        self,
        visitor: Visitor,
        surface: str,
        slate: Slate,
        rank_id: str,
        now_ms: int,
        rng: np.random.Generator,
    ) -> Planned:
        """Everything that follows from one slate, impressions included."""
        planned: Planned = []
        if not slate.items:
            return planned
        kind = slate.entity_type
        appeal = self.appeal(visitor, now_ms)
        if kind == "host":
            worth = host_appeal(
                self.parameters, self.people, self.catalogue, visitor.person, visitor.intent
            )[slate.items]
        else:
            worth = appeal[slate.selling]
        seen = min(len(slate.items), 2 + int(rng.geometric(0.25)))
        chance = rng.random((seen, 3))
        examined = chance[:, 0] < (1.0 + np.arange(seen)) ** -self.parameters.position_bias
        slope, threshold = CLICK[kind]
        wanted = chance[:, 1] < 1.0 / (1.0 + np.exp(threshold - slope * worth[:seen]))
        offset = 300
        for position in range(seen):
            item = slate.items[position]
            course = slate.selling[position]
            entities = self._entities(kind, item, course)
            base = _Context(visitor, surface, rank_id, position, entities)
            offset += 400 + int(500 * chance[position, 2])
            planned.append((offset, base.happen("impression")))
            if examined[position] and wanted[position]:
                offset += 1_500
                fit = float(worth[position])
                if kind == "course":
                    offset += self._open_course(base, course, fit, offset, planned, rng)
                elif kind == "room":
                    offset += self._enter_room(base, item, now_ms, fit, offset, planned, rng)
                elif kind == "video":
                    offset += self._play_video(base, item, course, fit, offset, planned, rng)
                else:
                    offset += self._open_host(base, item, now_ms, appeal, offset, planned, rng)
            elif examined[position]:
                self._reject(base, kind, course, item, float(worth[position]), offset, planned, rng)
        return planned

    def search(self, visitor: Visitor, now_ms: int, rng: np.random.Generator) -> Planned:
        """Looks for something particular, opens what fits best, and often buys it."""
        n = self.catalogue.courses
        logits = self.appeal(visitor, now_ms)
        logits = np.where(self.catalogue.sellable(now_ms), logits, np.float32(-1e9))
        keys = 1.3 * logits + rng.gumbel(size=n)
        course = int(np.argmax(keys))
        query = self.catalogue.topic_names[self.catalogue.topic[course]].lower()
        outside = _Context(visitor, "", "", -1, self._entities("course", course, course))
        planned: Planned = [
            (0, _Context(visitor, "", "", -1, ()).happen("search", {"query": query}))
        ]
        self._open_course(outside, course, float(logits[course]) + 0.5, 6_000, planned, rng)
        return planned

    def join_followed(self, visitor: Visitor, now_ms: int, rng: np.random.Generator) -> Planned:
        """Enters the live room of a followed host without any slate."""
        planned: Planned = []
        following = self.people.following[visitor.person]
        rooms = [room for room in self.rooms.live.values() if room.host in following]
        if rooms:
            room = rooms[int(rng.integers(len(rooms)))]
            fit = float(self.appeal(visitor, now_ms)[room.selling])
            entities = self._entities("room", room.number, room.selling)
            context = _Context(visitor, "", "", -1, entities)
            self._enter_room(context, room.number, now_ms, fit, 500, planned, rng)
        return planned

    def _entities(self, kind: str, item: int, course: int) -> tuple[EntityReference, ...]:
        if kind == "host":
            return (("host", naming.host_id(item)),)
        of_course = (
            ("course", naming.course_id(course)),
            ("host", naming.host_id(int(self.catalogue.host[course]))),
        )
        if kind == "room":
            return (("room", naming.room_id(item)), *of_course)
        if kind == "video":
            return (("video", naming.video_id(item)), *of_course)
        return of_course

    def _note_interest(self, visitor: Visitor, course: int, amount: float) -> None:
        self.people.seen_category[visitor.person, self.catalogue.category[course]] += amount
        self.catalogue.interest[course] += np.float32(0.15 * amount)

    def _open_course(
        self,
        context: _Context,
        course: int,
        fit: float,
        offset: int,
        planned: Planned,
        rng: np.random.Generator,
    ) -> int:
        """A course page; returns how long the person stayed, in milliseconds."""
        self._note_interest(context.visitor, course, 1.0)
        planned.append((offset, context.happen("click")))
        chance = rng.random(6)
        stay = 5_000 + int(rng.exponential(15_000))
        if chance[0] < 0.2 + 0.5 * logistic(fit - 1.0):
            watched = int(rng.lognormal(np.log(50_000) + 0.25 * np.clip(fit, -3, 3), 0.6))
            stay += watched
            planned.append((offset + stay, context.happen("watch", {"duration_ms": watched})))
        if chance[1] < 0.12 * logistic(fit):
            planned.append((offset + stay + 500, context.happen("like")))
        if chance[2] < 0.03 * logistic(fit):
            planned.append((offset + stay + 900, context.happen("share")))
        self._consider_buying(
            context, course, fit, BUY_AFTER_CLICK, offset + stay, planned, rng, cart=chance[3]
        )
        return stay + 2_000

    def _consider_buying(
        self,
        context: _Context,
        course: int,
        fit: float,
        rule: tuple[float, float],
        offset: int,
        planned: Planned,
        rng: np.random.Generator,
        *,
        cart: float,
        room: int = -1,
        video: int = -1,
    ) -> None:
        """Cart and a purchase now (with the slate's rank_id) or days later (without)."""
        if not context.visitor.signed_in:
            return
        person = context.visitor.person
        pull = COUPON_PULL if self.people.coupon_minor[person] else 0.0
        slope, threshold = rule
        chance = rng.random(2)
        if chance[0] < logistic(slope * fit + pull - threshold):
            if cart < 0.45:
                planned.append((offset + 2_000, context.happen("cart")))
            attempt = BuyAttempt(
                person, course, fit, room, video, context.rank_id, context.position, context.surface
            )
            planned.append((offset + 4_000 + int(rng.exponential(40_000)), attempt))
        elif chance[1] < self.parameters.late_purchases * logistic(fit - 0.5):
            if cart < 0.6:
                planned.append((offset + 2_000, context.happen("cart")))
            days = min(0.2 + float(rng.exponential(1.0)), 6.0)
            planned.append((offset + int(days * DAY_MS), BuyAttempt(person, course, fit)))
        elif cart < 0.06:
            planned.append((offset + 2_000, context.happen("cart")))

    def _enter_room(
        self,
        context: _Context,
        number: int,
        now_ms: int,
        fit: float,
        offset: int,
        planned: Planned,
        rng: np.random.Generator,
    ) -> int:
        """A stay in a room, never beyond its end; returns its length in milliseconds."""
        room = self.rooms.live[number]
        left = room.ends_ms - now_ms - offset - 2_000
        if left <= 2_000:
            return 0
        visitor = context.visitor
        self._note_interest(visitor, room.selling, 1.0)
        room.inside += 1
        planned.append((offset, context.happen("room_enter")))
        drawn = float(rng.lognormal(np.log(150_000) + 0.35 * np.clip(fit, -3, 3), 0.8))
        stay = int(min(max(drawn, 2_000), 5_400_000, left))
        chance = rng.random(8)
        inside = offset + (chance[:4] * 0.9 * stay).astype(np.int64)
        if visitor.signed_in:
            warm = logistic(fit)
            if chance[4] < 0.30 * warm:
                planned.append((int(inside[0]), context.happen("comment")))
            if chance[5] < 0.06 * warm:
                amount = int(
                    rng.choice([100, 200, 500, 1_000, 5_000], p=[0.4, 0.3, 0.2, 0.08, 0.02])
                )
                planned.append((int(inside[1]), context.happen("gift", {"amount_minor": amount})))
            if chance[6] < 0.35 * warm:
                planned.append((int(inside[2]), context.happen("like")))
            if chance[7] < 0.15 * warm and room.host not in self.people.following[visitor.person]:
                self.people.following[visitor.person].add(room.host)
                planned.append((int(inside[3]), context.happen("follow", subject="host")))
            if rng.random() < 0.03 * warm:
                planned.append((int(inside[0]), context.happen("share")))
        middle = offset + int(stay * 0.5)
        self._consider_buying(
            context,
            room.selling,
            fit,
            BUY_IN_ROOM,
            middle,
            planned,
            rng,
            cart=float(rng.random()),
            room=number,
        )
        watched: dict[str, AttributeScalar] = {"duration_ms": stay}
        planned.append((offset + stay, context.happen("watch", watched)))
        leave = context.happen("room_leave", watched).record
        planned.append((offset + stay + 1, LeaveRoom(number, leave)))
        return stay + 2_000

    def _play_video(
        self,
        context: _Context,
        video: int,
        course: int,
        fit: float,
        offset: int,
        planned: Planned,
        rng: np.random.Generator,
    ) -> int:
        self._note_interest(context.visitor, course, 0.5)
        planned.append((offset, context.happen("click")))
        length = int(self.catalogue.video_duration_ms[video])
        share = float(rng.beta(1.5 + 1.5 * logistic(fit), 1.2))
        watched = max(1_000, int(length * share))
        planned.append((offset + watched, context.happen("watch", {"duration_ms": watched})))
        chance = rng.random(3)
        if context.visitor.signed_in and chance[0] < 0.2 * logistic(fit):
            planned.append((offset + watched // 2, context.happen("like")))
        if chance[1] < 0.04 * logistic(fit):
            planned.append((offset + watched + 500, context.happen("share")))
        self._consider_buying(
            context,
            course,
            fit,
            BUY_AFTER_VIDEO,
            offset + watched,
            planned,
            rng,
            cart=float(chance[2]),
            video=video,
        )
        return watched + 1_000

    def _open_host(
        self,
        context: _Context,
        host: int,
        now_ms: int,
        appeal: np.ndarray[tuple[int], np.dtype[np.float32]],
        offset: int,
        planned: Planned,
        rng: np.random.Generator,
    ) -> int:
        visitor = context.visitor
        planned.append((offset, context.happen("click")))
        self.people.seen_category[visitor.person, self.catalogue.host_category[host]] += 0.5
        if not visitor.signed_in:
            return 4_000
        following = self.people.following[visitor.person]
        chance = rng.random(2)
        if host in following:
            if chance[0] < 0.12:
                following.discard(host)
                planned.append((offset + 3_000, context.happen("unfollow")))
        elif chance[0] < 0.35:
            following.add(host)
            planned.append((offset + 3_000, context.happen("follow")))
        own = [
            c for c in self.catalogue.host_courses[host] if self.catalogue.is_sellable(c, now_ms)
        ]
        if own and chance[1] < 0.4:
            course = own[int(np.argmax(appeal[own]))]
            # The course page was reached from the host's: no slate showed the course.
            page = _Context(visitor, "", "", -1, self._entities("course", course, course))
            return 5_000 + self._open_course(
                page, course, float(appeal[course]), offset + 5_000, planned, rng
            )
        return 6_000

    def _reject(
        self,
        context: _Context,
        kind: str,
        course: int,
        item: int,
        fit: float,
        offset: int,
        planned: Planned,
        rng: np.random.Generator,
    ) -> None:
        chance = float(rng.random())
        dislike = 1.0 - logistic(fit)
        if chance < 0.010 * dislike:
            planned.append((offset + 800, context.happen("not_interested")))
        elif context.visitor.signed_in and chance < 0.014 * dislike:
            host = item if kind == "host" else int(self.catalogue.host[course])
            if host not in self.people.following[context.visitor.person]:
                self.people.blocked[context.visitor.person, host] = True
                planned.append((offset + 900, context.happen("block", subject="host")))
        elif chance < 0.017 * dislike:
            planned.append((offset + 900, context.happen("report")))


@dataclass(slots=True, frozen=True)
class _Context:
    """What every event of one item has in common."""

    visitor: Visitor
    surface: str
    rank_id: str
    position: int
    entities: tuple[EntityReference, ...]

    def happen(
        self,
        kind: str,
        attributes: dict[str, AttributeScalar] | None = None,
        *,
        subject: str = "",
    ) -> Happen:
        """An event; ``subject`` names the entity type that comes first instead."""
        entities = self.entities
        if subject:
            entities = tuple(sorted(entities, key=lambda reference: reference[0] != subject))
        return Happen(
            Record(
                kind,
                self.visitor.person,
                self.visitor.signed_in,
                self.rank_id,
                self.position,
                entities,
                self.surface,
                attributes,
            )
        )
