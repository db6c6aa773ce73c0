"""Candidates of the calls that do not ask a surface's sources, and of the pages after the first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from services.ranker.arrays import BoolArray, Float32Array, Int64Array, UInt64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.plan import SurfacePlan
from services.ranker.ports import Model
from services.ranker.sources.nearby import nearest
from services.ranker.state import ServingState
from services.ranker.tokens.format import SHOWN_MASK
from services.ranker.types import Call, Part, RankCommand, Reason, Removed
from services.ranker.work import Work, degrade

NOT_IN_CATALOGUE = "not_in_catalogue"


def unshown(command: RankCommand, table: EntityTable, slots: Int64Array) -> BoolArray:
    """Which of slots [n] no page before showed, bool [n]."""
    following = command.following
    if following is None:
        return np.ones(len(slots), np.bool_)
    return np.isin(table.tie[slots] & SHOWN_MASK, following.items, invert=True)


_WHOLE = np.uint64((1 << 64) - 1)


def slots_of_hashes(
    table: EntityTable, hashes: UInt64Array, mask: np.uint64 = _WHOLE
) -> Int64Array:
    """Slots of the hashes that the table knows, in their order, int64. Of the table's hashes the
    bits of ``mask`` count, the lowest 16 among them.

    Looks at every row, at its lowest 16 bits first: some 3 ms for a million.
    """
    known = np.zeros(1 << 16, np.bool_)
    known[hashes.astype(np.uint16)] = True
    likely = np.flatnonzero(known[table.tie.astype(np.uint16)])
    slot_of = dict(zip((table.tie[likely] & mask).tolist(), likely.tolist(), strict=True))
    found = [slot_of[hash_] for hash_ in hashes.tolist() if hash_ in slot_of]
    return np.array(found, np.int64)


def given(command: RankCommand, table: EntityTable) -> tuple[Int64Array, list[Removed]]:
    """Slots of the items that a command names, and those of them that are not in the catalogue."""
    if command.call is Call.REFRESH:
        assert command.following is not None  # noqa: S101 - a refresh follows a slate
        slots = slots_of_hashes(table, command.following.items)
        unknown: list[Removed] = []
    else:
        known = [(id_, table.slot_of.get(id_, len(table))) for id_ in command.item_ids]
        # A newer version of the table, which shares its dictionaries, may know more ids.
        slots = np.array([slot for _, slot in known if slot < len(table)], np.int64)
        unknown = [(id_, NOT_IN_CATALOGUE) for id_, slot in known if slot >= len(table)]
    alive = table.alive[slots]
    withdrawn = [(table.ids[slot], NOT_IN_CATALOGUE) for slot in slots[~alive].tolist()]
    return slots[alive], unknown + withdrawn


def similar(model: Model, plan: SurfacePlan, item_id: str) -> Int64Array:
    """Slots of the items nearest to an item, nearest first, without it; none of an unknown one."""
    slot = plan.table.slot_of.get(item_id, len(plan.table))
    if slot >= len(plan.table):
        return np.zeros(0, np.int64)
    query = plan.items.vectors[slot : slot + 1]
    slots, _ = nearest(model, plan.nearby, query, plan.spec.candidates + 1)[0]
    others: Int64Array = slots[slots != slot]
    return others


def likeness(plan: SurfacePlan, item_id: str, slots: Int64Array) -> Float32Array:
    """Inner products of the vectors of slots [n] with that of an item, float32 [n]."""
    vectors = plan.items.vectors
    if not len(slots):
        return np.zeros(0, np.float32)
    products: Float32Array = vectors[slots] @ vectors[plan.table.slot_of[item_id]]
    return products


def call_candidates(
    state: ServingState, work: Work, log_error: Callable[[str, Exception], None]
) -> None:
    """Gives a request its candidates where it asks no sources; takes from those of a page what the
    pages before it showed."""
    command, plan = work.command, work.plan
    if command.call is Call.RANK:
        if command.following is not None:
            kept = unshown(command, plan.table, work.slots)
            work.slots, work.origin = work.slots[kept], work.origin[kept]
        return
    if command.call is Call.SIMILAR:
        try:
            work.slots = similar(state.model, plan, command.item_ids[0])
        except Exception as error:
            log_error("the search for similar items failed", error)
            degrade([work], Part.RETRIEVAL, Reason.FAILED)
    else:
        work.slots, work.removed = given(command, plan.table)
    work.origin = np.zeros(len(work.slots), np.uint8)
