"""How much a person wants a course at a moment: the latent truth behind every choice.

appeal = personal_signal x [topic affinity + host affinity + following + level fit + next of a
series + price fit + language + novelty + intent of this visit] + quality + herding x hotness

All of it is in logits. With ``personal_signal`` 0 only quality and hotness (both are popularity)
remain.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from offline.simulator.catalogue import Catalogue
from offline.simulator.parameters import WorldParameters
from offline.simulator.people import People

Floats = NDArray[np.float32]

# Fit of a course's level, by level minus the level reached, from -3 to +3.
LEVEL_FIT = np.array([-1.6, -1.4, -1.2, -0.8, 0.9, -0.7, -1.6], dtype=np.float32)
NEXT_OF_SERIES = np.float32(1.7)
DISAPPOINTED_BY_SERIES = np.float32(-2.5)
FOLLOWED = 1.0
FOREIGN_LANGUAGE = np.float32(-1.0)
INTENT = np.float32(1.2)
# A price e^0.6 times the preferred one costs half a logit.
PRICE_WEIGHT = np.float32(0.5 / 0.6**2)
PRICE_LIMIT = np.float32(2.0)
BLOCKED = -30.0


def course_appeal(
    parameters: WorldParameters,
    people: People,
    catalogue: Catalogue,
    person: int,
    *,
    intent: int = -1,
    now_ms: int,
) -> Floats:
    """Logits float32 [courses] for one person. ``intent`` is a category, -1 for none.

    What was bought or can't be bought now is not excluded here.
    """
    n = catalogue.courses
    common: Floats = catalogue.quality[:n] + np.float32(parameters.herding) * catalogue.hotness[:n]
    if parameters.personal_signal == 0:
        return common
    topic = catalogue.topic[:n]
    host = catalogue.host[:n]
    personal: Floats = people.topic_affinity[person].take(topic)
    personal += people.host_affinity[person].take(host)
    personal += LEVEL_FIT.take(catalogue.level[:n] - people.skill[person].take(topic) + 3)
    previous = catalogue.previous_course[:n]
    personal += NEXT_OF_SERIES * people.bought[person].take(previous)
    if people.has_disliked[person]:
        personal += DISAPPOINTED_BY_SERIES * people.disliked[person].take(previous)
    distance = catalogue.log_price[:n] - people.preferred_log_price[person]
    personal -= np.minimum(distance * distance * PRICE_WEIGHT, PRICE_LIMIT)
    personal += FOREIGN_LANGUAGE * (catalogue.course_language[:n] != people.language[person])
    personal += catalogue.novelty(now_ms)
    if people.following[person]:
        followed = np.zeros(catalogue.hosts, dtype=np.float32)
        followed[list(people.following[person])] = FOLLOWED
        personal += followed.take(host)
    if intent >= 0:
        personal += INTENT * (catalogue.category[:n] == intent)
    common += np.float32(parameters.personal_signal) * personal
    if people.has_blocked[person]:
        common[people.blocked[person].take(host)] = BLOCKED
    return common


def host_appeal(
    parameters: WorldParameters, people: People, catalogue: Catalogue, person: int, intent: int
) -> Floats:
    """Logits float32 [hosts]: interest in the host's category, liking, fame."""
    n = catalogue.hosts
    fame = catalogue.host_quality[:n] * np.float32(1 + parameters.herding)
    if parameters.personal_signal == 0:
        return fame
    interest = np.zeros(people.categories, dtype=np.float32) - 1.0
    interest[people.focus[person]] = 1.2
    if intent >= 0:
        interest[intent] += INTENT
    personal = interest[catalogue.host_category[:n]] + people.host_affinity[person][:n]
    logits: Floats = (fame + np.float32(parameters.personal_signal) * personal).astype(np.float32)
    logits[people.blocked[person][:n]] = BLOCKED
    return logits


def logistic(value: float) -> float:
    """1 / (1 + exp(-value)), safe for large values."""
    return 1.0 / (1.0 + math.exp(-min(max(value, -30.0), 30.0)))
