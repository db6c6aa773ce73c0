"""Log records to rows of the compacted columns, read as the feature service reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from offline.dataset.schema import (
    ENDING_SCHEMA,
    ENDINGS,
    EXPOSURES,
    TEAM_SCHEMA,
    TEAMS,
    ColumnSchema,
    attribute_column,
    changes_table,
    entity_column,
)
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.actor import actor_key
from services.common.convert_event import (
    Said,
    attribute_value,
    is_live,
    milliseconds,
    room_values,
    said_attributes,
    upsert_values,
)
from services.common.convert_limits import MAX_ID_BYTES
from services.common.errors import FailedPrecondition
from services.feature.definitions import (
    AMOUNT,
    ENTITY_UPSERT,
    ENTITY_WITHDRAWAL,
    PROFILE,
    PROFILE_VERSION,
    PURCHASE,
    REFUND,
    ROOM_EVENTS,
    USER_ENTITY,
    counted_time_ms,
    declared_value,
)

_NO_SUBJECT = ("", "")
_FORCED = common_pb2.ASSIGNMENT_REASON_FORCED
_NO_REFUND = (None, None, None, None)


class EventCodec:
    """Decodes chunks of the log into Arrow tables of one schema."""

    def __init__(self, schema: ColumnSchema) -> None:
        self._schema = schema
        self._types = frozenset(schema.events)
        self._entity_columns = {entity_column(name): name for name in schema.entities}
        self._entities = frozenset(schema.entities)

    def decode(self, records: Sequence[tuple[int, bytes]]) -> dict[str, pa.Table]:
        """Tables ``events``, ``endings``, ``exposures``, ``teams`` and ``changes.<entity>`` of the
        records that count.

        Raises ``FailedPrecondition`` for a record that is no LoggedEvent.
        """
        columns: list[list[Any]] = [[] for _ in self._schema.event_schema]
        changes: dict[str, list[dict[str, Any]]] = {name: [] for name in self._schema.catalogue}
        endings: list[dict[str, Any]] = []
        exposures: list[dict[str, Any]] = []
        teams: list[dict[str, Any]] = []
        for arrival, payload in records:
            try:
                logged = event_pb2.LoggedEvent.FromString(payload)
            except (DecodeError, UnicodeDecodeError) as error:
                raise FailedPrecondition(f"log record {arrival} is not an event") from error
            event = logged.event
            if not is_live(event) or logged.duplicate or logged.too_late:
                continue
            if event.HasField("alias") or event.HasField("erasure"):
                endings += _endings(arrival, logged)
                continue
            if event.type not in self._types:
                continue
            self._append(columns, arrival, logged)
            if event.HasField("exposure"):
                exposures.append(_exposure(arrival, logged) | self._named(event))
            elif event.HasField("slate_served"):
                teams += _teams(arrival, logged)
            subject = _subject(event)
            if subject is not None and subject[0] in changes:
                change = _change(logged, self._schema.catalogue[subject[0]])
                if change is not None:
                    change["arrival"] = arrival
                    change["time_ms"] = _time_ms(logged)
                    change["id"] = subject[1]
                    changes[subject[0]].append(change)
        tables = {"events": _from_columns(columns, self._schema.event_schema)}
        tables[ENDINGS] = pa.Table.from_pylist(endings, schema=ENDING_SCHEMA)
        tables[EXPOSURES] = pa.Table.from_pylist(exposures, schema=self._schema.exposure_schema)
        tables[TEAMS] = pa.Table.from_pylist(teams, schema=TEAM_SCHEMA)
        for entity, found in changes.items():
            schema = self._schema.change_schema(entity)
            tables[changes_table(entity)] = pa.Table.from_pylist(found, schema=schema)
        return tables

    def _append(
        self, columns: list[list[Any]], arrival: int, logged: event_pb2.LoggedEvent
    ) -> None:
        """Adds one row, in the order of ``ColumnSchema.event_schema``."""
        event = logged.event
        time_ms, clock_ms = _time_ms(logged), _clock_ms(logged)
        named = self._named(event)
        refunded = event.type == REFUND and _is_id(event.refund.purchase_event_id)
        amount: int | None = None
        if event.type == PURCHASE and event.HasField("purchase"):
            amount = event.purchase.amount.amount_minor
        elif refunded:
            amount = event.refund.amount.amount_minor
        first = event.entities[0] if event.entities else None
        row: list[Any] = [
            arrival,
            event.event_id,
            event.type,
            time_ms,
            clock_ms,
            actor_key(event.actor.user_id, event.actor.device_id),
            event.rank_id,
            event.position if event.HasField("position") else None,
            event.surface,
            *((first.type, first.id) if first is not None else _NO_SUBJECT),
            *(_refund(event.refund) if refunded else _NO_REFUND),
            *(named.get(column) for column in self._entity_columns),
            *self._values(event, amount),
        ]
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)

    def _named(self, event: event_pb2.Event) -> dict[str, str]:
        """Ids of the entities that an event names, the first of each type, by column."""
        return {
            entity_column(reference.type): reference.id
            for reference in reversed(event.entities)
            if reference.type in self._entities and _is_id(reference.id)
        }

    def _values(self, event: event_pb2.Event, amount: int | None) -> Iterable[Any]:
        for name, dtype in self._schema.values:
            if name == AMOUNT and dtype == "int" and amount is not None:
                yield amount
            elif name in event.attributes:
                yield _kept(attribute_value(event.attributes[name]), dtype)
            else:
                yield None


def _time_ms(logged: event_pb2.LoggedEvent) -> int:
    """The time at which the event counts."""
    event = logged.event
    return counted_time_ms(event.type, milliseconds(event.event_time), _clock_ms(logged))


def _clock_ms(logged: event_pb2.LoggedEvent) -> int:
    """Arrival time. A log may leave it out: its events arrive when they happen."""
    if logged.HasField("arrival_time"):
        return milliseconds(logged.arrival_time)
    return milliseconds(logged.event.event_time)


def _endings(arrival: int, logged: event_pb2.LoggedEvent) -> list[dict[str, Any]]:
    """Whose histories an alias or an erasure ends."""
    actor = logged.event.actor
    ended: list[tuple[str, str | None]]
    user, device = actor.user_id, actor_key("", actor.device_id)
    if logged.event.HasField("alias"):
        ended = [(device, user)] if device and user else []
    else:
        ended = [(key, None) for key in (user, device) if key]
    at = {"arrival": arrival, "time_ms": _clock_ms(logged)}
    return [{**at, "actor": key, "heir": heir} for key, heir in ended]


def _exposure(arrival: int, logged: event_pb2.LoggedEvent) -> dict[str, Any]:
    event, assignment = logged.event, logged.event.exposure.assignment
    return {
        "arrival": arrival,
        "time_ms": _time_ms(logged),
        "clock_ms": _clock_ms(logged),
        "actor": actor_key(event.actor.user_id, event.actor.device_id),
        "experiment": assignment.experiment_key,
        "variant": assignment.variant_key,
        "other_variant": assignment.other_variant_key,
        "forced": assignment.reason == _FORCED,
        "revision": assignment.revision,
        "attributes": {
            name: _text(said)
            for name, value in event.attributes.items()
            if (said := attribute_value(value)) is not None
        },
    }


def _teams(arrival: int, logged: event_pb2.LoggedEvent) -> Iterator[dict[str, Any]]:
    event, slate = logged.event, logged.event.slate_served
    arms = {a.experiment_key: a.variant_key for a in slate.assignments if a.variant_key}
    # Columns of unlike length come in no log of ours; a bulk log may hold anything.
    for item, team in zip(slate.item_ids, slate.interleaving_teams, strict=False):
        if team:
            yield {
                "arrival": arrival,
                "time_ms": _time_ms(logged),
                "clock_ms": _clock_ms(logged),
                "actor": actor_key(event.actor.user_id, event.actor.device_id),
                "rank_id": event.rank_id,
                "arms": arms,
                "item_type": slate.entity_type,
                "item_id": item,
                "team": team,
            }


def _text(said: Said) -> str:
    """An attribute's value as a text, as JSON writes it."""
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _subject(event: event_pb2.Event) -> tuple[str, str] | None:
    """What the event describes: the first entity it names, or for want of one who acted."""
    for reference in event.entities:
        if _is_id(reference.id):
            return reference.type, reference.id
    actor = actor_key(event.actor.user_id, event.actor.device_id)
    return (USER_ENTITY, actor) if actor else None


