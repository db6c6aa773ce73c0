"""Random streams in which devices turn out to be users', and what such a stream means."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

from podium.common.v1.common_pb2 import Actor
from podium.event.v1.event_pb2 import Alias, Erasure, Event, LoggedEvent
from services.common.domain import Domain
from tests.support.feature_streams import (
    START_MS,
    domain_with,
    interaction,
    logged,
    purchase_event,
    refund_event,
)

VISITORS = (
    Actor(user_id="ann"),
    Actor(user_id="bob"),
    Actor(device_id="d1"),
    Actor(device_id="d1"),
    Actor(device_id="d2"),
    Actor(user_id="ann", device_id="d1"),
)
USER_KEYS = ("ann", "bob", "device:d1", "device:d2")


def alias_event(event_id: str, user: str, device: str) -> Event:
    """What the log holds of ``FeatureService.Alias``."""
    actor = Actor(user_id=user, device_id=device)
    return Event(event_id=event_id, type="alias", actor=actor, alias=Alias())


def erasure_event(event_id: str, user: str = "", device: str = "") -> Event:
    """What the log holds of ``FeatureService.EraseUser``."""
    actor = Actor(user_id=user, device_id=device)
    return Event(event_id=event_id, type="erasure", actor=actor, erasure=Erasure())


def as_told(log: Sequence[LoggedEvent], arrival: int) -> list[LoggedEvent]:
    """The log below ``arrival`` with each event under the name of whom it counts for there: of a
    device alone, the user of the first alias of the device after the event."""
    known = [record for record in log if record.arrival < arrival]
    aliases = [record for record in known if record.event.HasField("alias")]
    told = []
    for record in known:
        actor = record.event.actor
        found = LoggedEvent.FromString(record.SerializeToString())
        if actor.device_id and not actor.user_id:
            later = [
                alias.event.actor.user_id
                for alias in aliases
                if alias.event.actor.device_id == actor.device_id and alias.arrival > record.arrival
            ]
            if later:
                found.event.actor.CopyFrom(Actor(user_id=later[0]))
        told.append(found)
    return told


def pairs_domain() -> Domain:
    """A domain whose user features are of every kind, with pairs of users and courses."""
    events = ["click", "watch", "purchase"]
    both = {"entities": ["user", "likes"]}
    features = {
        "count": {"kind": "count", **both, "events": events, "window": "1h"},
        "bought": {"kind": "count", **both, "events": ["purchase"], "window": "1d"},
        "spent": {
            "kind": "sum",
            **both,
            "events": ["purchase"],
            "value": "amount_minor",
            "window": "5m",
        },
        "watched": {
            "kind": "mean",
            **both,
            "events": ["watch"],
            "value": "duration_ms",
            "window": "1d",
        },
        "least": {
            "kind": "min",
            **both,
            "events": ["purchase"],
            "value": "amount_minor",
            "window": "1h",
        },
        "most": {
            "kind": "max",
            **both,
            "events": ["purchase"],
            "value": "amount_minor",
            "window": "1d",
        },
        "last": {
            "kind": "last",
            **both,
            "events": ["watch"],
            "value": "duration_ms",
            "window": "1d",
        },
        "share": {
            "kind": "ratio",
            **both,
            "numerator": ["watch"],
            "denominator": events,
            "window": "1h",
            "prior": {"numerator": 1, "denominator": 20},
        },
        "since": {"kind": "recency", **both, "events": events},
        "courses": {
            "kind": "distinct",
            "entities": ["user"],
            "events": events,
            "of": "course",
            "window": "1h",
            "cap": 2,
        },
        "visitors": {
            "kind": "distinct",
            "entities": ["course"],
            "events": events,
            "of": "user",
            "window": "1d",
        },
        "liked": {
            "kind": "pairs",
            "entities": ["user"],
            "events": events,
            "of": "likes",
            "limit": 2,
        },
        "liked_count": {
            "kind": "pairs",
            "entities": ["user"],
            "events": events,
            "of": "likes",
            "limit": 2,
            "emit": "count",
        },
    }
    plain = domain_with(features={}).model_dump(mode="json", exclude_defaults=True)
    plain["entities"]["likes"] = {"pair": ["user", "course"]}
    plain["features"] |= features
    return Domain.model_validate(plain)


@st.composite
def aliased_streams(draw: st.DrawFn, *, erased: bool = False) -> list[LoggedEvent]:
    """5 to 40 records of users, devices and both at once, out of order, ahead of the clock,
    refunded by whoever (more than once if ``erased``). Every sixth or so says that a device is a
    user's, and if ``erased`` that somebody is to be forgotten."""
    kinds = ("click", "watch", "watch", "purchase", "refund", "alias")
    clock_ms = START_MS
    records: list[LoggedEvent] = []
    purchases: list[Event] = []
    spans = st.sampled_from((0, 1, 700, 61_000, 3_600_000, 40_000_000))
    for index in range(draw(st.integers(5, 40))):
        clock_ms += draw(spans)
        ahead = draw(st.sampled_from((0, 0, 0, 1, 2_000, 300_000)))
        time_ms = clock_ms + ahead if ahead else clock_ms - draw(spans)
        name, ref = f"e{index}", f"course:{draw(st.sampled_from(('c1', 'c2', 'c3')))}"
        kind = draw(st.sampled_from((*kinds, "erasure") if erased else kinds))
        if kind == "alias":
            user, device = (draw(st.sampled_from(some)) for some in (("ann", "bob"), ("d1", "d2")))
            event = alias_event(name, user, device)
        elif kind == "erasure":
            user, device = draw(st.sampled_from((("ann", ""), ("", "d1"), ("bob", "d1"))))
            event = erasure_event(name, user, device)
        elif kind == "purchase" or (kind == "refund" and not purchases):
            event = purchase_event(name, time_ms, draw(st.sampled_from((0, 100, 250))), "x", ref)
            purchases.append(event)
        elif kind == "refund":
            amount = draw(st.sampled_from((100, 250)))
            bought = draw(st.sampled_from(purchases))
            if not erased:
                # Refunds of one purchase add up to all of it under one name only.
                purchases.remove(bought)
            event = refund_event(name, time_ms, amount, bought)
        else:
            event = interaction(name, kind, time_ms, "x", ref)
            if kind == "watch":
                event.attributes["duration_ms"].int_value = draw(st.integers(0, 9))
        if kind not in ("alias", "erasure"):
            event.actor.CopyFrom(draw(st.sampled_from(VISITORS)))
        record = logged(index, event, clock_ms)
        record.duplicate = draw(st.integers(0, 19)) == 0
        records.append(record)
    for record in records:
        record.duplicate = record.duplicate and record.event.type not in ("alias", "erasure")
    return records


