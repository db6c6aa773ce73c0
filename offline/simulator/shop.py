"""What people pay and get back: coupons, purchases, refunds, and the seats they take and free."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from offline.simulator import naming, steps
from offline.simulator.agenda import Agenda
from offline.simulator.catalogue import UNLIMITED, Catalogue
from offline.simulator.parameters import DAY_MS, WEEK_MS, WorldParameters
from offline.simulator.people import People
from offline.simulator.records import DecisionData, PurchaseData, Record, RefundData, UpsertData
from offline.simulator.rooms import Emit, Rooms

COUPON_POLICY = "coupon_random"
# Action, amount in minor units, probability.
COUPONS = (
    ("none", 0, 0.4),
    ("coupon_5", 500, 0.3),
    ("coupon_10", 1_000, 0.2),
    ("coupon_15", 1_500, 0.1),
)


@dataclass(slots=True)
class Shop:
    """Sells what is still for sale when a person comes to pay."""

    parameters: WorldParameters
    people: People
    catalogue: Catalogue
    rooms: Rooms
    agenda: Agenda[steps.Step]
    emit: Emit
    ids: naming.EventIds
    rng: np.random.Generator
    # Running means that keep the share of refunds at the wanted rate.
    _mean_fit: float = field(default=2.0, init=False)
    _mean_weight: float = field(default=1.0, init=False)

    def offer_coupon(self, now_ms: int, person: int) -> None:
        """Decides at random, with known probabilities, on a coupon for a week."""
        chosen = int(self.rng.choice(len(COUPONS), p=[c[2] for c in COUPONS]))
        action, amount, propensity = COUPONS[chosen]
        decision = DecisionData(COUPON_POLICY, action, propensity)
        self.emit(now_ms, Record("decision", person, True, payload=decision))
        if not amount:
            return
        people = self.people
        people.coupon_minor[person] = amount
        people.coupon_number[person] += 1
        people.coupon_until_ms[person] = now_ms + WEEK_MS
        self.emit(
            now_ms,
            Record(
                "coupon_issued",
                person,
                True,
                attributes={"amount_minor": amount, "coupon_id": self._coupon_id(person)},
            ),
        )

    def _coupon_id(self, person: int) -> str:
        digits = f"{naming.hash_fraction(f'{self.ids.prefix}{person}'):.8f}"[2:]
        return f"{digits}_{int(self.people.coupon_number[person])}"

    def buy(self, now_ms: int, attempt: steps.BuyAttempt) -> None:
        """Sells the course; nothing happens where that is not possible any more."""
        people, catalogue, rng = self.people, self.catalogue, self.rng
        person, course = attempt.person, attempt.course
        host = int(catalogue.host[course])
        if people.bought[person, course] or people.blocked[person, host]:
            return
        if not catalogue.is_sellable(course, now_ms):
            return
        if attempt.room >= 0:
            room = self.rooms.live.get(attempt.room)
            if room is None or room.selling != course:
                return
        price = int(catalogue.price_minor[course])
        coupon = int(people.coupon_minor[person])
        if now_ms >= people.coupon_until_ms[person]:
            coupon = 0
        coupon = min(coupon, price)
        amount = price - coupon
        if people.spent_minor[person] + amount > people.weekly_budget_minor[person]:
            return
        entities: tuple[tuple[str, str], ...] = (
            ("course", naming.course_id(course)),
            ("host", naming.host_id(host)),
        )
        if attempt.room >= 0:
            entities += (("room", naming.room_id(attempt.room)),)
        if attempt.video >= 0:
            entities += (("video", naming.video_id(attempt.video)),)
        coupon_id = ""
        if coupon:
            coupon_id = self._coupon_id(person)
            people.coupon_minor[person] = 0
            self.emit(
                now_ms,
                Record(
                    "coupon_redeemed",
                    person,
                    True,
                    entities=entities[:2],
                    attributes={"amount_minor": coupon, "coupon_id": coupon_id},
                ),
            )
        people.spent_minor[person] += amount
        people.bought[person, course] = True
        topic = int(catalogue.topic[course])
        people.skill[person, topic] = max(people.skill[person, topic], catalogue.level[course])
        people.host_affinity[person, host] += 0.3
        people.seen_category[person, catalogue.category[course]] += 2.0
        catalogue.interest[course] += 1.0
        record = Record(
            "purchase",
            person,
            True,
            attempt.rank_id,
            attempt.position,
            entities,
            attempt.surface,
            payload=PurchaseData(f"order_{self.ids.new()}", amount, coupon_id),
        )
        self.emit(now_ms, record)
        self._change_seats(now_ms, course, -1)
        self._plan_refund(now_ms, attempt, record, amount, rng)

    def _plan_refund(
        self,
        now_ms: int,
        attempt: steps.BuyAttempt,
        purchase: Record,
        amount: int,
        rng: np.random.Generator,
    ) -> None:
        """Poor fits come back more often; running means keep the share at ``refund_rate``."""
        weight = math.exp(-0.5 * min(max(attempt.fit - self._mean_fit, -3.0), 3.0))
        self._mean_fit += 0.01 * (attempt.fit - self._mean_fit)
        self._mean_weight += 0.01 * (weight - self._mean_weight)
        chance = rng.random(3)
        if chance[0] >= self.parameters.refund_rate * weight / self._mean_weight or not amount:
            return
        full = chance[1] >= self.parameters.partial_refunds
        share = 1.0 if full else 0.2 + 0.6 * float(chance[2])
        back = amount if full else max(1, int(amount * share))
        at = now_ms + int((0.1 + 5.5 * float(rng.random()) ** 1.5) * DAY_MS)
        full = back == amount
        due = steps.RefundDue(attempt.person, attempt.course, purchase, back, full)
        self.agenda.put(at, due)

    def refund(self, now_ms: int, due: steps.RefundDue) -> None:
        """Gives money back, and the seat when it is all of it."""
        bought = due.purchase.payload
        if not isinstance(bought, PurchaseData):
            raise TypeError("a refund needs the record of a purchase")
        host = int(self.catalogue.host[due.course])
        self.people.dislike(due.person, due.course, host)
        self.emit(
            now_ms,
            Record(
                "refund",
                due.person,
                True,
                entities=due.purchase.entities,
                payload=RefundData(
                    f"refund_{self.ids.new()}",
                    bought.order_id,
                    due.amount_minor,
                    due.purchase.event_id,
                    due.purchase.time_ms,
                    bought.amount_minor,
                ),
            ),
        )
        if due.full:
            self._change_seats(now_ms, due.course, 1)

    def _change_seats(self, now_ms: int, course: int, change: int) -> None:
        """Seats of a limited course; nobody learns of seats of a withdrawn one."""
        catalogue = self.catalogue
        if catalogue.seats_left[course] == UNLIMITED or catalogue.withdrawn[course]:
            return
        catalogue.seats_left[course] += change
        left = int(catalogue.seats_left[course])
        entities = (("course", naming.course_id(course)),)
        changed = UpsertData({}, seats_left=left)
        self.emit(now_ms, Record("entity_upsert", entities=entities, payload=changed))
        if left == 0:
            self.rooms.course_gone(course, now_ms)
