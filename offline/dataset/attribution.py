"""Labels: which impression an event is credited to, what refunds undo, when a label is final.

An event with a rank_id belongs to the item of that slate that it names (the first impression of
it, when it was shown twice), and to nothing else. One without is credited to the first or last
impression of the same user that matches, by the objective's rule. Whose an impression is, is told
as it was known when the event arrived: what a device was shown is its user's once an alias has said
so, and no longer the device's. Either way the event counts only up to ``attribution.window`` after
the impression, so that a mature label never changes. What erased actors did is left out.

Without impressions an example is an event that some objective counts, credited to itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from offline.dataset.histories import SINCE, histories, remembered
from offline.dataset.log_tables import LogTables
from offline.dataset.schema import entity_column, value_column
from services.common.domain import Domain, Objective
from services.common.durations import duration_ms
from services.common.errors import InvalidArgument
from services.feature.definitions import REFUND, USER_ENTITY

SAME_ITEM = "item"


@dataclass(frozen=True)
class Candidates:
    """What labels are given to: ``key`` (arrival of the impression or event), ``shown_ms``,
    ``actor``, ``rank_id``, ``surface``, ``subject_type``, ``subject_id`` and the entity columns."""

    table: ir.Table
    are_impressions: bool


class Attribution:
    """Labels of one domain over one log."""

    def __init__(self, domain: Domain, tables: LogTables, candidates: Candidates) -> None:
        self._domain = domain
        self._tables = tables
        self._candidates = candidates
        self._entities = [name for name in domain.entities if name != USER_ENTITY]
        if candidates.are_impressions:
            self._first_shown = tables.stored(_first_shown(candidates.table))

    def positives(self, name: str) -> ir.Table:
        """Distinct ``key`` of the candidates that meet the objective."""
        objective = self._domain.objectives[name]
        if objective.repeat_of is not None:
            credited = self._repeated(self._base(objective.repeat_of), objective)
        elif objective.reversal_of is not None:
            base = self._base(objective.reversal_of)
            delay_ms = duration_ms(objective.refund_delay or "")
            events = self._events(base)
            refunded = self._refunded(events, delay_ms)
            credited = self._credited(base, events).semi_join(refunded, "event")
        else:
            events = self._standing(objective)
            credited = self._credited(objective, events)
        return credited.select("key").distinct()

    def settled_after_ms(self, name: str) -> int:
        """How long after an impression the label can still change."""
        objective = self._domain.objectives[name]
        if self._domain.log.times == "ordinal":
            return 0
        base = objective
        span_ms = 0
        delay_ms = duration_ms(objective.refund_delay) if objective.refund_delay else 0
        if objective.repeat_of is not None or objective.reversal_of is not None:
            base = self._base(objective.repeat_of or objective.reversal_of or "")
        if objective.repeat_of is not None:
            span_ms += duration_ms(objective.within or "")
            if base.refund_delay is not None:
                delay_ms = max(delay_ms, duration_ms(base.refund_delay))
        if self._candidates.are_impressions and base.attribution is not None:
            span_ms += duration_ms(base.attribution.window)
        return span_ms + delay_ms

    def _base(self, name: str) -> Objective:
        base = self._domain.objectives[name]
        if not base.events:
            raise InvalidArgument(f"objective {name} must be one over events to be referred to")
        return base

    def _events(self, objective: Objective) -> ir.Table:
        """Events that the objective counts, before refunds. ``event`` is the arrival."""
        return qualifying_events(self._tables, objective)

    def _standing(self, objective: Objective) -> ir.Table:
        """Events that the objective counts and no refund undoes."""
        events = self._events(objective)
        if not objective.reversed_by_refund:
            return events
        refunded = self._refunded(events, duration_ms(objective.refund_delay or ""))
        return events.anti_join(refunded, "event")

    def _refunded(self, events: ir.Table, delay_ms: int) -> ir.Table:
        """``event`` of those that were fully refunded within the delay.

        The cost is what the first refund by arrival says it was.
        """
        log = self._tables.events
        refunds = log.filter((log.type == REFUND) & log.purchase_event_id.notnull()).select(
            "purchase_event_id",
            "given_back_minor",
            "purchase_amount_minor",
            refund_ms=log.time_ms,
            refund_arrival=log.arrival,
        )
        joined = events.select("event", "event_id", "event_ms").join(
            refunds,
            [
                events.event_id == refunds.purchase_event_id,
                refunds.refund_ms <= events.event_ms + delay_ms,
            ],
        )
        sums = joined.group_by("event").aggregate(
            given_back_minor=joined.given_back_minor.sum(),
            cost_minor=joined.purchase_amount_minor.argmin(joined.refund_arrival),
        )
        return sums.filter(sums.given_back_minor >= sums.cost_minor).select("event")

    def _repeated(self, base: Objective, objective: Objective) -> ir.Table:
        """Credited events after which the same user met the base objective again."""
        events = self._standing(base)
        events = events.filter(events.actor != "").select("event", "event_ms", "actor")
        within_ms = duration_ms(objective.within or "")
        if (ended := histories(self._tables)) is None:
            again = _followed(events, within_ms)
        else:
            held = ended.of_actors(events.select("event_ms", id="actor", arrival="event"))
            held = held.rename({"actor": "id", "event": "arrival"})
            own = held.filter(held[SINCE] == held.event)
            inherited = held.filter(held[SINCE] != held.event)
            again = ibis.union(
                _followed(own, within_ms), _followed_by_heir(inherited, own, within_ms)
            )
        return self._credited(base, self._standing(base)).semi_join(again, "event")

    def _credited(self, objective: Objective, events: ir.Table) -> ir.Table:
        """(event, key): at most one candidate an event."""
        if not self._candidates.are_impressions:
            return events.select("event", key=events.event)
        return ibis.union(self._direct(objective, events), self._by_touch(objective, events))

    def _direct(self, objective: Objective, events: ir.Table) -> ir.Table:
        shown = self._first_shown
        named = [
            events.filter(events[entity_column(entity)].notnull() & (events.rank_id != "")).select(
                "event",
                "event_ms",
                "rank_id",
                named_type=ibis.literal(entity),
                named_id=events[entity_column(entity)],
            )
            for entity in self._entities
        ]
        table = ibis.union(*named) if len(named) > 1 else named[0]
        joined = table.join(
            shown,
            [
                table.rank_id == shown.shown_rank_id,
                table.named_type == shown.shown_type,
                table.named_id == shown.shown_id,
                table.event_ms <= shown.shown_ms + _window_ms(objective),
            ],
        )
        return joined.select("event", "key")

    def _by_touch(self, objective: Objective, events: ir.Table) -> ir.Table:
        rule = objective.attribution
        assert rule is not None  # noqa: S101 - the schema requires it with events
        free = events.filter((events.rank_id == "") & (events.actor != ""))
        shown = self._candidates.table
        if (ended := histories(self._tables)) is not None:
            held = ended.of_actors(free.mutate(id=free.actor, arrival=free.event))
            held = held.filter(held[SINCE] == held.event)
            free = held.mutate(actor=held.id).select(*free.columns)
            seen = ended.of_actors(shown.mutate(id=shown.actor, arrival=shown.key))
            shown = seen.mutate(actor=seen.id).select(*shown.columns, SINCE)
        shown = shown.select(
            "key",
            "shown_ms",
            **{f"shown_{n}": shown[n] for n in shown.columns if n not in ("key", "shown_ms")},
        )
        conditions = [
            free.actor == shown.shown_actor,
            shown.shown_ms <= free.event_ms,
            shown.shown_ms >= free.event_ms - _window_ms(objective),
        ]
        if ended is not None:
            inherited = shown.shown_since != shown.key
            conditions.append(~inherited | (shown.shown_since < free.event))
        if rule.match == SAME_ITEM:
            conditions.append(free.subject_type == shown.shown_subject_type)
            conditions.append(free.subject_id == shown.shown_subject_id)
        else:
            column = entity_column(rule.match)
            conditions.append(free[column] == shown[f"shown_{column}"])
        if not rule.across_surfaces:
            conditions.append(free.surface == shown.shown_surface)
        joined = free.join(shown, conditions)
        order = [joined.shown_ms, joined.key]
        if rule.touch == "last":
            order = [joined.shown_ms.desc(), joined.key.desc()]
        touch = ibis.row_number().over(group_by=joined.event, order_by=order)
        joined = joined.mutate(touch=touch)
        return joined.filter(joined.touch == 0).select("event", "key")


def qualifying_events(tables: LogTables, objective: Objective) -> ir.Table:
    """Events of the objective's types with its least attribute values, refunds aside, and without
    what was forgotten.

    Columns: event (arrival), event_ms, event_id, actor, rank_id, surface, subject_type,
    subject_id and the entity columns.
    """
    log = remembered(tables)
    chosen = log.type.isin(objective.events)
    for attribute, least in objective.at_least.items():
        chosen &= log[value_column(attribute)].fill_null(0) >= least
    entities = [name for name in log.columns if name.startswith(entity_column(""))]
    return log.filter(chosen).select(
        "event_id",
        "actor",
        "rank_id",
        "surface",
        "subject_type",
        "subject_id",
        *entities,
        event=log.arrival,
        event_ms=log.time_ms,
    )


def _followed(events: ir.Table, within_ms: int) -> ir.Table:
    """``event`` of those after which the same actor had another one."""
    ordered = ibis.window(group_by=events.actor, order_by=[events.event_ms, events.event])
    following = events.select("event", "event_ms", next_ms=events.event_ms.lead().over(ordered))
    again = following.filter(following.next_ms <= following.event_ms + within_ms)
    return again.select("event")


def _followed_by_heir(inherited: ir.Table, own: ir.Table, within_ms: int) -> ir.Table:
    """The same of a device's events, after which the user whose they are by then had one."""
    later = own.select(heir=own.actor, later=own.event, later_ms=own.event_ms)
    after = (later.later_ms > inherited.event_ms) | (
        (later.later_ms == inherited.event_ms) & (later.later > inherited.event)
    )
    both = inherited.join(
        later,
        [
            inherited.actor == later.heir,
            inherited[SINCE] < later.later,
            later.later_ms <= inherited.event_ms + within_ms,
            after,
        ],
    )
    return both.select("event")


def _first_shown(shown: ir.Table) -> ir.Table:
    """The first impression of each item of each slate."""
    first = ibis.window(
        group_by=[shown.rank_id, shown.subject_type, shown.subject_id],
        order_by=[shown.shown_ms, shown.key],
    )
    shown = shown.mutate(repetition=ibis.row_number().over(first))
    return shown.filter((shown.rank_id != "") & (shown.repetition == 0)).select(
        "key",
        "shown_ms",
        shown_rank_id=shown.rank_id,
        shown_type=shown.subject_type,
        shown_id=shown.subject_id,
    )


def _window_ms(objective: Objective) -> int:
    assert objective.attribution is not None  # noqa: S101 - the schema requires it with events
    return duration_ms(objective.attribution.window)
