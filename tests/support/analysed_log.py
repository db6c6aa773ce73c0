"""A log of an experiment that worked, of users who were exposed and bought."""

from __future__ import annotations

from pathlib import Path
from random import Random

from podium.common.v1.common_pb2 import ASSIGNMENT_REASON_SPLIT
from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.event_log import LogWriter

START_MS = 1_767_225_600_000
DAY_MS = 86_400_000
DAYS = 20

EXPERIMENTS = """\
experiments:
  prices:
    description: Do shown prices sell more?
    unit: user
    salt: prices_1
    running: true
    revision: 1
    start: 2026-01-01T00:00:00Z
    end: 2026-01-08T00:00:00Z
    variants: {control: {weight: 0.5}, shown: {weight: 0.5}}
    analysis:
      primary: buyers_7d
      guardrails: {watch_ms_3d: {margin: 0.2}}
      segments: {region: {exposure: region}}
  idle:
    unit: user
    salt: idle_1
    running: true
    revision: 1
    variants: {control: {weight: 0.5}, other: {weight: 0.5}}
"""


def write_sold_log(directory: Path, users: int = 400, *, exposed: bool = True) -> Path:
    """Users in two arms over a week, of whom more buy in "shown"; two more weeks pass."""
    random = Random(7)
    events = []
    for number in range(users):
        at_ms = START_MS + random.randrange(7 * DAY_MS)
        shown = number % 2 == 1
        if exposed:
            met = _event(f"x{number}", "exposure", at_ms, f"u{number}")
            assignment = met.exposure.assignment
            assignment.experiment_key = "prices"
            assignment.variant_key = "shown" if shown else "control"
            assignment.reason, assignment.revision = ASSIGNMENT_REASON_SPLIT, 1
            met.attributes["region"].string_value = random.choice(("US", "CA"))
            events.append(met)
        if random.random() < (0.6 if shown else 0.3):
            bought = _event(f"p{number}", "purchase", at_ms + DAY_MS, f"u{number}")
            bought.purchase.amount.amount_minor = 1_000
            events.append(bought)
        watched = _event(f"w{number}", "watch", at_ms + 1_000, f"u{number}")
        watched.attributes["duration_ms"].int_value = random.randrange(50_000, 70_000)
        events.append(watched)
    events.append(_event("last", "search", START_MS + DAYS * DAY_MS, "u0"))
    events.sort(key=lambda event: event.event_time.ToMilliseconds())
    with LogWriter(directory) as writer:
        writer.append(
            [
                LoggedEvent(
                    event=event, arrival=arrival, arrival_time=event.event_time, producer="test"
                ).SerializeToString()
                for arrival, event in enumerate(events)
            ]
        )
    return directory


def _event(event_id: str, event_type: str, at_ms: int, user: str) -> Event:
    event = Event(event_id=event_id, type=event_type)
    event.event_time.FromMilliseconds(at_ms)
    event.actor.user_id = user
    return event
