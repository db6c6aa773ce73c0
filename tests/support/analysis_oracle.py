"""What the units of an experiment did, by brute force: no joins, no query engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from offline.analysis.plan import AnalysisPlan, PlannedMetric
from podium.common.v1.common_pb2 import ASSIGNMENT_REASON_FORCED, TRAFFIC_CLASS_UNSPECIFIED
from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.domain_metrics import Counted


@dataclass(frozen=True)
class Happened:
    """A record that counts, with whom it counts for."""

    event: Event
    arrival: int
    person: tuple[str, int] | None

    @property
    def ms(self) -> int:
        """When it happened."""
        return self.event.event_time.ToMilliseconds()


@dataclass
class Row:
    """What is expected of one row."""

    person: tuple[str, int] | None
    group: str | None
    first: Happened
    variant: str
    other: str
    until_ms: float = float("inf")
    settled_ms: int = 0
    exposure: Happened | None = None
    values: dict[str, float] = field(default_factory=dict)

    @property
    def exposed_ms(self) -> int:
        """From when on it counts."""
        return max(self.first.ms, self.settled_ms)


def _key(event: Event) -> str:
    if event.actor.user_id:
        return event.actor.user_id
    return f"device:{event.actor.device_id}" if event.actor.device_id else ""


def position_at(log: Sequence[LoggedEvent], as_of_ms: int) -> int:
    """Records that had been written."""
    for logged in log:
        counts = not (logged.duplicate or logged.too_late or logged.event.traffic_class)
        kind = logged.event.WhichOneof("payload")
        late = logged.arrival_time.ToMilliseconds() > as_of_ms
        if late and counts and kind not in ("alias", "erasure"):
            return logged.arrival
    return len(log)


def happened(log: Sequence[LoggedEvent], position: int) -> list[Happened]:
    """Records that count at a position, for whom they count then."""
    known = [
        logged
        for logged in log[:position]
        if logged.event.traffic_class == TRAFFIC_CLASS_UNSPECIFIED
        and not logged.duplicate
        and not logged.too_late
    ]
    ends = [
        (record.arrival, key, record.event.actor.user_id if alias else None)
        for record in known
        for alias in (record.event.HasField("alias"),)
        if alias or record.event.HasField("erasure")
        for key in (
            [f"device:{record.event.actor.device_id}"] if alias else [record.event.actor.user_id]
        )
    ]
    found = []
    for record in known:
        event = record.event
        if event.HasField("alias") or event.HasField("erasure"):
            continue
        actor, at = _key(event), record.arrival
        forgotten = False
        while True:
            ended = next((e for e in ends if e[1] == actor and e[0] > at), None)
            if ended is None:
                break
            if ended[2] is None:
                forgotten = True
                break
            actor, at = ended[2], ended[0]
        if not forgotten:
            number = sum(e[1] == actor and e[0] < at for e in ends)
            found.append(Happened(event, record.arrival, (actor, number) if actor else None))
    return found


def rows_of(
    events: Sequence[Happened], plan: AnalysisPlan
) -> tuple[list[Row], dict[str, int], list[Happened]]:
    """Rows in order, units left out by reason, and the exposures that count."""
    exposures = [
        h
        for h in events
        if h.event.type == "exposure"
        and h.event.exposure.assignment.experiment_key == plan.experiment
        and h.event.exposure.assignment.variant_key
        and _unit(h, plan) is not None
    ]
    units: dict[object, list[Happened]] = {}
    for h in exposures:
        units.setdefault(_unit(h, plan), []).append(h)
    rows, left_out = [], {}
    for unit, seen in units.items():
        seen.sort(key=lambda h: (h.ms, h.arrival))
        said = [h.event.exposure.assignment for h in seen]
        arms = {(a.variant_key, a.other_variant_key) for a in said}
        reason = ""
        if any(a.reason == ASSIGNMENT_REASON_FORCED for a in said):
            reason = "forced"
        elif len(arms) > 1:
            reason = "crossover"
        elif said[0].variant_key not in plan.variants:
            reason = "unknown_variant"
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        person, group = unit  # type: ignore[misc]
        arm, other = said[0].variant_key, said[0].other_variant_key
        row = Row(person, group, seen[0], arm, other, exposure=seen[0])
        if plan.unit == "time_slice":
            row.until_ms = (int(group) + 1) * plan.slice_ms
        rows.append(row)
    if plan.unit == "time_slice" and plan.burn_in_ms:
        arms_of = {int(row.group or 0): row.variant for row in rows}
        for row in rows:
            number = int(row.group or 0)
            if arms_of.get(number - 1) != row.variant:
                row.settled_ms = number * plan.slice_ms + plan.burn_in_ms
    if plan.entered_by:
        came = [entered for row in rows for entered in _entered(events, plan, row)]
        counted = [e for row in rows for e in _entered(events, plan, row, row.exposed_ms)]
        for row in counted if plan.unit == "time_slice" else ():
            slice_ends_ms = (int(row.group or 0) + 1) * plan.slice_ms
            later = [r.first.ms for r in came if r.person == row.person]
            row.until_ms = min((ms for ms in later if ms >= slice_ends_ms), default=float("inf"))
        rows = counted
    rows.sort(key=lambda r: (r.exposed_ms, _name(r.person), r.group or ""))
    return rows, left_out, exposures


def _name(person: tuple[str, int] | None) -> str:
    if person is None:
        return ""
    return f"{person[0]}\x1f{person[1]}" if person[1] else person[0]


def _group(h: Happened, plan: AnalysisPlan) -> str | None:
    if plan.unit == "time_slice":
        return str(h.ms // plan.slice_ms)
    kind = plan.other_unit or plan.unit
    return next((ref.id for ref in h.event.entities if ref.type == kind), None)


def _unit(h: Happened, plan: AnalysisPlan) -> tuple[object, str | None] | None:
    group = _group(h, plan)
    if plan.other_unit:
        return (h.person, group) if h.person and group else None
    if plan.unit in ("host", "time_slice"):
        return (None, group) if group else None
    return (h.person, None) if h.person else None


def _entered(
    events: Sequence[Happened], plan: AnalysisPlan, row: Row, since_ms: int = 0
) -> Iterator[Row]:
    since_ms = max(since_ms, row.first.ms)
    first: dict[object, Happened] = {}
    for h in sorted(events, key=lambda h: (h.ms, h.arrival)):
        here = h.person and _group(h, plan) == row.group and h.ms >= since_ms
        if here and h.event.type in plan.entered_by:
            first.setdefault(h.person, h)
    for person, h in first.items():
        yield Row(person, row.group, h, row.variant, row.other, exposure=row.first)  # type: ignore[arg-type]


def counted(
    events: Sequence[Happened],
    plan: AnalysisPlan,
    row: Row,
    what: Counted,
    metric: PlannedMetric,
    bounds: tuple[float, float] | None = None,
) -> list[tuple[Happened, int]]:
    """Events of a row with their values, less refunds. ``bounds``: before its exposure instead."""
    earlier = bounds is not None
    start, end = bounds or (row.exposed_ms, row.exposed_ms + metric.window_ms + metric.within_ms)
    end = end if earlier else min(end, row.until_ms)
    found = []
    for h in sorted(events, key=lambda h: (h.ms, h.arrival)):
        if h.event.type not in what.events or not start <= h.ms < end:
            continue
        if earlier and h.arrival >= row.first.arrival:
            continue
        if row.person is not None and h.person != row.person:
            continue
        of_slice = plan.unit == "time_slice" and row.person is not None
        if row.group is not None and not of_slice and _group(h, plan) != row.group:
            continue
        said = {name: value.int_value for name, value in h.event.attributes.items()}
        if h.event.HasField("purchase"):
            said["amount_minor"] = h.event.purchase.amount.amount_minor
        if any(said.get(name, -1) < least for name, least in what.at_least.items()):
            continue
        value = 1 if what.value is None else said.get(what.value, 0)
        if h.event.type == "purchase":
            refunds = [
                r
                for r in events
                if r.event.type == "refund" and r.event.refund.purchase_event_id == h.event.event_id
            ]
            if earlier:
                refunds = [
                    r for r in refunds if r.ms < row.first.ms and r.arrival < row.first.arrival
                ]
            elif metric.refund_delay_ms is not None:
                refunds = [r for r in refunds if r.ms <= h.ms + metric.refund_delay_ms]
            back = sum(r.event.refund.amount.amount_minor for r in refunds)
            if refunds and back >= refunds[0].event.refund.purchase_amount.amount_minor:
                continue
            value = max(value - back, 0) if what.value == "amount_minor" else value
        found.append((h, value))
    return found


def share_of_slice(plan: AnalysisPlan, metric: PlannedMetric, row: Row) -> float:
    """How much of the time that a whole slice has for a metric this one has."""
    start_ms = int(row.group or 0) * plan.slice_ms
    moments = range(start_ms, min(start_ms + metric.window_ms, start_ms + plan.slice_ms), 500)
    from_ms = max(row.settled_ms, start_ms)
    there = range(from_ms, min(from_ms + metric.window_ms, start_ms + plan.slice_ms), 500)
    return len(there) / len(moments)


def value_of(
    metric: PlannedMetric, found: Sequence[tuple[Happened, int]], start_ms: float, part: str
) -> float:
    """A metric's value from the events that count."""
    if metric.within_ms:
        for (one, _), (other, _) in pairwise(found):
            if one.ms < start_ms + metric.window_ms and other.ms <= one.ms + metric.within_ms:
                return 1.0
        return 0.0
    if metric.statistic == "share" and part == "numerator":
        return float(bool(found))
    return float(sum(value for _, value in found))


def day_start_ms(ms: int, zone: str) -> int:
    """When the day of a moment began."""
    moment = datetime.fromtimestamp(ms / 1_000, ZoneInfo(zone))
    return round(moment.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1_000)


def credits_of(
    events: Sequence[Happened], plan: AnalysisPlan, row: Row, metric: PlannedMetric
) -> dict[str, float]:
    """What each team earned with a row."""
    shown = {
        (h.event.rank_id, item, team)
        for h in events
        if h.event.HasField("slate_served") and h.person == row.person
        for arms in ({a.experiment_key: a.variant_key for a in h.event.slate_served.assignments},)
        if arms.get(plan.experiment) == row.variant
        for item, team in zip(
            h.event.slate_served.item_ids, h.event.slate_served.interleaving_teams, strict=True
        )
    }
    earned: dict[str, float] = {}
    for h, value in counted(events, plan, row, metric.numerator, metric):
        items = {ref.id for ref in h.event.entities if ref.type == "course"}
        for rank_id, item, team in shown:
            if rank_id == h.event.rank_id and item in items:
                earned[team] = earned.get(team, 0.0) + value
    return earned
