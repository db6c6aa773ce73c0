"""Worlds of which the truth is known: outcomes of units for methods of analysis to be held against.

Each run of a world is its own draw: ``world.draw(seed, run, effect)`` is the same whoever asks, and
however many runs there are. ``effect`` 0 is an experiment without one; 1 has the world's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]
Column = TypeVar("Column", Values, Indices)

DAYS = 14
UNITS_AN_ARM = 2_000
BUYERS = 0.03
INTRACLASS_CORRELATION = 0.1
CARRIED_MS = 600_000
"""How long an arm works on in the next slice, in the world that has it."""


@dataclass(frozen=True)
class Outcomes:
    """What became of the units of one experiment.

    ``values``, ``treated``, ``arrived`` (day of the first exposure, in [0, DAYS)), and
    ``denominators`` (what units did, for ratios) are [units]; ``covariates`` [units, 2] are from
    before; ``clusters`` [units] or None. ``hosts`` [units] where a unit is a pair of a viewer (its
    cluster) and a host, ``host_treated`` their arms. ``credits`` [units, 2]: of both teams.
    ``elapsed_ms`` [units]: of slices of time, since the slice began.
    """

    values: Values
    treated: Flags
    arrived: Indices
    denominators: Values
    covariates: Values
    clusters: Indices | None = None
    hosts: Indices | None = None
    host_treated: Flags | None = None
    credits: Values | None = None
    elapsed_ms: Indices | None = None

    def arms(self, column: Column) -> tuple[Column, Column]:
        """``column`` of control and of treatment."""
        return column[~self.treated], column[self.treated]


@dataclass(frozen=True)
class World:
    """``effect`` is what treatment adds to a unit's mean value (of a pair: both treated against
    neither); ``clusters_an_arm`` None where units are drawn one by one. ``quantile`` is the one
    that is compared, ``quantile_effect`` its truth; ``denominator_mean`` that of denominators.
    ``viewer_spillover``, ``host_spillover``: what a pair gains of which
    that side alone is treated."""

    name: str
    description: str
    effect: float
    draw_with: Callable[[np.random.Generator, float], Outcomes]
    clusters_an_arm: int | None = None
    quantile: float = 0.9
    quantile_effect: float = math.nan
    denominator_mean: float = 1.0
    viewer_spillover: float = 0.0
    host_spillover: float = 0.0

    def draw(self, seed: int, run: int, effect: float = 0.0) -> Outcomes:
        """Run ``run`` with ``effect`` times the world's own."""
        return self.draw_with(np.random.default_rng([seed, run]), effect)


def _arrivals(random: np.random.Generator, units: int) -> Indices:
    return random.integers(0, DAYS, units)


def _halves() -> Flags:
    return np.repeat([False, True], UNITS_AN_ARM)


def normal() -> World:
    """Values of mean 5 and deviation 1, which two covariates tell a part of."""
    added = 0.09

    def draw(random: np.random.Generator, effect: float) -> Outcomes:
        treated = _halves()
        before = random.normal(size=(len(treated), 2))
        rest = math.sqrt(1.0 - 0.6**2 - 0.3**2) * random.normal(size=len(treated))
        values = 5.0 + before @ [0.6, 0.3] + rest + added * effect * treated
        sessions = (1 + random.poisson(2.0, len(treated))).astype(np.float64)
        return Outcomes(values, treated, _arrivals(random, len(treated)), sessions, before)

    return World(
        "normal",
        "normal values, 2,000 units an arm",
        added,
        draw,
        quantile_effect=added,
        denominator_mean=3.0,
    )


def buyers(deviation: float) -> World:
    """3 % buy, for log-normal amounts; treatment makes more of them buy."""
    lift = 0.8
    mean = BUYERS * math.exp(deviation**2 / 2.0)

    def draw(random: np.random.Generator, effect: float) -> Outcomes:
        treated = _halves()
        keen = random.normal(size=len(treated))
        share = np.where(treated, BUYERS * (1.0 + lift * effect), BUYERS)

        def bought(chance: Values | float) -> Flags:
            deviate = 0.7 * keen + math.sqrt(1.0 - 0.7**2) * random.normal(size=len(keen))
            return np.asarray(ndtr(deviate) > 1.0 - chance)

        amounts = random.lognormal(0.0, deviation, (2, len(treated)))
        before = np.column_stack([keen, bought(BUYERS) * amounts[0]])
        sessions = (1 + random.poisson(np.exp(0.3 * keen))).astype(np.float64)
        arrived = _arrivals(random, len(treated))
        return Outcomes(bought(share) * amounts[1], treated, arrived, sessions, before)

    at = 0.99
    tails = [(1.0 - at) / share for share in (BUYERS, BUYERS * (1.0 + lift))]
    before_and_after = [math.exp(deviation * float(ndtri(1.0 - tail))) for tail in tails]
    return World(
        f"buyers_{deviation:g}",
        f"3 % buyers, log-normal amounts (sigma {deviation:g}), 2,000 units an arm",
        mean * lift,
        draw,
        quantile=at,
        denominator_mean=1.0 + math.exp(0.3**2 / 2.0),
        quantile_effect=before_and_after[1] - before_and_after[0],
    )


