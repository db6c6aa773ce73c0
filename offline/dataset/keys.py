"""Events by the entities, users and pairs whose features they change:
``services.feature.states.keys`` as expressions."""

from __future__ import annotations

from functools import partial, reduce

import ibis
import ibis.expr.types as ir

from offline.dataset.changes import latest_changes
from offline.dataset.histories import histories, paired
from offline.dataset.log_tables import LogTables
from offline.dataset.schema import attribute_column, entity_column
from offline.dataset.timeline import joined
from services.common.domain import Domain
from services.feature.definitions import (
    CATALOGUE_EVENTS,
    MAX_KEY_BYTES,
    USER_ENTITY,
    other_side,
)


def about(
    domain: Domain, tables: LogTables, entity: str, derived: tuple[str, ...] = ()
) -> ir.Table:
    """Events that change an entity of this type, its id in ``id``: a user is who acted or who is
    named, a pair who acted and what is named, any other entity what is named or led to.

    ``derived``: types whose columns are to hold what events lead to, too. Where histories have
    ended the ids of users and pairs are those of their histories, with ``histories.NAMES``.
    """
    events, ended = tables.events, histories(tables)
    if domain.entities[entity].pair is not None:
        other = other_side(domain, entity)
        events = _led_to(domain, tables, events, (other, *derived))
        theirs = events[entity_column(other)]
        acted = events.filter((events.actor != "") & theirs.notnull())
        if ended is not None:
            return ended.of_pairs(acted.mutate(id=acted.actor), entity_column(other))
        return acted.mutate(id=paired(acted.actor, acted[entity_column(other)]))
    events = _led_to(domain, tables, events, (entity, *derived))
    named = events[entity_column(entity)]
    if entity != USER_ENTITY:
        return events.mutate(id=named).filter(named.notnull())
    by_actor = events.mutate(id=events.actor).filter(events.actor != "")
    by_name = events.mutate(id=named).filter(named.notnull() & (named != events.actor))
    users = ibis.union(by_actor, by_name)
    return users if ended is None else ended.of_actors(users)


def said_about(tables: LogTables, entity: str) -> ir.Table:
    """What events say about entities of this type: its changes, with ``since`` and users' ids as
    ``about`` has them."""
    changes, ended = tables.changes[entity], histories(tables)
    return changes if entity != USER_ENTITY or ended is None else ended.of_actors(changes)


def _led_to(
    domain: Domain, tables: LogTables, events: ir.Table, entities: tuple[str, ...]
) -> ir.Table:
    """Events with the columns of derived types filled where they lead to one."""
    for entity in dict.fromkeys(entities):
        if not domain.entities[entity].derived_from:
            continue
        found = tables.once(f"derived_{entity}", partial(_derived, domain, tables, entity))
        column = entity_column(entity)
        both = joined(events, found.rename({"derived_id": "id"}), "arrival")
        filled = ibis.coalesce(both[column], both.derived_id)
        events = both.mutate(**{column: filled}).drop("derived_id")
    return events


def _derived(domain: Domain, tables: LogTables, entity: str) -> ir.Table:
    """(arrival, id): what each event leads to at its own point, of those that name no such entity.

    A point is when the event arrived, and the log before it.
    """
    log = tables.events
    candidates = log.filter(log[entity_column(entity)].isnull() & log.type.notin(CATALOGUE_EVENTS))
    said: list[ir.Table] = []
    for rank, (source, attribute) in enumerate(domain.entities[entity].derived_from.items()):
        column = entity_column(source)
        naming = candidates.filter(candidates[column].notnull())
        points = tables.stored(
            naming.select(
                "arrival", point=naming.arrival, id=naming[column], time_ms=naming.clock_ms
            )
        )
        name = attribute_column(attribute)
        changes = tables.changes[source].select("id", "time_ms", "arrival", name)
        known = latest_changes(tables, changes, points, (name,))
        told = known.filter(known[name].notnull())
        fits = (told[name] != "") & (bit_length(told[name]) <= 8 * MAX_KEY_BYTES)
        said.append(
            told.filter(fits).select(
                arrival=told.point, id=told[name], rank=ibis.literal(rank, "int64")
            )
        )
    every = reduce(ibis.union, said)
    first = every.group_by("arrival").aggregate(rank=every["rank"].min())
    return every.join(first, ["arrival", "rank"]).select("arrival", "id")


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def bit_length(text: str) -> int:  # type: ignore[empty-body]
    """Bits of a text in UTF-8, as the backends call it."""
