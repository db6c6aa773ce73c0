"""Recomputes sampled examples from the log cut at their own as-of point.

What is read for an example is cut first: events up to its time and before its arrival. Then every
column that describes the example is computed anew, in plain Python that shares no expression with
the build, and must be equal. A feature that looks past the point differs and fails the build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from offline.dataset.log_tables import LogTables
from offline.dataset.point_in_time import selected_features
from offline.dataset.schema import attribute_column, entity_column, value_column
from offline.dataset.tables import LeakCheck, numeric_names, vocabulary_names
from services.common.domain import Domain
from services.feature.definitions import (
    REFUND,
    USER_ENTITY,
    ViewFeature,
    WindowAggregate,
    compile_views,
    last_time_aggregate,
    served_total,
    smoothed_ratio,
    window_aggregates,
    window_start_ms,
)

Row = Mapping[str, Any]
_SHOWN_DIFFERENCES = 5


@dataclass
class LeakReport:
    """What was compared; ``differences`` describes the first few."""

    sampled: int = 0
    compared_values: int = 0
    differing_values: int = 0
    differences: list[str] = field(default_factory=list)

    def result(self) -> LeakCheck:
        """As it is stored with the dataset."""
        return LeakCheck(
            sampled=self.sampled,
            compared_values=self.compared_values,
            differing_values=self.differing_values,
        )

    def compare(self, example: Row, expected: Mapping[str, Any]) -> None:
        """Counts the columns of ``example`` that are not as expected."""
        self.sampled += 1
        for name, value in expected.items():
            self.compared_values += 1
            if example[name] == value:
                continue
            self.differing_values += 1
            if len(self.differences) < _SHOWN_DIFFERENCES:
                self.differences.append(
                    f"{name} of example {example['example_id']} is {example[name]!r},"
                    f" but {value!r} from the log up to its point"
                )


def check_leaks(domain: Domain, tables: LogTables, examples: pa.Table, sample: int) -> LeakReport:
    """Checks ``sample`` examples, evenly spread over ``examples``, the last one included."""
    report = LeakReport()
    number = min(sample, examples.num_rows)
    if number == 0:
        return report
    rows = np.unique(np.linspace(examples.num_rows - 1, 0, number).astype(np.int64))
    chosen = examples.take(pa.array(rows)).to_pylist()
    facts = _Facts(domain, tables, chosen)
    for example in chosen:
        report.compare(example, facts.expected(example))
    return report


class _Facts:
    """What the log says about the sampled users and items, by entity type and id."""

    def __init__(self, domain: Domain, tables: LogTables, examples: Sequence[Row]) -> None:
        self._domain = domain
        self._events: dict[tuple[str, str], list[Row]] = {}
        self._changes: dict[tuple[str, str], list[Row]] = {}
        wanted: dict[str, set[str]] = {USER_ENTITY: {row["user"] for row in examples}}
        for row in examples:
            wanted.setdefault(row["entity_type"], set()).add(row["entity_id"])
        for entity, identities in wanted.items():
            # The leak check reads features of items only where the domain declares some.
            features = compile_views(domain).get(entity)
            if features is not None and any(f.kind != "attribute" for f in features.features):
                _collect(self._events, entity, tables, tables.about(entity), identities)
            if entity in tables.changes:
                _collect(self._changes, entity, tables, tables.changes[entity], identities)

    def expected(self, example: Row) -> dict[str, Any]:
        """Columns of an example that describe it, by name."""
        model = self._domain.model
        point = (example["time_ms"], example["arrival"])
        sequence = model.sequence
        user = self._features(
            USER_ENTITY,
            example["user"],
            point,
            [sequence.items, sequence.actions, *model.user_features],
        )
        entity, identity = example["entity_type"], example["entity_id"]
        item = self._features(entity, identity, point, model.item_features)
        attributes = self._attributes(entity, identity, point)
        tower = self._domain.entities[entity].tower
        expected: dict[str, Any] = {
            "recent_items": user[sequence.items],
            "recent_actions": user[sequence.actions],
        }
        expected |= {f"u.{name}": _float32(user[name]) for name in model.user_features}
        defaults = {
            column.name: column.default
            for view in compile_views(self._domain).values()
            for column in view.features
        }
        for name in model.item_features:
            expected[f"i.{name}"] = _float32(item.get(name, defaults[name]))
        attributes["id"] = identity
        fields = tower.fields if tower else {}
        for name in vocabulary_names(self._domain):
            value = attributes.get(fields.get(name, ""))
            expected[f"f.{name}"] = "" if value is None else _text(value)
        numeric = tower.numeric if tower else []
        for name in numeric_names(self._domain):
            expected[f"n.{name}"] = _float32(attributes.get(name, 0) if name in numeric else 0)
        return expected

    def _features(
        self, entity: str, identity: str, point: tuple[int, int], names: Sequence[str]
    ) -> dict[str, Any]:
        known = _known(self._events.get((entity, identity), []), point)
        attributes = self._attributes(entity, identity, point)
        values: dict[str, Any] = {}
        for column in selected_features(self._domain, entity, names):
            if column.attribute is not None:
                values[column.name] = attributes.get(column.attribute, column.default)
            else:
                values[column.name] = _feature(known, column, point[0])
        return values

    def _attributes(self, entity: str, identity: str, point: tuple[int, int]) -> dict[str, Any]:
        latest: dict[str, Any] = {}
        for row in _known(self._changes.get((entity, identity), []), point):
            for name in self._domain.entities[entity].attributes:
                value = row[attribute_column(name)]
                if value is not None:
                    latest[name] = value
        return latest


def _collect(
    into: dict[tuple[str, str], list[Row]],
    entity: str,
    tables: LogTables,
    table: Any,
    identities: set[str],
) -> None:
    rows = table.filter(table["id"].isin(sorted(identities)))
    for row in tables.connection.to_pyarrow(rows).to_pylist():
        into.setdefault((entity, row["id"]), []).append(row)


def _known(rows: Sequence[Row], point: tuple[int, int]) -> list[Row]:
    """The log cut at the point, by event time, then arrival."""
    time_ms, arrival = point
    cut = [row for row in rows if row["time_ms"] <= time_ms and row["arrival"] < arrival]
    return sorted(cut, key=lambda row: (row["time_ms"], row["arrival"]))


def _feature(known: Sequence[Row], column: ViewFeature, t_ms: int) -> Any:
    definition = column.definition
    if definition.kind == "recency":
        events = last_time_aggregate(definition.events).events
        times = [row["time_ms"] for row in known if row["type"] in events]
        return (t_ms - times[-1]) / 1_000 if times else definition.default
    if definition.kind == "last_n":
        of = entity_column(definition.of)
        named = [r for r in known if r["type"] in definition.events and r[of] is not None]
        return [r[of] if definition.emit == "id" else r["type"] for r in named[-definition.limit :]]
    totals = [_total(known, aggregate, t_ms) for aggregate in window_aggregates(definition)]
    if definition.kind == "ratio":
        prior = definition.prior
        numerator, denominator = totals
        return smoothed_ratio(numerator, denominator, prior.numerator, prior.denominator)
    return served_total(totals[0])


def _total(known: Sequence[Row], aggregate: WindowAggregate, t_ms: int) -> int:
    start_ms = window_start_ms(t_ms, aggregate.window_ms)
    total = 0
    for row in known:
        if row["type"] in aggregate.events and row["time_ms"] >= start_ms:
            counted = 1 if aggregate.value is None else row[value_column(aggregate.value)]
            total += counted or 0
    if not aggregate.reversed_by_refunds:
        return total
    refunds: dict[str, list[Row]] = {}
    for row in sorted(known, key=lambda row: row["arrival"]):
        if row["type"] == REFUND and row["purchase_event_id"] is not None:
            refunds.setdefault(row["purchase_event_id"], []).append(row)
    for of_purchase in refunds.values():
        first = of_purchase[0]
        if aggregate.value is not None:
            total -= sum(
                row["given_back_minor"]
                for row in of_purchase
                if start_ms <= row["purchase_time_ms"] <= t_ms
            )
        elif sum(row["given_back_minor"] for row in of_purchase) >= first["purchase_amount_minor"]:
            total -= start_ms <= first["purchase_time_ms"] <= t_ms
    return total


def _float32(value: Any) -> float:
    return float(np.float32(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
