"""One evaluation under way: whom it is about, and what was found out so far."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.assign import javascript
from services.common.assign.model import (
    UNIT_TYPES,
    Assignment,
    Context,
    FlagValue,
    StickyDocument,
    document_key,
)


class Asking:
    """What is asked, with answers that several definitions need kept. For one call.

    ``met``: assignments of the experiments that flags ran, by key; ``decided``: variants of those
    that others need.
    """

    __slots__ = (
        "_aliases",
        "attributes",
        "changes",
        "decided",
        "flags",
        "forced",
        "held_out",
        "met",
        "now_ms",
        "shares",
        "sticky",
        "units",
    )

    def __init__(self, context: Context, aliases: Mapping[str, str]) -> None:
        self.units = context.units
        self.attributes = context.attributes
        self.forced = context.forced
        self.sticky = context.sticky
        self.now_ms = context.now_ms
        self._aliases = aliases
        self.held_out: dict[str, bool] = {}
        self.shares: dict[str, float] = {}
        self.flags: dict[str, FlagValue] = {}
        self.met: dict[str, Assignment] = {}
        self.decided: dict[str, str] = {}
        self.changes: dict[str, StickyDocument] = {}

    def unit_id(self, unit: str) -> str:
        """Id of the unit of a type, or the value of the attribute of that name, as it is hashed;
        empty where there is none."""
        found = self.units.get(unit)
        if found or unit in UNIT_TYPES:
            return found or ""
        alias = self._aliases.get(unit)
        if alias is not None and (found := self.units.get(alias)):
            return found
        # The name itself, and no path: GrowthBook's specification looks nowhere else.
        value = self.attributes.get(unit)
        return javascript.text(value) if javascript.truthy(value) else ""

    def document(self, unit: str, unit_id: str) -> StickyDocument | None:
        """The sticky document of a unit, with what changed in this call."""
        key = document_key(unit, unit_id)
        changed = self.changes.get(key)
        return changed if changed is not None or self.sticky is None else self.sticky.get(key)

    def met_in_flag(self, assignment: Assignment) -> None:
        """Takes note of an experiment that a flag ran; that a unit is in it counts for more."""
        before = self.met.get(assignment.experiment_key)
        if before is None or (assignment.variant_key and not before.variant_key):
            self.met[assignment.experiment_key] = assignment
