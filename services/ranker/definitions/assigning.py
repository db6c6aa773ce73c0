"""Which variants a request is in."""

from __future__ import annotations

from collections.abc import Collection

from services.common.assign.assign import Assignment, Definitions, assign, units_of
from services.common.assign.model import ENTITY_UNITS
from services.ranker.types import RankCommand


def assigned_to(
    command: RankCommand, definitions: Definitions, now_ms: int, keys: Collection[str] = ()
) -> list[Assignment]:
    """Assignments of whoever asks, in the experiments ``keys`` or else in all that are running;
    those of hosts and rooms aside, which no request has one of.

    Conditions see the request's attributes, its ``locale`` and its ``region``. A forced variant
    that the definitions do not have any more is left to them.
    """
    circumstances = command.circumstances
    attributes: dict[str, object] = {
        "locale": circumstances.locale,
        "region": circumstances.region,
        **circumstances.attributes,
    }
    forced = {
        key: variant
        for key, variant in command.forced_variants.items()
        if variant in definitions.compiled.variants(key) and (not keys or key in keys)
    }
    units = units_of(command.user_id, command.device_id)
    found = assign(definitions, units, forced, keys, attributes=attributes, now_ms=now_ms)
    return [assignment for assignment in found if assignment.unit_type not in ENTITY_UNITS]
