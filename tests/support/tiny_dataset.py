"""A small dataset with a pattern to learn, in memory, for any domain of the repository.

Every user likes one category. Courses of it are met more often, clicked more and bought more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from offline.dataset.tables import (
    Dataset,
    DatasetMeta,
    LeakCheck,
    ViewReference,
    cross_items,
    cross_lists,
    cross_values,
    numeric_names,
    vocabulary_names,
)
from services.common.domain import Domain
from services.feature.definitions import compile_views

CATEGORIES = 4
DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
_TYPES = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float32(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
}


def make_tiny_dataset(
    domain: Domain, *, users: int = 60, items: int = 40, per_user: int = 12, seed: int = 0
) -> Dataset:
    """A dataset of ``users * per_user`` interactions, and examples to match."""
    random = np.random.default_rng(seed)
    catalogue = _catalogue(domain, items)
    interactions = _interactions(domain, random, users, items, per_user)
    examples = _examples(domain, random, interactions, items)
    tables = {f"catalogue.{name}": table for name, table in catalogue.items()}
    tables |= {"interactions": interactions, "examples": examples}
    by_time = domain.split.kind == "time"
    meta = DatasetMeta(
        format_version=1,
        domain=domain.name,
        config_hash=domain.config_hash,
        log_position=len(interactions),
        start_ms=START_MS,
        end_ms=START_MS + per_user * DAY_MS,
        validation_start_ms=START_MS + (per_user - 2) * DAY_MS if by_time else None,
        test_start_ms=START_MS + (per_user - 1) * DAY_MS if by_time else None,
        rows={name: len(table) for name, table in tables.items()},
        feature_views={
            name: ViewReference(name=view.name, hash=view.hash)
            for name, view in compile_views(domain).items()
        },
        leak_check=LeakCheck(sampled=0, compared_values=0, differing_values=0),
    )
    return Dataset(Path("tiny"), meta, catalogue, interactions, examples)


def _catalogue(domain: Domain, items: int) -> dict[str, pa.Table]:
    tables = {}
    for entity, declared in domain.entities.items():
        if declared.tower is None:
            continue
        columns = {
            "id": pa.array([_id(entity, row) for row in range(items)], pa.string()),
            "withdrawn": pa.array([row == items - 1 for row in range(items)]),
            "first_time_ms": pa.array([START_MS] * items, pa.int64()),
        }
        for name, dtype in declared.attributes.items():
            values = [_attribute(name, dtype, row) for row in range(items)]
            columns[name] = pa.array(values, _TYPES[dtype])
        tables[entity] = pa.table(columns)
    return tables


def _id(entity: str, row: int) -> str:
    return f"{entity}-{row:03d}"


def _attribute(name: str, dtype: str, row: int) -> str | int | float | bool | list[str]:
    if dtype == "strings":
        return [f"{name}-{row % CATEGORIES}"]
    if dtype != "string":
        return {"int": row, "float": float(row), "bool": row % 2 == 0}[dtype]
    if name.endswith("_id"):
        entity = name.removesuffix("_id").removeprefix("selling_")
        return _id(entity, row if entity == "course" else row % CATEGORIES)
    return f"{name}-{row % CATEGORIES}"


def _split(step: int, per_user: int) -> str:
    return {per_user - 1: "test", per_user - 2: "validation"}.get(step, "train")


def _interactions(
    domain: Domain, random: np.random.Generator, users: int, items: int, per_user: int
) -> pa.Table:
    sequence = domain.model.sequence
    actions = domain.features[sequence.actions].events  # type: ignore[union-attr]
    rows = []
    for user in range(users):
        liked = [row for row in range(items) if row % CATEGORIES == user % CATEGORIES]
        others = [row for row in range(items) if row % CATEGORIES != user % CATEGORIES]
        chosen = [*random.permutation(liked)[: per_user - 2], *random.permutation(others)[:2]]
        for step, row in enumerate(random.permutation(chosen)[:per_user]):
            rows.append(
                {
                    "user": f"u{user:03d}",
                    "time_ms": START_MS + step * DAY_MS,
                    "arrival": user * per_user + step,
                    "action": actions[step % len(actions)],
                    "item": _id(sequence.entity, int(row)),
                    "surface": next(iter(domain.surfaces)) if domain.log.impressions else "",
                    "target_type": sequence.entity,
                    "target_id": _id(sequence.entity, int(row)),
                    "split": _split(step, per_user),
                }
            )
    return pa.Table.from_pylist(rows)


def _examples(
    domain: Domain, random: np.random.Generator, interactions: pa.Table, items: int
) -> pa.Table:
    surfaces = list(domain.surfaces)
    recent: dict[str, list[tuple[str, str]]] = {}
    rows = []
    for event in interactions.to_pylist():
        past = recent.setdefault(event["user"], [])
        for shown in range(4 if domain.log.impressions else 1):
            surface = surfaces[(event["arrival"] + shown) % len(surfaces)]
            entity = domain.surfaces[surface].entity
            item = int(random.integers(items - 1))
            if not domain.log.impressions:
                item = int(event["item"][-3:])
            position = int(random.integers(10))
            liked = item % CATEGORIES == int(event["user"][1:]) % CATEGORIES
            chance = (0.5 if liked else 0.05) * (1.0 - 0.08 * position)
            row = {
                "example_id": len(rows),
                "rank_id": "",
                "user": event["user"],
                "time_ms": event["time_ms"],
                "arrival": event["arrival"],
                "surface": surface,
                "entity_type": entity,
                "entity_id": _id(entity, item),
                "position": position if domain.log.impressions else None,
                "recent_items": [pair[0] for pair in past[-domain.model.sequence.length :]],
                "recent_actions": [pair[1] for pair in past[-domain.model.sequence.length :]],
                "split": event["split"],
            }
            row |= {f"u.{n}": float(len(past)) for n in domain.model.user_features}
            row |= {f"i.{n}": float(item % 7) for n in domain.model.item_features}
            row |= {f"f.{v}": _field(domain, entity, v, item) for v in vocabulary_names(domain)}
            row |= {f"n.{n}": float(item) for n in numeric_names(domain)}
            hosts = [_attribute("host_id", "string", int(i[-3:])) for i, _ in past[-10:]]
            row |= {f"l.{n}": hosts for n in cross_lists(domain)}
            row |= {f"v.{n}": [float(n) for n in range(1, 11)] for n in cross_values(domain)}
            row |= {f"k.{n}": _attribute(n, "string", item) for n in cross_items(domain)}
            happened = not domain.log.impressions or random.random() < chance
            for name in domain.objectives:
                row[f"y.{name}"] = int(happened)
                row[f"m.{name}"] = event["split"] != "test"
            rows.append(row)
        past.append((event["item"], event["action"]))
    schema = [
        ("position", pa.int32()),
        ("recent_items", pa.list_(pa.string())),
        ("recent_actions", pa.list_(pa.string())),
        *((f"l.{name}", pa.list_(pa.string())) for name in cross_lists(domain)),
        *((f"v.{name}", pa.list_(pa.float32())) for name in cross_values(domain)),
    ]
    table = pa.Table.from_pylist(rows)
    for name, dtype in schema:
        column = pa.array([row[name] for row in rows], dtype)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _field(domain: Domain, entity: str, vocabulary: str, row: int) -> str:
    tower = domain.entities[entity].tower
    attribute = tower.fields.get(vocabulary) if tower else None
    if attribute is None:
        return ""
    return _id(entity, row) if attribute == "id" else str(_attribute(attribute, "string", row))
