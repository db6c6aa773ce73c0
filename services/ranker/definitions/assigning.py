"""Which variants a request is in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from services.common.actor import actor_key
from services.common.assign.assign import (
    Context,
    Definitions,
    Evaluation,
    StickyDocument,
    evaluate,
    units_of,
)
from services.common.assign.model import ENTITY_UNITS, document_key
from services.ranker.types import RankCommand

Kept = Mapping[str, Mapping[str, str]]
"""Variants by entry (EXPERIMENT__VERSION) that users and devices keep, by actor key."""

NOTHING_KEPT: Final[Kept] = MappingProxyType({})


def assigned_to(
    command: RankCommand,
    definitions: Definitions,
    now_ms: int,
    keys: Collection[str] = (),
    kept: Kept = NOTHING_KEPT,
) -> Evaluation:
    """Assignments of whoever asks, in the experiments ``keys`` or else in all that are running;
    those of hosts and rooms aside, of which a request shows many.

    Conditions see the request's attributes, its ``locale`` and its ``region`` where it has them. A
    forced variant that the definitions do not have any more is left to them.
    """
    circumstances, seen = command.circumstances, command.seen
    attributes: dict[str, object] = {}
    if circumstances.locale:
        attributes["locale"] = circumstances.locale
    if circumstances.region:
        attributes["region"] = circumstances.region
    attributes |= circumstances.attributes
    attributes |= seen.attributes
    forced = {
        key: variant
        for key, variant in command.forced_variants.items()
        if variant in definitions.compiled.variants(key) and (not keys or key in keys)
    }
    units = {**seen.units, **units_of(command.user_id, command.device_id)}
    documents = documents_of(command, kept) if definitions.has_sticky else None
    found = evaluate(definitions, Context(units, attributes, forced, documents, now_ms), keys)
    assignments = [a for a in found.assignments if a.unit_type not in ENTITY_UNITS]
    return Evaluation(assignments, found.sticky_changes)


def sticky_ids(command: RankCommand) -> list[str]:
    """Actor keys of whom variants may be kept for: the user, the device."""
    units = {**command.seen.units, **units_of(command.user_id, command.device_id)}
    return [key for key in map(_key_of, units.items()) if key]


def documents_of(command: RankCommand, kept: Kept) -> dict[str, StickyDocument]:
    """What the request's documents say, and for the rest what is ``kept`` of its user and device,
    by key of the document."""
    found: dict[str, StickyDocument] = {}
    units = {**command.seen.units, **units_of(command.user_id, command.device_id)}
    for unit, unit_id in units.items():
        stored = kept.get(_key_of((unit, unit_id)))
        if stored:
            found[document_key(unit, unit_id)] = StickyDocument(unit, unit_id, stored)
    for key, said in command.seen.documents.items():
        before = found[key].assignments if key in found else {}
        found[key] = StickyDocument(said.unit, said.unit_id, {**before, **said.assignments})
    return found


def _key_of(unit: tuple[str, str]) -> str:
    kind, unit_id = unit
    if kind == "user":
        return actor_key(unit_id, "")
    return actor_key("", unit_id) if kind == "device" else ""
