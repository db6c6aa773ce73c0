"""Recomputes sampled examples from the log cut at their own as-of point.

What is read for an example is cut first: events up to its time and before its arrival. Then every
column that describes the example is computed anew, in plain Python that shares no expression with
the build, and must be equal. A feature that looks past the point differs and fails the build.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from offline.dataset.log_tables import LogTables
from offline.dataset.recompute import Recomputed
from offline.dataset.recompute_windows import Row
from offline.dataset.tables import (
    LeakCheck,
    cross_items,
    cross_lists,
    cross_values,
    numeric_names,
    vocabulary_names,
)
from services.common.domain import Domain
from services.feature.definitions import USER_ENTITY, compile_views

_SHOWN_DIFFERENCES = 5
_FLOAT_TOLERANCE = 1e-6


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
            if _same(example[name], value):
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
    """What the log says about the sampled users and items."""

    def __init__(self, domain: Domain, tables: LogTables, examples: Sequence[Row]) -> None:
        self._domain = domain
        wanted: dict[str, set[str]] = {USER_ENTITY: {row["user"] for row in examples}}
        for row in examples:
            wanted.setdefault(row["entity_type"], set()).add(row["entity_id"])
        self._log = Recomputed(domain, tables, wanted)
        named: dict[str, set[str]] = {}
        for row in examples:
            carries = domain.entities[row["entity_type"]].carries
            if carries is not None:
                named.setdefault(carries.entity, set()).add(self._named(row))
        self._carried = Recomputed(domain, tables, named)

    def _named(self, example: Row) -> str:
        """Whose features the item of an example carries, at its point."""
        entity = example["entity_type"]
        carries = self._domain.entities[entity].carries
        by = "" if carries is None else carries.by
        point = (example["time_ms"], example["arrival"])
        return str(self._log.features(entity, example["entity_id"], point, [by])[by])

    def expected(self, example: Row) -> dict[str, Any]:
        """Columns of an example that describe it, by name."""
        model = self._domain.model
        point = (example["time_ms"], example["arrival"])
        sequence = model.sequence
        lists, numbers = cross_lists(self._domain), cross_values(self._domain)
        texts = cross_items(self._domain)
        names = [sequence.items, sequence.actions, *model.user_features, *lists, *numbers]
        user = self._log.features(USER_ENTITY, example["user"], point, names)
        entity, identity = example["entity_type"], example["entity_id"]
        read = [*model.item_features, *texts]
        item = self._log.features(entity, identity, point, read)
        carries = self._domain.entities[entity].carries
        if carries is not None:
            names = [name for name in read if name in carries.features]
            named = self._named(example)
            item |= self._carried.features(carries.entity, named, point, names) if names else {}
        said = self._log.attributes(entity, identity, point)
        attributes = {name: value for name, (_, value) in said.items()}
        tower = self._domain.entities[entity].tower
        expected: dict[str, Any] = {
            "recent_items": user[sequence.items],
            "recent_actions": user[sequence.actions],
        }
        expected |= {f"u.{name}": _float32(user[name]) for name in model.user_features}
        expected |= {f"l.{name}": list(user[name]) for name in lists}
        expected |= {f"v.{name}": [_float32(v) for v in user[name]] for name in numbers}
        expected |= {f"k.{name}": item.get(name, "") for name in texts}
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


def _same(value: Any, expected: Any) -> bool:
    """Equal; numbers up to the rounding of sums of floats in another order."""
    if isinstance(value, float) and isinstance(expected, float):
        return math.isclose(value, expected, rel_tol=_FLOAT_TOLERANCE)
    if isinstance(value, list) and isinstance(expected, list) and len(value) == len(expected):
        return all(map(_same, value, expected))
    return bool(value == expected)


def _float32(value: Any) -> float:
    return float(np.float32(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
