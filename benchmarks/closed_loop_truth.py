"""What a slate of courses is worth to a visitor of a simulated world, by the truth.

Nothing is drawn: the chances are those by which ``Behaviour.react`` and ``Shop.buy`` draw. The
value of a slate is the expected number of purchases that it leads to, at once or days later, of
what the visitor may buy and can pay for now; the same in money is its revenue. Purchases of one
slate are taken to leave one another's budget alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.simulator.behaviour import OPEN
from offline.simulator.people import KEEP_INTENT
from offline.simulator.scene import BUY_AFTER_CLICK, COUPON_PULL, Visitor
from offline.simulator.world import World

Floats = NDArray[np.float64]

NEW_INTENTS = (0.5, 0.3, 0.2)
"""Shares of the three focus categories among visits with a new intent."""

_KEEPS_LOOKING = 0.75
_ALWAYS_SEEN = 3


@dataclass(frozen=True)
class CourseValues:
    """Of every course, once it is examined, float64 [courses]: the chance that it is opened, the
    purchases and the revenue (minor units) to expect."""

    opens: Floats
    purchases: Floats
    revenue_minor: Floats


def examination(length: int, position_bias: float) -> Floats:
    """Chance that a position is scrolled to and examined, float64 [length]."""
    places = np.arange(length)
    seen = _KEEPS_LOOKING ** np.maximum(0, places - (_ALWAYS_SEEN - 1))
    return np.asarray(seen * (1.0 + places) ** -position_bias, dtype=np.float64)


def course_values(world: World, visitor: Visitor, now_ms: int) -> CourseValues:
    """What the visitor, signed in, does with each course of the world that is examined now."""
    person, parameters = visitor.person, world.parameters
    people, catalogue = world.people, world.catalogue
    n = catalogue.courses
    appeal = world.behaviour.appeal(visitor, now_ms).astype(np.float64)
    slope, threshold = OPEN["course"]
    opens = _logistic(slope * appeal - threshold)
    slope, threshold = BUY_AFTER_CLICK
    pull = COUPON_PULL if people.coupon_minor[person] else 0.0
    at_once = _logistic(slope * appeal + pull - threshold)
    later = (1.0 - at_once) * parameters.late_purchases * _logistic(appeal - 0.5)
    price = catalogue.price_minor[:n]
    coupon = int(people.coupon_minor[person]) if now_ms < people.coupon_until_ms[person] else 0
    amount = price - np.minimum(coupon, price)
    left = people.weekly_budget_minor[person] - people.spent_minor[person]
    sold = (
        catalogue.sellable(now_ms)
        & ~people.bought[person][:n]
        & ~people.blocked[person].take(catalogue.host[:n])
        & (amount <= left)
    )
    purchases = opens * (at_once + later) * sold
    return CourseValues(opens, purchases, purchases * amount)


def intents_of(world: World, person: int) -> list[tuple[int, float]]:
    """What the next visit may be about, as (category, chance), to one who knows the person."""
    focus = world.people.focus[person].tolist()
    previous = int(world.people.intent[person])
    fresh = 1.0 - KEEP_INTENT if previous in focus else 1.0
    chances = dict(zip(focus, (fresh * share for share in NEW_INTENTS), strict=True))
    if previous in focus:
        chances[previous] += KEEP_INTENT
    return list(chances.items())


def best_slate(values: Floats, length: int) -> NDArray[np.int64]:
    """The rows of the slate of the highest value: examination only falls with the position."""
    rows = np.argsort(-values, kind="stable")[:length]
    return np.asarray(rows, dtype=np.int64)


def slate_value(values: Floats, rows: Sequence[int], weights: Floats) -> float:
    """Expected total of ``values`` over a slate, examined with the chances ``weights`` [length]."""
    return float(values[list(rows)] @ weights[: len(rows)])


def _logistic(logits: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0))), dtype=np.float64)
