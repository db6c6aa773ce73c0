"""Outcomes of a world as events: who was exposed when, and what they did before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.validity_worlds import CARRIED_MS, Indices, Outcomes, Values, World
from offline.analysis.statistics.switchback import settled
from podium.common.v1.common_pb2 import ASSIGNMENT_REASON_SPLIT
from podium.event.v1.event_pb2 import Event, LoggedEvent

START_MS = 1_767_225_600_000
"""A midnight in UTC."""
DAY_MS, SLICE_MS = 86_400_000, 1_800_000
COVARIATES = {"issued": "coupon_issued", "redeemed": "coupon_redeemed"}
"""Metrics, and the events, that covariates are."""

MINOR = 10_000
HOLDING = 1_000.0
"""What amounts are raised by, where values may be below 0: amounts are whole numbers, 0 or more."""

SWITCHBACKS = ("slices", "carry_over")
ARMS = ("control", "treatment")
_TEAMS = ("control", "treatment")


def minor(values: Values, offset: float) -> Indices:
    """Values as amounts."""
    return np.rint((values + offset) * MINOR).astype(np.int64)


def from_minor(amounts: Values | Indices, offset: float) -> Values:
    """Amounts as values."""
    return np.asarray(amounts, dtype=np.float64) / MINOR - offset


def readable(world: World, outcomes: Outcomes) -> Outcomes:
    """The outcomes at the precision of amounts, with each pair of a market, and all slates of a
    user, in one row: what a log can tell."""
    if world.name == "interleaved":
        return _by_user(outcomes)
    offset = 0.0 if world.name.startswith("buyers") else HOLDING
    found = replace(
        outcomes,
        values=from_minor(minor(outcomes.values, offset), offset),
        covariates=from_minor(minor(outcomes.covariates, HOLDING), HOLDING),
    )
    if found.clusters is None or found.hosts is None or found.host_treated is None:
        return found
    kept = np.sort(
        np.unique(np.column_stack([found.clusters, found.hosts]), axis=0, return_index=True)[1]
    )
    return replace(
        found,
        values=found.values[kept],
        treated=found.treated[kept],
        arrived=found.arrived[kept],
        denominators=found.denominators[kept],
        covariates=found.covariates[kept],
        clusters=found.clusters[kept],
        hosts=found.hosts[kept],
        host_treated=found.host_treated[kept],
    )


def settled_part(outcomes: Outcomes) -> Outcomes:
    """Of a world with carry-over the units past it, who are all that is left by a burn-in."""
    if outcomes.elapsed_ms is None or outcomes.clusters is None:
        return outcomes
    kept = settled(outcomes.treated, outcomes.clusters, outcomes.elapsed_ms, burn_in_ms=CARRIED_MS)
    return replace(
        outcomes,
        values=outcomes.values[kept],
        treated=outcomes.treated[kept],
        arrived=outcomes.arrived[kept],
        denominators=outcomes.denominators[kept],
        covariates=outcomes.covariates[kept],
        clusters=outcomes.clusters[kept],
        elapsed_ms=outcomes.elapsed_ms[kept],
    )


def _by_user(outcomes: Outcomes) -> Outcomes:
    if outcomes.clusters is None or outcomes.credits is None:
        raise ValueError("an interleaved world has users and credits")
    users, first = np.unique(outcomes.clusters, return_index=True)
    earned = np.zeros((len(users), 2))
    np.add.at(earned, outcomes.clusters, outcomes.credits)
    nothing = np.zeros(len(users))
    none = np.zeros((len(users), 0))
    return Outcomes(
        nothing, nothing > 0, outcomes.arrived[first], nothing, none, users, credits=earned
    )


def exposed_at_ms(world: World, outcomes: Outcomes) -> NDArray[np.int64]:
    """When each unit was exposed, or entered what was: each at a millisecond of its own."""
    number = np.arange(len(outcomes.arrived))
    if world.name == "slices" and outcomes.clusters is not None:
        first = np.searchsorted(outcomes.clusters, outcomes.clusters)
        into_ms = outcomes.clusters * SLICE_MS + 2_000 + (number - first)
    elif outcomes.elapsed_ms is not None and outcomes.clusters is not None:
        into_ms = outcomes.clusters * SLICE_MS + outcomes.elapsed_ms
    else:
        into_ms = outcomes.arrived * DAY_MS + 7_200_000 + number
    return np.asarray(START_MS + into_ms, np.int64)


def log_of(world: World, outcomes: Outcomes, key: str) -> list[bytes]:
    """Records of a log in which this happened, in order of time."""
    events = sorted(_events(world, outcomes, key), key=lambda e: e.event_time.ToMilliseconds())
    last = Event(event_id="last", type="search")
    last.actor.user_id = "somebody"
    last.event_time.FromMilliseconds(events[-1].event_time.ToMilliseconds() + 2 * DAY_MS)
    records = []
    for arrival, event in enumerate([*events, last]):
        logged = LoggedEvent(event=event, arrival=arrival, producer="validity")
        logged.arrival_time.CopyFrom(event.event_time)
        records.append(logged.SerializeToString())
    return records


def _events(world: World, outcomes: Outcomes, key: str) -> Iterator[Event]:
    grouped = world.name.startswith("clusters") or world.name in SWITCHBACKS
    exposed_ms = exposed_at_ms(world, outcomes)
    offset = 0.0 if world.name.startswith("buyers") else HOLDING
    amounts = minor(outcomes.values, offset)
    before = minor(outcomes.covariates, HOLDING)
    told: set[int] = set()
    for number, at_ms in enumerate(exposed_ms.tolist()):
        user, host = f"u{number}", ""
        arm = ARMS[int(outcomes.treated[number])]
        if world.name == "market" and outcomes.clusters is not None and outcomes.hosts is not None:
            user, host = f"v{outcomes.clusters[number]}", f"h{outcomes.hosts[number]}"
        if world.name.startswith("clusters") and outcomes.clusters is not None:
            host = f"h{outcomes.clusters[number]}"
        if grouped and outcomes.clusters is not None:
            if outcomes.clusters[number] not in told:
                told.add(int(outcomes.clusters[number]))
                yield _exposure(f"x{number}", at_ms - 1_000, key, arm, "", host)
            yield _event(f"i{number}", "impression", at_ms, user, host)
        elif world.name == "interleaved":
            yield _exposure(f"x{number}", at_ms, key, "both", user, "")
            yield from _slate(number, at_ms, key, user, outcomes)
            continue
        else:
            other = ""
            if outcomes.host_treated is not None:
                other = ARMS[int(outcomes.host_treated[number])]
            yield _exposure(f"x{number}", at_ms, key, arm, user, host, other)
        if amounts[number]:
            bought = _event(f"p{number}", "purchase", at_ms + 1_000, user, host)
            bought.purchase.order_id = bought.event_id
            bought.purchase.amount.amount_minor = int(amounts[number])
            yield bought
        watched = _event(f"w{number}", "watch", at_ms + 1_500, user, host)
        watched.attributes["duration_ms"].int_value = int(outcomes.denominators[number])
        yield watched
        for column, event_type in enumerate(COVARIATES.values()):
            if column < before.shape[1]:
                had = _event(f"b{number}.{column}", event_type, at_ms - 600_000, user, host)
                had.attributes["amount_minor"].int_value = int(before[number, column])
                yield had


def _slate(number: int, at_ms: int, key: str, user: str, outcomes: Outcomes) -> Iterator[Event]:
    """A slate with an item of each team, and the clicks on them."""
    slate = _event(f"s{number}", "slate_served", at_ms + 1, user, "")
    slate.rank_id = f"r{number}"
    served = slate.slate_served
    served.surface, served.entity_type = "hosts", "host"
    served.item_ids.extend(_TEAMS)
    served.interleaving_teams.extend(_TEAMS)
    served.assignments.add(experiment_key=key, variant_key="both")
    yield slate
    if outcomes.credits is None:
        return
    for team, earned in zip(_TEAMS, outcomes.credits[number].tolist(), strict=True):
        for click in range(int(earned)):
            clicked = _event(f"c{number}.{team}.{click}", "click", at_ms + 1_000, user, team)
            clicked.rank_id = slate.rank_id
            yield clicked


def _event(event_id: str, event_type: str, at_ms: int, user: str, host: str) -> Event:
    event = Event(event_id=event_id, type=event_type)
    event.event_time.FromMilliseconds(at_ms)
    if user:
        event.actor.user_id = user
    if host:
        event.entities.add(type="host", id=host)
    return event


def _exposure(
    event_id: str, at_ms: int, key: str, arm: str, user: str, host: str, other: str = ""
) -> Event:
    event = _event(event_id, "exposure", at_ms, user, host)
    assignment = event.exposure.assignment
    assignment.experiment_key, assignment.variant_key = key, arm
    assignment.other_variant_key = other
    assignment.reason, assignment.revision = ASSIGNMENT_REASON_SPLIT, 1
    return event