def clusters(an_arm: int) -> World:
    """Clusters of 1 to 100 units whose values resemble one another (ICC 0.1)."""
    added = {6: 0.6, 30: 0.25}[an_arm]

    def draw(random: np.random.Generator, effect: float) -> Outcomes:
        sizes = random.integers(1, 101, 2 * an_arm)
        cluster = np.repeat(np.arange(2 * an_arm), sizes)
        treated = cluster >= an_arm
        known = random.normal(size=2 * an_arm)
        between = 0.6 * known + 0.8 * random.normal(size=2 * an_arm)
        values = (
            5.0
            + math.sqrt(INTRACLASS_CORRELATION) * between[cluster]
            + math.sqrt(1.0 - INTRACLASS_CORRELATION) * random.normal(size=len(cluster))
            + added * effect * treated
        )
        before = np.column_stack([known[cluster], random.normal(size=len(cluster))])
        # A room is there on one day, and all its viewers with it.
        arrived = _arrivals(random, 2 * an_arm)[cluster]
        return Outcomes(values, treated, arrived, np.ones(len(cluster)), before, cluster)

    return World(
        f"clusters_{an_arm}",
        f"{an_arm} clusters an arm of 1 to 100 units, ICC 0.1",
        added,
        draw,
        clusters_an_arm=an_arm,
        quantile_effect=added,
    )


def slices() -> World:
    """Half hours of two weeks, alike within a slice, with a tide through the day."""
    added, a_day = 0.2, 48

    def draw(random: np.random.Generator, effect: float) -> Outcomes:
        count = DAYS * a_day
        arms = random.integers(0, 2, count).astype(bool)
        sizes = 1 + random.poisson(6.0 + 4.0 * np.sin(np.arange(count) * 2.0 * np.pi / a_day))
        number = np.repeat(np.arange(count), sizes)
        tide = np.sin(np.arange(count) * 2.0 * np.pi / a_day)
        values = (
            (0.3 * tide + 0.3 * random.normal(size=count))[number]
            + random.normal(size=len(number))
            + added * effect * arms[number]
        )
        none = np.zeros((len(number), 0))
        return Outcomes(values, arms[number], number // a_day, np.ones(len(number)), none, number)

    return World(
        "slices",
        f"switchback: {DAYS * a_day} half hours with a daily tide",
        added,
        draw,
        clusters_an_arm=DAYS * a_day // 2,
    )


def carry_over() -> World:
    """Half hours in whose first ten minutes people do what the arm before made them do."""
    added, a_day = 0.2, 48

    def draw(random: np.random.Generator, effect: float) -> Outcomes:
        count = DAYS * a_day
        arms = random.integers(0, 2, count).astype(bool)
        number = np.repeat(np.arange(count), 1 + random.poisson(9.0, count))
        elapsed_ms = random.integers(1_000, 1_790_000, len(number))
        # Each at a millisecond of its own.
        elapsed_ms = elapsed_ms[np.lexsort((elapsed_ms, number))]
        elapsed_ms += np.arange(len(number)) - np.searchsorted(number, number)
        arm_before = np.concatenate([[False], arms[:-1]])
        works = np.where(elapsed_ms < CARRIED_MS, arm_before[number], arms[number])
        values = (
            0.3 * random.normal(size=count)[number]
            + random.normal(size=len(number))
            + added * effect * works
        )
        none = np.zeros((len(number), 0))
        return Outcomes(
            values,
            arms[number],
            number // a_day,
            np.ones(len(number)),
            none,
            number,
            elapsed_ms=elapsed_ms,
        )

    return World(
        "carry_over",
        f"switchback: {DAYS * a_day} half hours, each arm works 10 minutes longer",
        added,
        draw,
        clusters_an_arm=DAYS * a_day // 2,
    )


def market() -> World:
    """Pairs of 200 viewers and 60 hosts, both of whom leave their mark on a pair's value."""
    added, viewers, hosts = 0.3, 200, 60
    # Treated viewers do less with other hosts, treated hosts more with other viewers.
    alone = {"viewer_spillover": -0.2, "host_spillover": 0.15}

    def draw(random: np.random.Generator, effect: float) -> Outcomes:
        pairs = 3_000
        viewer, host = random.integers(0, viewers, pairs), random.integers(0, hosts, pairs)
        arms = [random.permutation(count) % 2 == 1 for count in (viewers, hosts)]
        by_viewer, by_host = arms[0][viewer], arms[1][host]
        values = (
            0.3 * random.normal(size=viewers)[viewer]
            + 0.3 * random.normal(size=hosts)[host]
            + random.normal(size=pairs)
            + added * effect * (by_viewer & by_host)
            + alone["viewer_spillover"] * effect * (by_viewer & ~by_host)
            + alone["host_spillover"] * effect * (~by_viewer & by_host)
        )
        none, arrived = np.zeros((pairs, 0)), _arrivals(random, pairs)
        return Outcomes(values, by_viewer, arrived, np.ones(pairs), none, viewer, host, by_host)

    return World(
        "market",
        "two-sided: 3,000 pairs of 200 viewers and 60 hosts",
        added,
        draw,
        clusters_an_arm=hosts // 2,
        **alone,
    )


def interleaved() -> World:
    """Slates of 400 users who differ in how much, and which ranking, they like."""
    users, lift = 400, 0.35

    def draw(random: np.random.Generator, effect: float) -> Outcomes:
        slates = 1 + random.geometric(0.3, users)
        user = np.repeat(np.arange(users), slates)
        taste = random.lognormal(-1.0, 0.5, (users, 2)) * [1.0, 1.0 + lift * effect]
        credits_of_teams = random.poisson(taste[user]).astype(np.float64)
        nothing = np.zeros(len(user))
        arrived = _arrivals(random, users)[user]
        return Outcomes(
            nothing,
            nothing > 0.0,
            arrived,
            nothing,
            np.zeros((len(user), 0)),
            user,
            credits=credits_of_teams,
        )

    return World("interleaved", "team draft: slates of 400 users", math.nan, draw)


def every_world() -> tuple[World, ...]:
    """All worlds, in the order of the table."""
    return (
        normal(),
        buyers(1.0),
        buyers(2.0),
        clusters(6),
        clusters(30),
        slices(),
        carry_over(),
        market(),
        interleaved(),
    )
