"""One person in front of the app for a while: what they open, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from offline.simulator.appeal import logistic
from offline.simulator.catalogue import Catalogue
from offline.simulator.parameters import DAY_MS, WorldParameters
from offline.simulator.people import People
from offline.simulator.records import AttributeScalar, EntityReference, Record
from offline.simulator.rooms import Rooms
from offline.simulator.steps import BuyAttempt, Happen, LeaveRoom, Step

Planned = list[tuple[int, Step]]

# Logit of buying = slope x appeal (+ coupon) - threshold.
BUY_AFTER_CLICK = (0.9, 1.7)
BUY_IN_ROOM = (0.9, 2.1)
BUY_AFTER_VIDEO = (0.9, 3.4)
COUPON_PULL = 0.6
GIFTS_MINOR = (100, 200, 500, 1_000, 5_000)
GIFT_CUTS = (0.4, 0.7, 0.9, 0.98)


@dataclass(slots=True, frozen=True)
class Visitor:
    """Who looks at a slate; ``intent`` is the category of this visit, -1 for none."""

    person: int
    signed_in: bool
    intent: int


@dataclass(slots=True, frozen=True)
class Sight:
    """What all events on one item have in common; outside slates rank id and surface are empty."""

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


@dataclass(slots=True)
class Scene:
    """Collects in ``planned`` what the visitor will do, as (milliseconds from ``now_ms``, step).

    The methods that open something return how long the visitor stayed, in milliseconds.
    """

    parameters: WorldParameters
    people: People
    catalogue: Catalogue
    rooms: Rooms
    visitor: Visitor
    now_ms: int
    rng: np.random.Generator
    planned: Planned = field(default_factory=list)

    def open_course(self, sight: Sight, course: int, fit: float, offset: int) -> int:
        """A course page: a preview, a like, the cart, a purchase."""
        plan = self.planned.append
        self._note_interest(course, 1.0)
        plan((offset, sight.happen("click")))
        chance = self.rng.random(7).tolist()
        stay = 5_000 + int(15_000 * -math.log1p(-chance[4]))
        warm = logistic(fit)
        if chance[0] < 0.2 + 0.5 * logistic(fit - 1.0):
            watched = int(50_000 * math.exp(0.25 * _bounded(fit) + 1.2 * (chance[5] - 0.5)))
            stay += watched
            plan((offset + stay, sight.happen("watch", {"duration_ms": watched})))
        if chance[1] < 0.12 * warm:
            plan((offset + stay + 500, sight.happen("like")))
        if chance[2] < 0.03 * warm:
            plan((offset + stay + 900, sight.happen("share")))
        attempt = self._attempt(sight, course, fit)
        self._consider_buying(sight, attempt, BUY_AFTER_CLICK, offset + stay, cart=chance[3])
        return stay + 2_000

    def enter_room(self, sight: Sight, number: int, fit: float, offset: int) -> int:
        """A stay in a live room, never beyond its end."""
        plan = self.planned.append
        room = self.rooms.live[number]
        left = room.ends_ms - self.now_ms - offset - 2_000
        if left <= 2_000:
            return 0
        self._note_interest(room.selling, 1.0)
        room.inside += 1
        plan((offset, sight.happen("room_enter")))
        drawn = 150_000 * math.exp(0.35 * _bounded(fit) + 0.8 * float(self.rng.standard_normal()))
        stay = int(min(max(drawn, 2_000), 5_400_000, left))
        chance = self.rng.random(11).tolist()
        inside = [offset + int(0.9 * stay * part) for part in chance[:4]]
        if self.visitor.signed_in:
            warm = logistic(fit)
            if chance[4] < 0.30 * warm:
                plan((inside[0], sight.happen("comment")))
            if chance[5] < 0.06 * warm:
                amount = GIFTS_MINOR[sum(chance[10] >= cut for cut in GIFT_CUTS)]
                plan((inside[1], sight.happen("gift", {"amount_minor": amount})))
            if chance[6] < 0.35 * warm:
                plan((inside[2], sight.happen("like")))
            following = self.people.following[self.visitor.person]
            if chance[7] < 0.15 * warm and room.host not in following:
                following.add(room.host)
                plan((inside[3], sight.happen("follow", subject="host")))
            if chance[8] < 0.03 * warm:
                plan((inside[0], sight.happen("share")))
        attempt = self._attempt(sight, room.selling, fit, room=number)
        self._consider_buying(sight, attempt, BUY_IN_ROOM, offset + stay // 2, cart=chance[9])
        watched: dict[str, AttributeScalar] = {"duration_ms": stay}
        plan((offset + stay, sight.happen("watch", watched)))
        plan((offset + stay + 1, LeaveRoom(number, sight.happen("room_leave", watched).record)))
        return stay + 2_000

    def play_video(self, sight: Sight, video: int, fit: float, offset: int) -> int:
        """A short video about a course."""
        plan = self.planned.append
        course = int(self.catalogue.video_course[video])
        self._note_interest(course, 0.5)
        plan((offset, sight.happen("click")))
        length = int(self.catalogue.video_duration_ms[video])
        warm = logistic(fit)
        share = float(self.rng.beta(1.5 + 1.5 * warm, 1.2))
        watched = max(1_000, int(length * share))
        plan((offset + watched, sight.happen("watch", {"duration_ms": watched})))
        chance = self.rng.random(3).tolist()
        if self.visitor.signed_in and chance[0] < 0.2 * warm:
            plan((offset + watched // 2, sight.happen("like")))
        if chance[1] < 0.04 * warm:
            plan((offset + watched + 500, sight.happen("share")))
        attempt = self._attempt(sight, course, fit, video=video)
        self._consider_buying(sight, attempt, BUY_AFTER_VIDEO, offset + watched, cart=chance[2])
        return watched + 1_000

    def open_host(self, sight: Sight, host: int, offset: int) -> int:
        """A host's page: following starts or ends here."""
        plan = self.planned.append
        person = self.visitor.person
        plan((offset, sight.happen("click")))
        self.people.seen_category[person, self.catalogue.host_category[host]] += 0.5
        if not self.visitor.signed_in:
            return 4_000
        following = self.people.following[person]
        chance = float(self.rng.random())
        if host in following:
            if chance < 0.12:
                following.discard(host)
                plan((offset + 3_000, sight.happen("unfollow")))
        elif chance < 0.35:
            following.add(host)
            plan((offset + 3_000, sight.happen("follow")))
        return 5_000

    def reject(self, sight: Sight, host: int, fit: float, offset: int) -> None:
        """What was examined and left: now and then the person says so."""
        chance = float(self.rng.random())
        if chance > 0.02:
            return
        dislike = 1.0 - logistic(fit)
        person = self.visitor.person
        if chance < 0.010 * dislike:
            self.planned.append((offset + 800, sight.happen("not_interested")))
        elif self.visitor.signed_in and chance < 0.014 * dislike:
            if host not in self.people.following[person]:
                self.people.block(person, host)
                self.planned.append((offset + 900, sight.happen("block", subject="host")))
        elif chance < 0.017 * dislike:
            self.planned.append((offset + 900, sight.happen("report")))

    def _note_interest(self, course: int, amount: float) -> None:
        category = self.catalogue.category[course]
        self.people.seen_category[self.visitor.person, category] += amount
        self.catalogue.interest[course] += np.float32(0.15 * amount)

    def _attempt(
        self, sight: Sight, course: int, fit: float, *, room: int = -1, video: int = -1
    ) -> BuyAttempt:
        return BuyAttempt(
            self.visitor.person,
            course,
            fit,
            room,
            video,
            sight.rank_id,
            sight.position,
            sight.surface,
        )

    def _consider_buying(
        self,
        sight: Sight,
        attempt: BuyAttempt,
        rule: tuple[float, float],
        offset: int,
        *,
        cart: float,
    ) -> None:
        """Cart, and a purchase now (with the slate's rank id) or days later (without)."""
        if not self.visitor.signed_in:
            return
        plan = self.planned.append
        fit = attempt.fit
        pull = COUPON_PULL if self.people.coupon_minor[attempt.person] else 0.0
        slope, threshold = rule
        chance = self.rng.random(3).tolist()
        if chance[0] < logistic(slope * fit + pull - threshold):
            if cart < 0.45:
                plan((offset + 2_000, sight.happen("cart")))
            plan((offset + 4_000 + int(40_000 * -math.log1p(-chance[2])), attempt))
        elif chance[1] < self.parameters.late_purchases * logistic(fit - 0.5):
            if cart < 0.6:
                plan((offset + 2_000, sight.happen("cart")))
            days = min(0.2 - math.log1p(-chance[2]), 6.0)
            later = BuyAttempt(attempt.person, attempt.course, fit)
            plan((offset + int(days * DAY_MS), later))
        elif cart < 0.06:
            plan((offset + 2_000, sight.happen("cart")))


def _bounded(fit: float) -> float:
    return min(max(fit, -3.0), 3.0)
