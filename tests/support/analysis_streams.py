"""Random logs of an experiment: exposures and outcomes, with all that makes them hard to count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from pydantic import TypeAdapter

from podium.common.v1.common_pb2 import (
    ASSIGNMENT_REASON_FORCED,
    ASSIGNMENT_REASON_SPLIT,
    TRAFFIC_CLASS_TEST,
)
from podium.event.v1.event_pb2 import Alias, Erasure, Event, LoggedEvent
from services.common.assign.model import Definitions, Experiment, Variant
from services.common.assign.registered import (
    Analysis,
    Covariate,
    Guardrail,
    Inside,
    Segment,
    Switchback,
)
from services.common.domain import Domain, load_domain
from services.common.domain_metrics import Metric

ROOT = Path(__file__).parents[2]
START_MS = 1_700_000_000_000
SPAN_MS = 900_000
SLICE_MS = 120_000
BURN_IN_MS = 40_000
PEOPLE = tuple(f"user{index}" for index in range(8))
DEVICES = ("d1", "d2", "d3", "d4")
HOSTS = ("h1", "h2", "h3", "h4", "h5")
METRICS = {
    "buyers": {"kind": "conversion", "events": ["purchase"], "window": "300s"},
    "again": {
        "kind": "repurchase",
        "events": ["purchase"],
        "window": "120s",
        "within": "120s",
        "refund_delay": "60s",
    },
    "revenue": {
        "kind": "total",
        "events": ["purchase"],
        "value": "amount_minor",
        "window": "240s",
        "refund_delay": "120s",
    },
    "watched": {
        "kind": "total",
        "events": ["watch"],
        "value": "duration_ms",
        "at_least": {"duration_ms": 200},
        "window": "180s",
        "statistic": "quantile",
        "quantile": 0.9,
    },
    "rate": {
        "kind": "ratio",
        "numerator": {"events": ["click", "room_enter"]},
        "denominator": {"events": ["impression"]},
        "window": "300s",
    },
}
ANALYSIS = Analysis(
    primary="revenue",
    guardrails={"watched": Guardrail(0.02)},
    secondary=("buyers", "again", "rate"),
    segments={"region": Segment("exposure", "region"), "tier": Segment("user", "segment")},
    covariates={
        "spent": Covariate("revenue", 200_000),
        "rated": Covariate("rate", 300_000),
    },
)
_LESS: dict[str, Any] = {
    "guardrails": {},
    "secondary": ("rate",),
    "segments": {"region": ANALYSIS.segments["region"]},
    "covariates": {"spent": ANALYSIS.covariates["spent"]},
}


def analysed_domain() -> Domain:
    """The shipped domain with metrics over minutes."""
    domain = load_domain(ROOT / "config" / "live_courses.yaml")
    metrics = TypeAdapter(dict[str, Metric]).validate_python(METRICS)
    return domain.model_copy(update={"metrics": metrics, "report_time_zone": "Asia/Kathmandu"})


def experiment(design: str) -> Definitions:
    """An experiment "e" of a design: user, host, within_hosts, slice, within_slices, two_sided or
    interleaved; burnt_slice and burnt_within_slices have a burn-in."""
    burnt, design = design.startswith("burnt_"), design.removeprefix("burnt_")
    both = ("a", "b") if design == "interleaved" else None
    variants = (Variant("a", 0.5), Variant("b", 0.25), Variant("mixed", 0.25, interleave=both))
    unit = {"host": "host", "within_hosts": "host", "slice": "time_slice"}.get(design, "user")
    unit = "time_slice" if design == "within_slices" else unit
    # All of it once; what differs by design in each.
    analysis = ANALYSIS if design == "user" else replace(ANALYSIS, **_LESS)
    if design.startswith("within"):
        analysis = replace(analysis, inside=Inside(("impression", "room_enter")))
    if design == "slice":
        analysis = replace(analysis, covariates={})
    if burnt:
        analysis = replace(analysis, switchback=Switchback(BURN_IN_MS, 2))
    made = Experiment(
        "e",
        unit,
        "salt",
        variants,
        slice_ms=SLICE_MS if unit == "time_slice" else 0,
        other_unit="host" if design == "two_sided" else "",
        analysis=analysis,
    )
    return Definitions({"e": made}, "")


def random_log(random: Random, design: str, number: int = 320) -> list[LoggedEvent]:
    """A log in which units meet the experiment, and what they do."""
    events = [_event(random, design, f"e{index}") for index in range(number)]
    bought = [event for event in events if event.type == "purchase"]
    for index, event in enumerate(bought):
        times = random.choice([0, 0, 1, 2])
        events += [_refund(random, f"r{index}.{again}", event) for again in range(times)]
    delays = {event.event_id: random.choice([0, 0, 0, 0, 1_000, 90_000]) for event in events}
    events.sort(key=lambda e: (e.event_time.ToMilliseconds() + delays[e.event_id], e.event_id))
    found, clock_ms = [], START_MS
    for arrival, event in enumerate(events):
        written_ms = event.event_time.ToMilliseconds() + delays[event.event_id]
        clock_ms = max(clock_ms, written_ms)
        logged = LoggedEvent(event=event, arrival=arrival, producer="test")
        logged.arrival_time.FromMilliseconds(clock_ms)
        logged.duplicate = random.random() < 0.03
        logged.too_late = random.random() < 0.03
        found.append(logged)
    return found


def _event(random: Random, design: str, event_id: str) -> Event:
    event = Event(event_id=event_id)
    event.event_time.FromMilliseconds(START_MS + random.randrange(0, SPAN_MS, 500))
    if random.random() < 0.05:
        event.traffic_class = TRAFFIC_CLASS_TEST
    draw = random.random()
    if draw < 0.012:
        event.type = "alias"
        event.actor.user_id, event.actor.device_id = random.choice(PEOPLE), random.choice(DEVICES)
        event.alias.CopyFrom(Alias())
        return event
    if draw < 0.018:
        event.type = "erasure"
        event.actor.user_id = random.choice(PEOPLE)
        event.erasure.CopyFrom(Erasure())
        return event
    who = random.random()
    if who < 0.6:
        event.actor.user_id = random.choice(PEOPLE)
    if who > 0.55:
        event.actor.device_id = random.choice(DEVICES)
    if random.random() < 0.7:
        event.entities.add(type="host", id=random.choice(HOSTS))
    event.entities.add(type="course", id=random.choice(("c1", "c2")))
    if draw < 0.25:
        _exposure(random, design, event)
    elif draw < 0.3:
        _slate(random, event)
    elif draw < 0.36:
        event.type = "profile"
        del event.entities[:]
        event.profile.attributes["segment"].string_value = random.choice(("new", "loyal"))
    else:
        event.type = random.choice(
            ("impression", "click", "room_enter", "watch", "purchase", "purchase")
        )
        if event.type == "watch":
            event.attributes["duration_ms"].int_value = random.randrange(0, 900, 100)
        if event.type == "purchase":
            event.purchase.order_id = event.event_id
            event.purchase.amount.amount_minor = random.choice((0, 100, 250))
        if random.random() < 0.5:
            event.rank_id = random.choice(("k1", "k2", "k3"))
    return event


def _exposure(random: Random, design: str, event: Event) -> None:
    event.type = "exposure"
    assignment = event.exposure.assignment
    assignment.experiment_key = random.choice(("e", "e", "e", "f"))
    who = event.actor.user_id or event.actor.device_id
    if design.endswith(("host", "hosts")):
        who = event.entities[0].id
    if design.endswith(("slice", "slices")):
        who = str(event.event_time.ToMilliseconds() // SLICE_MS)
    settled = Random(who + assignment.experiment_key).choice(("a", "a", "b", "mixed"))
    assignment.variant_key = settled if random.random() < 0.98 else random.choice(("a", "gone", ""))
    forced = random.random() < 0.01
    assignment.reason = ASSIGNMENT_REASON_FORCED if forced else ASSIGNMENT_REASON_SPLIT
    assignment.revision = random.choice((3, 4))
    if design == "two_sided":
        assignment.other_variant_key = Random(event.entities[0].id).choice(("a", "b"))
    if random.random() < 0.7:
        event.attributes["region"].string_value = random.choice(("US", "CA"))


def _slate(random: Random, event: Event) -> None:
    event.type = "slate_served"
    event.rank_id = random.choice(("k1", "k2", "k3"))
    slate = event.slate_served
    slate.surface, slate.entity_type = "courses", "course"
    slate.item_ids.extend(random.sample(("c1", "c2", "c3"), 2))
    slate.interleaving_teams.extend(random.choice((("a", "b"), ("b", ""), ("a", "a"))))
    slate.assignments.add(experiment_key="e", variant_key=random.choice(("mixed", "mixed", "a")))


def _refund(random: Random, event_id: str, bought: Event) -> Event:
    event = Event(event_id=event_id, type="refund", actor=bought.actor)
    # Some are known before their purchase.
    delay_ms = random.choice((-20_000, 10_000, 100_000, 300_000))
    bought_ms = bought.event_time.ToMilliseconds()
    event.event_time.FromMilliseconds(bought_ms + delay_ms)
    paid = bought.purchase.amount.amount_minor
    refund = event.refund
    refund.refund_id, refund.order_id = event_id, bought.purchase.order_id
    refund.amount.amount_minor = random.choice((paid, paid // 2))
    refund.purchase_event_id = bought.event_id
    refund.purchase_time.FromMilliseconds(bought_ms)
    refund.purchase_amount.amount_minor = paid
    return event
