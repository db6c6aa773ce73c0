"""Which columns a domain's compacted log has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from offline.dataset.tables import catalogue_entities
from services.common.domain import Domain
from services.common.domain_features import SumFeature

COLUMNS_VERSION = 1
ATTRIBUTE_TYPES = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float32(),
    "bool": pa.bool_(),
}


def entity_column(entity: str) -> str:
    """Column that holds the id of the entity of this type that an event names."""
    return f"e_{entity}"


def value_column(attribute: str) -> str:
    """Column that holds an integer attribute of an event."""
    return f"v_{attribute}"


def attribute_column(attribute: str) -> str:
    """Column that holds a catalogue attribute that a change sets (null: left as it was)."""
    return f"a_{attribute}"


@dataclass(frozen=True)
class ColumnSchema:
    """Columns of the compacted log.

    ``events``: event types that count; ``entities``: types with a column in ``events``;
    ``values``: integer event attributes that features or objectives read;
    ``catalogue``: declared dtype by attribute, by entity type that has a changes table.
    """

    events: tuple[str, ...]
    entities: tuple[str, ...]
    values: tuple[str, ...]
    catalogue: dict[str, dict[str, str]]

    @classmethod
    def of(cls, domain: Domain) -> ColumnSchema:
        """Columns that ``domain`` needs."""
        values: dict[str, None] = {}
        for feature in domain.features.values():
            if isinstance(feature, SumFeature):
                values[feature.value] = None
        for objective in domain.objectives.values():
            values |= dict.fromkeys(objective.at_least)
        return cls(
            tuple(domain.events),
            tuple(domain.entities),
            tuple(values),
            {name: dict(domain.entities[name].attributes) for name in catalogue_entities(domain)},
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

        ``actor``: actor key, empty without an actor; ``given_back_minor`` and the ``purchase_…``
        columns are set for refunds only.
        """
        fields = [
            pa.field("arrival", pa.int64(), nullable=False),
            pa.field("event_id", pa.string(), nullable=False),
            pa.field("type", pa.string(), nullable=False),
            pa.field("time_ms", pa.int64(), nullable=False),
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
        fields += [pa.field(value_column(name), pa.int64()) for name in self.values]
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
        fields += [pa.field(attribute_column(n), ATTRIBUTE_TYPES[d]) for n, d in attributes]
        return pa.schema(fields)


def changes_table(entity: str) -> str:
    """Name of the table of an entity type's catalogue changes."""
    return f"changes.{entity}"
