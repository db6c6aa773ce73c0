"""What the event log holds of one slate: how it was served, and what followed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import DecodeError

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.actor import actor_key

Records = Iterable[tuple[int, bytes]]
"""(arrival, record) of a log, in order."""


@dataclass(frozen=True)
class Variant:
    """A variant that the request was in; ``bucket`` is None where no hash was computed."""

    experiment: str
    variant: str
    reason: str
    bucket: float | None


@dataclass(frozen=True)
class Shown:
    """One item of a slate. ``log_propensity`` is None where nothing was drawn, ``price_minor``
    where no price was known; texts are empty where the log says nothing."""

    position: int
    id: str
    selling: str
    source: str
    value: float
    predictions: Sequence[float]
    placement: str
    team: str
    log_propensity: float | None
    feasible: int
    price_minor: int | None


@dataclass(frozen=True)
class LoggedSlate:
    """A slate as the log has it. ``actor`` is a pseudonym."""

    arrival: int
    served_at: datetime
    surface: str
    entity_type: str
    actor: str
    traffic: str
    bundle: str
    policy: str
    variants: Sequence[Variant]
    degraded: Sequence[str]
    feature_view: str
    feature_position: int
    parent_rank_id: str
    objectives: Sequence[str]
    items: Sequence[Shown]


@dataclass(frozen=True)
class Followed:
    """An event that names the slate, or gives back what was bought from it."""

    arrival: int
    happened_at: datetime
    type: str
    position: int | None
    entities: Sequence[str]
    amount_minor: int | None
    currency: str


@dataclass(frozen=True)
class Story:
    """All that the log holds of one rank_id. ``exposures``: how many were logged; ``later``: the
    pages and refreshes that follow it, by their rank_id."""

    slate: LoggedSlate | None
    exposures: int
    later: Sequence[str]
    followed: Sequence[Followed]


def story_of(
    rank_id: str, records: Callable[[], Records], duplicates: frozenset[int] = frozenset()
) -> Story:
    """What a log says of a slate; ``records`` reads it from the start, a second time where
    something was bought. ``duplicates`` are arrivals that do not count."""
    slate: LoggedSlate | None = None
    exposures, later = 0, []
    followed: list[Followed] = []
    purchases: set[str] = set()
    for arrival, event in _naming([rank_id], records(), duplicates):
        if event.traffic_class == common_pb2.TRAFFIC_CLASS_SHADOW:
            # Of another bundle, under the same rank_id: nobody saw it.
            continue
        if event.WhichOneof("payload") == "slate_served":
            if event.rank_id == rank_id:
                slate = _slate(arrival, event)
            elif event.slate_served.parent_rank_id == rank_id:
                later.append(event.rank_id)
        elif event.rank_id != rank_id:
            continue
        elif event.WhichOneof("payload") == "exposure":
            exposures += 1
        else:
            followed.append(_followed(arrival, event))
            if event.HasField("purchase"):
                purchases.add(event.event_id)
    if purchases:
        known = {found.arrival for found in followed}
        followed += [
            _followed(arrival, event)
            for arrival, event in _naming(sorted(purchases), records(), duplicates)
            if arrival not in known and event.refund.purchase_event_id in purchases
        ]
    return Story(slate, exposures, later, sorted(followed, key=lambda found: found.arrival))


def _naming(
    names: Sequence[str], records: Records, duplicates: frozenset[int]
) -> Iterator[tuple[int, event_pb2.Event]]:
    """Events whose bytes hold one of the names."""
    needles = [name.encode() for name in names]
    for arrival, record in records:
        if arrival in duplicates or not any(needle in record for needle in needles):
            continue
        try:
            logged = event_pb2.LoggedEvent.FromString(record)
        except (DecodeError, UnicodeDecodeError):
            continue
        if not logged.duplicate:
            yield arrival, logged.event


def _slate(arrival: int, event: event_pb2.Event) -> LoggedSlate:
    served = event.slate_served
    traffic = common_pb2.TrafficClass.Name(event.traffic_class).removeprefix("TRAFFIC_CLASS_")
    return LoggedSlate(
        arrival=arrival,
        served_at=event.event_time.ToDatetime(UTC),
        surface=served.surface,
        entity_type=served.entity_type,
        actor=actor_key(event.actor.user_id, event.actor.device_id),
        traffic=traffic,
        bundle=served.bundle_version,
        policy=served.policy,
        variants=[_variant(assignment) for assignment in served.assignments],
        degraded=list(served.degraded),
        feature_view=served.feature_view_hash,
        feature_position=served.feature_log_position,
        parent_rank_id=served.parent_rank_id,
        objectives=list(served.objectives),
        items=[_shown(served, at) for at in range(len(served.item_ids))],
    )


def _variant(assignment: common_pb2.Assignment) -> Variant:
    reason = common_pb2.AssignmentReason.Name(assignment.reason)
    bucket = assignment.bucket if assignment.HasField("bucket") else None
    return Variant(
        assignment.experiment_key,
        assignment.variant_key,
        reason.removeprefix("ASSIGNMENT_REASON_"),
        bucket,
    )


def _shown(served: event_pb2.SlateServed, at: int) -> Shown:
    width = len(served.objectives)
    placement = event_pb2.SlateServed.PLACEMENT_VALUE
    if served.placements:
        placement = served.placements[at]
    price = served.prices_minor[at] if served.prices_minor else -1
    return Shown(
        position=served.positions[at] if served.positions else at,
        id=served.item_ids[at],
        selling=served.selling_course_ids[at] if served.selling_course_ids else "",
        source=served.sources[at] if served.sources else "",
        value=served.values[at] if served.values else float("nan"),
        predictions=list(served.predictions[at * width : (at + 1) * width]),
        placement=event_pb2.SlateServed.Placement.Name(placement).removeprefix("PLACEMENT_"),
        team=served.interleaving_teams[at] if served.interleaving_teams else "",
        log_propensity=(
            served.log_propensities[at]
            if placement == event_pb2.SlateServed.PLACEMENT_DRAWN and served.log_propensities
            else None
        ),
        feasible=served.feasible_counts[at] if served.feasible_counts else 0,
        price_minor=price if price >= 0 else None,
    )


def _followed(arrival: int, event: event_pb2.Event) -> Followed:
    money = None
    if event.HasField("purchase"):
        money = event.purchase.amount
    elif event.HasField("refund"):
        money = event.refund.amount
    return Followed(
        arrival=arrival,
        happened_at=event.event_time.ToDatetime(UTC),
        type=event.type,
        position=event.position if event.HasField("position") else None,
        entities=[f"{entity.type}:{entity.id}" for entity in event.entities],
        amount_minor=None if money is None else money.amount_minor,
        currency="" if money is None else money.currency_code,
    )