def _change(logged: event_pb2.LoggedEvent, declared: dict[str, str]) -> dict[str, Any] | None:
    """What the event changes of its subject; None for an event that is no such change."""
    event = logged.event
    changed: dict[str, Any] = {}
    values: Iterable[tuple[str, Said]]
    if event.type == ENTITY_WITHDRAWAL:
        return {"withdrawn": True}
    if event.type == ENTITY_UPSERT and event.HasField("entity_upsert"):
        changed["withdrawn"] = False
        values = upsert_values(event.entity_upsert)
    elif event.type == PROFILE and event.HasField("profile"):
        version = event.profile.version
        values = [
            *said_attributes(event.profile.attributes),
            *([(PROFILE_VERSION, version)] if version else []),
        ]
    elif event.type in ROOM_EVENTS and event.HasField("room_state"):
        values = room_values(event.room_state, _time_ms(logged))
    else:
        return None
    # What is said twice counts as said last, whether or not that can be kept.
    for name, said in dict(values).items():
        if name in declared:
            changed[attribute_column(name)] = _kept(said, declared[name])
    return changed


def _kept(said: Said | None, dtype: str) -> Any:
    """What an attribute says, as its column holds it; None for a value of another kind."""
    value = None if said is None else declared_value(said, dtype)
    return bool(value) if dtype == "bool" and value is not None else value


def _refund(refund: event_pb2.Refund) -> tuple[int, str, int, int]:
    return (
        refund.amount.amount_minor,
        refund.purchase_event_id,
        milliseconds(refund.purchase_time),
        refund.purchase_amount.amount_minor,
    )


def _is_id(text: str) -> bool:
    """Whether an id keeps the limit. Ingest refuses others; a bulk log may hold anything."""
    return 0 < len(text.encode()) <= MAX_ID_BYTES


def _from_columns(columns: list[list[Any]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
