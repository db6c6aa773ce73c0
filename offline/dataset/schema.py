"""Which columns a domain's compacted log has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from services.common.domain import Domain
from services.common.domain_features import vector_dim
from services.common.domain_metrics import attributes_read
from services.feature.definitions import values_read

COLUMNS_VERSION = 5
ENDINGS = "endings"
ENDING_SCHEMA = pa.schema(
    [
        pa.field("arrival", pa.int64(), nullable=False),
        pa.field("time_ms", pa.int64(), nullable=False),
        pa.field("actor", pa.string(), nullable=False),
        pa.field("heir", pa.string()),
    ]
)
"""Columns of ``endings``: the history that ``actor`` had up to ``arrival`` is ``heir``'s from then
on, or nobody's (null: erased). ``time_ms``: arrival time."""

EXPOSURES, TEAMS = "exposures", "teams"
_TEXTS = pa.map_(pa.string(), pa.string())
TEAM_SCHEMA = pa.schema(
    [
        pa.field("arrival", pa.int64(), nullable=False),
        pa.field("time_ms", pa.int64(), nullable=False),
        pa.field("clock_ms", pa.int64(), nullable=False),
        pa.field("actor", pa.string(), nullable=False),
        pa.field("rank_id", pa.string(), nullable=False),
        pa.field("arms", _TEXTS, nullable=False),
        pa.field("item_type", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("team", pa.string(), nullable=False),
    ]
)
"""Columns of ``teams``: one row an item of a slate in which two rankings were interleaved.
``arms``: variant by experiment of the slate; ``team``: the variant that the item is credited to."""

_ATTRIBUTE_TYPES = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
}
_VALUE_PREFIXES = {"int": "v_", "float": "vf_", "string": "vs_", "bool": "vb_"}


def attribute_type(dtype: str) -> pa.DataType:
    """Type of a column that holds an attribute of a declared dtype."""
    return pa.list_(pa.float32()) if vector_dim(dtype) else _ATTRIBUTE_TYPES[dtype]


def entity_column(entity: str) -> str:
    """Column that holds the id of the entity of this type that an event names."""
    return f"e_{entity}"


def value_column(attribute: str, dtype: str = "int") -> str:
    """Column that holds an attribute of an event where it is of this dtype."""
    return _VALUE_PREFIXES[dtype] + attribute


def attribute_column(attribute: str) -> str:
    """Column that holds an attribute that a change sets (null: left as it was)."""
    return f"a_{attribute}"


@dataclass(frozen=True)
class ColumnSchema:
    """Columns of the compacted log.

    ``events``: event types that count; ``entities``: types with a column in ``events``; ``values``:
    event attributes that features, objectives or metrics read, with the dtype they read;
    ``catalogue``: declared dtype by attribute, by entity type that has a changes table: all that
    declare attributes or a tower, users among them.
    """

    events: tuple[str, ...]
    entities: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    catalogue: dict[str, dict[str, str]]

    @classmethod
    def of(cls, domain: Domain) -> ColumnSchema:
        """Columns that ``domain`` needs."""
        read = {(name, dtype): None for (_, name), dtype in values_read(domain).items()}
        for objective in domain.objectives.values():
            read |= {(name, "int"): None for name in objective.at_least}
        for metric in domain.metrics.values():
            read |= {(name, "int"): None for name in attributes_read(metric)}
        described = {n: dict(e.attributes) for n, e in domain.entities.items()}
        return cls(
            tuple(domain.events),
            tuple(domain.entities),
            tuple(read),
            {n: a for n, a in described.items() if a or domain.entities[n].tower},
        )

    @cached_property
    def hash(self) -> str:
        """Changes whenever compacted files would have to."""
        described = [COLUMNS_VERSION, self.events, self.entities, self.values]
        described.append({name: list(a.items()) for name, a in self.catalogue.items()})
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()

    @cached_property
    def event_schema(self) -> pa.Schema:
        """Columns of ``events``.

        ``clock_ms``: arrival time; ``actor``: actor key, empty without an actor;
        ``given_back_minor`` and the ``purchase_…`` columns are set for refunds only.
        """
        fields = [
            pa.field("arrival", pa.int64(), nullable=False),
            pa.field("event_id", pa.string(), nullable=False),
            pa.field("type", pa.string(), nullable=False),
            pa.field("time_ms", pa.int64(), nullable=False),
            pa.field("clock_ms", pa.int64(), nullable=False),
            pa.field("actor", pa.string(), nullable=False),
            pa.field("rank_id", pa.string(), nullable=False),
            pa.field("position", pa.int32()),
            pa.field("surface", pa.string(), nullable=False),
            pa.field("subject_type", pa.string(), nullable=False),
            pa.field("subject_id", pa.string(), nullable=False),
            pa.field("given_back_minor", pa.int64()),
            pa.field("purchase_event_id", pa.string()),
            pa.field("purchase_time_ms", pa.int64()),
            pa.field("purchase_amount_minor", pa.int64()),
        ]
        fields += [pa.field(entity_column(name), pa.string()) for name in self.entities]
        fields += [pa.field(value_column(n, d), _ATTRIBUTE_TYPES[d]) for n, d in self.values]
        return pa.schema(fields)

    @cached_property
    def exposure_schema(self) -> pa.Schema:
        """Columns of ``exposures``, a row an exposure event; those that it shares with ``events``
        are the same there. ``attributes``: those of the event, as texts."""
        fields = [
            pa.field("arrival", pa.int64(), nullable=False),
            pa.field("time_ms", pa.int64(), nullable=False),
            pa.field("clock_ms", pa.int64(), nullable=False),
            pa.field("actor", pa.string(), nullable=False),
            pa.field("experiment", pa.string(), nullable=False),
            pa.field("variant", pa.string(), nullable=False),
            pa.field("other_variant", pa.string(), nullable=False),
            pa.field("forced", pa.bool_(), nullable=False),
            pa.field("revision", pa.int32(), nullable=False),
            pa.field("attributes", _TEXTS, nullable=False),
        ]
        fields += [pa.field(entity_column(name), pa.string()) for name in self.entities]
        return pa.schema(fields)

    def change_schema(self, entity: str) -> pa.Schema:
        """Columns of ``changes.<entity>``. ``withdrawn`` is null where a change leaves it."""
        fields = [
            pa.field("arrival", pa.int64(), nullable=False),
            pa.field("time_ms", pa.int64(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("withdrawn", pa.bool_()),
        ]
        attributes = self.catalogue[entity].items()
        fields += [pa.field(attribute_column(n), attribute_type(d)) for n, d in attributes]
        return pa.schema(fields)


def changes_table(entity: str) -> str:
    """Name of the table of what events say about entities of a type."""
    return f"changes.{entity}"