def dense_stream(random: Random, records: int) -> list[LoggedEvent]:
    """A stream in which histories end every few records, late events and refunds of whoever around
    the endings."""
    clock_ms = START_MS
    log: list[LoggedEvent] = []
    purchases: list[Event] = []
    for index in range(records):
        clock_ms += random.choice((0, 1, 700, 61_000, 900_000))
        time_ms = clock_ms - random.choice((0, 0, 0, -2_000, 700, 61_000, 4_000_000))
        name, ref = f"e{index}", f"course:{random.choice(('c1', 'c2'))}"
        kind = random.choices(
            ("click", "watch", "purchase", "refund", "alias", "erasure"), (3, 3, 3, 4, 2, 1)
        )[0]
        if kind == "alias":
            event = alias_event(name, random.choice(("ann", "bob")), random.choice(("d1", "d2")))
        elif kind == "erasure":
            event = erasure_event(name, *random.choice((("ann", ""), ("", "d1"), ("bob", "d1"))))
        else:
            if kind == "purchase" or (kind == "refund" and not purchases):
                event = purchase_event(name, time_ms, random.choice((0, 100, 250)), "x", ref)
                purchases.append(event)
            elif kind == "refund":
                bought = random.choice(purchases[-3:])
                event = refund_event(name, time_ms, random.choice((100, 250)), bought)
            else:
                event = interaction(name, kind, time_ms, "x", ref)
                event.attributes["duration_ms"].int_value = random.randrange(9)
            event.actor.CopyFrom(random.choice(VISITORS))
        log.append(logged(index, event, clock_ms))
    return log


def pseudonymised(stream: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """A stream with ids as long as pseudonyms are."""
    records = []
    for record in stream:
        found = LoggedEvent.FromString(record.SerializeToString())
        actor = found.event.actor
        for name in ("user_id", "device_id"):
            if identity := getattr(actor, name):
                setattr(actor, name, f"p1.{identity * 10}")
        records.append(found)
    return records


def long_id(key: str) -> str:
    """A key as ``pseudonymised`` makes it."""
    device = key.removeprefix("device:")
    return f"device:p1.{device * 10}" if device != key else f"p1.{key * 10}"
