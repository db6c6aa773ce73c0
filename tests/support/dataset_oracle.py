"""What the examples of a log should be, by reading all events for each. Slow, and simple.

Features come from ``feature_oracle``; attribution, maturity and splits are written out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.actor import actor_key
from services.common.domain import Domain, Objective
from services.common.durations import duration_ms
from tests.support.feature_oracle import Oracle, counted_ms, known_events, time_ms

FOREVER_MS = 2**60
MAX_ARRIVAL = 2**62


class ExampleOracle:
    """Examples of one log."""

    def __init__(self, domain: Domain, log: Sequence[LoggedEvent]) -> None:
        self.domain = domain
        self.log = log
        self.known = known_events(domain, log, FOREVER_MS, MAX_ARRIVAL)
        # What erased actors did is left out, but for what it says of others.
        self.counted = [
            logged
            for logged in self.known
            if not user_of(logged.event)
            or self._whose(user_of(logged.event), logged.arrival, MAX_ARRIVAL) is not None
        ]
        self.end_ms = max((counted_ms(logged) for logged in self.known), default=0)
        self.ranked = {surface.entity for surface in domain.surfaces.values()}
        self.candidates = self._candidates()

    def examples(self) -> list[dict[str, Any]]:
        """Rows of examples.parquet, as dictionaries."""
        points = {logged.arrival: self._point(logged) for logged in self.candidates}
        ordered = sorted(self.candidates, key=lambda c: (*points[c.arrival], c.arrival))
        positives = {
            name: {key for _, key in self._credits(name)} for name in self.domain.objectives
        }
        rows = []
        for number, logged in enumerate(ordered):
            event = logged.event
            t_ms, arrival = points[logged.arrival]
            row = {
                "example_id": number,
                "rank_id": event.rank_id,
                "user": user_of(event),
                "time_ms": t_ms,
                "arrival": arrival,
                "surface": event.surface,
                "entity_type": event.entities[0].type,
                "entity_id": event.entities[0].id,
                "position": event.position if event.HasField("position") else None,
            }
            if not self.domain.log.impressions:
                row["position"] = None
            row |= self._described(row)
            for name in self.domain.objectives:
                row[f"y.{name}"] = int(logged.arrival in positives[name])
            for name in self.domain.objectives:
                row[f"m.{name}"] = time_ms(event) + self._settled_ms(name)
            rows.append(row)
        for row, split in zip(rows, self._splits(rows), strict=True):
            row["split"] = split
            known_by_ms = self.end_ms
            if self.domain.split.kind == "time" and split != "test":
                known_by_ms -= duration_ms(self.domain.split.test or "")
            for name in self.domain.objectives:
                row[f"m.{name}"] = row[f"m.{name}"] <= known_by_ms
        return rows

    def _candidates(self) -> list[LoggedEvent]:
        def is_candidate(event: Event) -> bool:
            if not user_of(event) or not event.entities:
                return False
            if event.entities[0].type not in self.ranked:
                return False
            if self.domain.log.impressions:
                return event.type == "impression"
            return any(meets(event, o) for o in self.domain.objectives.values() if o.events)

        return [logged for logged in self.counted if is_candidate(logged.event)]

    def _point(self, candidate: LoggedEvent) -> tuple[int, int]:
        if self.domain.log.impressions and candidate.event.rank_id:
            for logged in self.counted:
                event = logged.event
                if event.type == "slate_served" and event.rank_id == candidate.event.rank_id:
                    return time_ms(event), logged.arrival
        return counted_ms(candidate), candidate.arrival

    def _described(self, row: dict[str, Any]) -> dict[str, Any]:
        model = self.domain.model
        oracle = Oracle(self.domain, self.log, row["time_ms"], row["arrival"])
        entity, identity = row["entity_type"], row["entity_id"]
        user = oracle.features("user", row["user"])
        item = oracle.features(entity, identity)
        carries = self.domain.entities[entity].carries
        if carries is not None:
            theirs = oracle.features(carries.entity, item[carries.by].value)
            item = {name: theirs[name] for name in carries.features} | item
        attributes = oracle.attributes(entity, identity)
        nobody = {
            name: value.value
            for other in self.domain.entities
            for name, value in Oracle(self.domain, [], 0, 0).features(other, "").items()
        }
        described: dict[str, Any] = {
            "recent_items": user[model.sequence.items].value,
            "recent_actions": user[model.sequence.actions].value,
        }
        for name in model.user_features:
            described[f"u.{name}"] = float(np.float32(user[name].value))
        for name in model.item_features:
            value = item[name].value if name in item else nobody[name]
            described[f"i.{name}"] = float(np.float32(value))
        towers = {name: e.tower for name, e in self.domain.entities.items() if e.tower}
        for vocabulary in dict.fromkeys(v for t in towers.values() for v in t.fields):
            attribute = towers[entity].fields.get(vocabulary)
            described[f"f.{vocabulary}"] = (
                identity if attribute == "id" else str(attributes.get(attribute or "", ""))
            )
        for numeric in dict.fromkeys(n for t in towers.values() for n in t.numeric):
            value = attributes.get(numeric, 0) if numeric in towers[entity].numeric else 0
            described[f"n.{numeric}"] = float(np.float32(value))
        return described

    def _credits(self, name: str) -> list[tuple[LoggedEvent, int]]:
        """(event, arrival of the candidate) of every event credited under the objective."""
        objective = self.domain.objectives[name]
        if objective.repeat_of:
            base = self.domain.objectives[objective.repeat_of]
            return [
                (logged, key)
                for logged, key in self._plain(base)
                if self._met_again(logged, base, duration_ms(objective.within or ""))
            ]
        if objective.reversal_of:
            base = self.domain.objectives[objective.reversal_of]
            delay = duration_ms(objective.refund_delay or "")
            return [
                (logged, key)
                for logged, key in self._plain(base, with_refunded=True)
                if self._refunded(logged.event, delay)
            ]
        return self._plain(objective)

    def _plain(
        self, objective: Objective, with_refunded: bool = False
    ) -> list[tuple[LoggedEvent, int]]:
        found = []
        for logged in self.counted:
            if not meets(logged.event, objective):
                continue
            if not with_refunded and self._undone(logged.event, objective):
                continue
            key = self._credited_to(logged, objective)
            if key is not None:
                found.append((logged, key))
        return found

    def _undone(self, event: Event, objective: Objective) -> bool:
        return objective.reversed_by_refund and self._refunded(
            event, duration_ms(objective.refund_delay or "")
        )

    def _credited_to(self, logged: LoggedEvent, objective: Objective) -> int | None:
        event = logged.event
        if not self.domain.log.impressions:
            return logged.arrival
        rule = objective.attribution
        assert rule is not None
        named = {(ref.type, ref.id) for ref in event.entities}
        in_order = sorted(self.candidates, key=lambda c: (counted_ms(c), c.arrival))
        if event.rank_id:
            for shown in in_order:
                subject = shown.event.entities[0]
                same_slate = shown.event.rank_id == event.rank_id
                if same_slate and (subject.type, subject.id) in named:
                    late = time_ms(event) > counted_ms(shown) + duration_ms(rule.window)
                    return None if late else shown.arrival
            return None
        touched = []
        for shown in in_order:
            age = time_ms(event) - counted_ms(shown)
            if not 0 <= age <= duration_ms(rule.window):
                continue
            if not user_of(event) or not self._same_user(shown, logged):
                continue
            if not rule.across_surfaces and shown.event.surface != event.surface:
                continue
            if rule.match == "item":
                match = shown.event.entities[0] == event.entities[0]
            else:
                wanted = {ref.id for ref in event.entities if ref.type == rule.match}
                match = any(
                    ref.type == rule.match and ref.id in wanted for ref in shown.event.entities
                )
            if match:
                touched.append(shown.arrival)
        if not touched:
            return None
        return touched[0] if rule.touch == "first" else touched[-1]

    def _refunded(self, event: Event, delay_ms: int) -> bool:
        refunds = [
            logged.event.refund
            for logged in self.known
            if logged.event.type == "refund"
            and logged.event.refund.purchase_event_id == event.event_id
            and counted_ms(logged) <= time_ms(event) + delay_ms
        ]
        given = sum(refund.amount.amount_minor for refund in refunds)
        return bool(refunds) and given >= refunds[0].purchase_amount.amount_minor

    def _met_again(self, logged: LoggedEvent, base: Objective, within_ms: int) -> bool:
        place = (counted_ms(logged), logged.arrival)
        return bool(user_of(logged.event)) and any(
            meets(other.event, base)
            and not self._undone(other.event, base)
            and self._same_user(logged, other)
            and (counted_ms(other), other.arrival) > place
            and counted_ms(other) <= place[0] + within_ms
            for other in self.counted
        )

    def _whose(self, name: str, arrival: int, position: int) -> str | None:
        """Whose an event under a name is at a position."""
        held = Oracle(self.domain, self.log, 0, position).held(("user", name), arrival)
        return held[1] if held else None

    def _same_user(self, one: LoggedEvent, other: LoggedEvent) -> bool:
        """Whether ``one`` is in the history that ``other`` came into."""
        name, theirs = user_of(one.event), user_of(other.event)
        if one.arrival < other.arrival:
            return self._whose(name, one.arrival, other.arrival) == theirs
        return name == theirs and self._whose(name, other.arrival, one.arrival) == name

    def _settled_ms(self, name: str) -> int:
        objective = self.domain.objectives[name]
        other = objective.repeat_of or objective.reversal_of
        base = self.domain.objectives[other] if other else objective
        settled = 0
        if self.domain.log.impressions and base.attribution:
            settled += duration_ms(base.attribution.window)
        delays = [duration_ms(objective.refund_delay)] if objective.refund_delay else []
        if objective.repeat_of:
            settled += duration_ms(objective.within or "")
            delays += [duration_ms(base.refund_delay)] if base.refund_delay else []
        return settled + max(delays, default=0)

    def _splits(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        split = self.domain.split
        if split.kind == "time":
            test = self.end_ms - duration_ms(split.test or "")
            validation = test - duration_ms(split.validation or "")
            return [
                "test"
                if row["time_ms"] >= test
                else "validation"
                if row["time_ms"] >= validation
                else "train"
                for row in rows
            ]
        splits = []
        for number, row in enumerate(rows):
            later = sum(other["user"] == row["user"] for other in rows[number + 1 :])
            splits.append({0: "test", 1: "validation"}.get(later, "train"))
        return splits


def user_of(event: Event) -> str:
    """Key of the user, empty without one."""
    return actor_key(event.actor.user_id, event.actor.device_id)


def meets(event: Event, objective: Objective) -> bool:
    """Whether the objective counts the event, refunds aside."""
    return event.type in objective.events and all(
        event.attributes[name].int_value >= least if name in event.attributes else least <= 0
        for name, least in objective.at_least.items()
    )
