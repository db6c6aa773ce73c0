"""Whose history an event is in at a position of the log, as expressions.

``services.feature.identity`` says what is meant. A history of an actor ends with an alias that
gives it to a user, and with an erasure; the next begins there. Each has a name: the first the
actor's own. An event lies in one history of whom it names and, where that ended with an alias, from
then on in one of the user's. So an event has at most two places, each seen from a position on, and
a point in time reads the history that its actor has at its position: nothing has to be taken out of
anything.

Events by history have, beside their own columns:

    since     they are seen at positions after this one: their arrival where they happened, and
              that of the alias where they were inherited
    history   the one in which they happened
    ledger    the same for all histories of an actor between two erasures
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.schema import entity_column
from services.feature.definitions import USER_ENTITY, pair_id

SINCE, HISTORY, LEDGER = "since", "history", "ledger"
NAMES = (SINCE, HISTORY, LEDGER)
TOLD = "told"
"""Column of points: the id that was asked for."""

_MARK = "\x1f"
_PAIR_MARK = pair_id("", "").removeprefix("0")
_ASKED, _ENDED = 0, 1


def histories(tables: LogTables) -> Histories | None:
    """The histories of a log; None where none has ended."""
    return None if tables.endings is None else Histories(tables, tables.endings)


def remembered(tables: LogTables) -> ir.Table:
    """The log's events without those of actors that were erased later."""
    gone = forgotten(tables)
    return tables.events if gone is None else tables.events.anti_join(gone, "arrival")


def forgotten(tables: LogTables) -> ir.Table | None:
    """``arrival`` of what actors did that were erased later; None where none was."""
    if tables.endings is None or not tables.has_rows(
        tables.endings.filter(tables.endings.heir.isnull())
    ):
        return None
    return tables.once("forgotten", Histories(tables, tables.endings).forgotten)


class Histories:
    """The histories of a log in which some have ended."""

    def __init__(self, tables: LogTables, endings: ir.Table) -> None:
        self._tables = tables
        self._endings = endings

    def of_actors(self, rows: ir.Table) -> ir.Table:
        """Rows (arrival, and an actor in ``id``) once for each history that they are in, with its
        name in ``id``, and ``NAMES``."""
        names = [*rows.columns, *NAMES]
        places = self._tables.once("places", self._places)
        here = [rows.id == places.place_actor, rows.arrival == places.place_arrival]
        own = rows.left_join(places, here)
        own = own.mutate(
            id=_named(own.id, own.number),
            since=own.arrival,
            history=_named(own.id, own.number),
            ledger=_named(own.id, own.erasures),
        )
        inherited = places.filter(places.heir.notnull())
        here = [rows.id == inherited.place_actor, rows.arrival == inherited.place_arrival]
        theirs = rows.join(inherited, here)
        theirs = theirs.mutate(
            id=_named(theirs.heir, theirs.heir_number),
            since=theirs.ended,
            history=_named(theirs.id, theirs.number),
            ledger=_named(theirs.id, theirs.erasures),
        )
        return ibis.union(own.select(*names), theirs.select(*names))

    def of_pairs(self, rows: ir.Table, other: str) -> ir.Table:
        """The same of rows with what the actor is paired with in ``other``: ids of pairs."""
        found = self.of_actors(rows)
        return found.mutate(
            id=paired(found.id, found[other]), ledger=paired(found.ledger, found[other])
        )

    def at_points(self, points: ir.Table, *, are_pairs: bool) -> ir.Table:
        """Points (id, arrival, …) with the name of the history that each reads in ``id``, and what
        was there as ``TOLD``."""
        rows = points.mutate(told=points.id, actor_asked=points.id)
        if are_pairs:
            is_pair = rows.id.re_search(f"^[0-9]{{1,9}}{_PAIR_MARK}")
            start = ibis.ifelse(is_pair, rows.id.find(_PAIR_MARK), 0)
            size = ibis.ifelse(is_pair, rows.id.substr(0, start), "0").cast("int64")
            rows = rows.mutate(
                actor_asked=rows.id.substr(start + 1, size),
                other_asked=rows.id.substr(start + 1 + size),
            )
        at = self._at(rows.select(actor=rows.actor_asked, position=rows.arrival))
        both = rows.left_join(at, [rows.actor_asked == at.actor, rows.arrival == at.position])
        name = _named(both.actor_asked, both.number)
        if are_pairs:
            name = ibis.ifelse(both.number.notnull(), paired(name, both.other_asked), both.id)
        return both.mutate(id=name).select(*points.columns, TOLD)

    def forgotten(self) -> ir.Table:
        """``arrival`` of what actors did that was forgotten later."""
        places = self._tables.once("places", self._places)
        ends = self._numbered()
        ends = ends.select(heirs_actor=ends.actor, heirs_number=ends.number, heirs_heir=ends.heir)
        both = places.left_join(
            ends, [places.heir == ends.heirs_actor, places.heir_number == ends.heirs_number]
        )
        gone = both.ended.notnull() & both.heir.isnull()
        gone |= both.heirs_actor.notnull() & both.heirs_heir.isnull()
        forgotten = both.filter(gone)
        forgotten = forgotten.select(actor=forgotten.place_actor, arrival=forgotten.place_arrival)
        events = self._tables.events.select("actor", "arrival")
        return events.semi_join(forgotten, ["actor", "arrival"]).select("arrival")

    def _places(self) -> ir.Table:
        """Where events are of whose actor, or user named, any history has ended: place_actor,
        place_arrival, ``number`` of the history, ``erasures`` before it, and where it has ended:
        the position ``ended``, and the ``heir`` with the ``heir_number`` of theirs then."""
        events = self._tables.events
        named = events[entity_column(USER_ENTITY)]
        asked = ibis.union(
            events.select("actor", position=events.arrival),
            events.filter(named.notnull()).select(actor=named, position=events.arrival),
        )
        at = self._tables.stored(self._at(asked))
        ends = self._numbered()
        heirs = ends.filter(ends.heir.notnull())
        theirs = self._at(heirs.select(actor=heirs.heir, position=heirs.ended))
        ends = ends.left_join(
            theirs, [ends.heir == theirs.actor, ends.ended == theirs.position]
        ).select(
            "heir",
            "ended",
            ended_actor=ends.actor,
            ended_number=ends.number,
            heir_number=theirs.number.fill_null(0),
        )
        here = [at.actor == ends.ended_actor, at.number == ends.ended_number]
        return at.left_join(ends, here).select(
            "number",
            "erasures",
            "heir",
            "heir_number",
            "ended",
            place_actor=at.actor,
            place_arrival=at.position,
        )

    def _numbered(self) -> ir.Table:
        """Endings by actor and ``number`` of the history that they end: heir, ended."""
        ends = self._endings
        in_order = ibis.window(group_by=ends.actor, order_by=ends.arrival)
        number = ibis.row_number().over(in_order).cast("int64")
        return ends.select("actor", "heir", ended=ends.arrival, number=number)

    def _at(self, asked: ir.Table) -> ir.Table:
        """actor, position, the ``number`` of histories that ended before the position, and of
        ``erasures`` among their ends; only actors who have any."""
        ends = self._endings
        concerned = asked.distinct().semi_join(ends.select("actor").distinct(), "actor")
        marks = ibis.union(
            concerned.select(
                "actor",
                "position",
                kind=ibis.literal(_ASKED, "int64"),
                erasure=ibis.literal(0, "int64"),
            ),
            ends.select(
                "actor",
                position=ends.arrival,
                kind=ibis.literal(_ENDED, "int64"),
                erasure=ends.heir.isnull().cast("int64"),
            ),
        )
        # What ends at a position is over after it.
        before = ibis.window(
            group_by=marks.actor, order_by=[marks.position, marks.kind], rows=(None, 0)
        )
        counted = marks.mutate(
            number=marks.kind.sum().over(before).cast("int64"),
            erasures=marks.erasure.sum().over(before).cast("int64"),
        )
        return counted.filter(counted.kind == _ASKED).select(
            "actor", "position", "number", "erasures"
        )


def paired(user: ir.StringValue, other: ir.StringValue) -> ir.StringValue:
    """``definitions.pair_id`` as an expression."""
    return user.length().cast("string") + _PAIR_MARK + user + other


def _named(actor: ir.StringValue, number: ir.IntegerValue) -> ir.StringValue:
    """Name of an actor's history."""
    number = number.fill_null(0)
    return ibis.ifelse(number > 0, actor + _MARK + number.cast("string"), actor)
