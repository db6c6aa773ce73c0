"""Sticky buckets, as GrowthBook's specification has them: documents come in, changes go out."""

from __future__ import annotations

from services.common.assign.asking import Asking
from services.common.assign.model import Experiment, Sticky, StickyDocument

BLOCKED = -2
NOT_FOUND = -1


class StickyBuckets:
    """What the documents say of one experiment."""

    def __init__(self, experiment: Experiment, sticky: Sticky) -> None:
        self._unit = experiment.unit
        self._sticky = sticky
        self._entry = f"{experiment.key}__{sticky.version}"
        self._blocked = [f"{experiment.key}__{version}" for version in range(sticky.min_version)]
        named = [(v.key, i) for i, v in enumerate(experiment.variants) if v.named]
        # Of two variants of one key the first counts.
        self._index = dict(reversed(named))

    def unit_of(self, asking: Asking) -> tuple[str, str]:
        """(type, id) of the unit that counts: the experiment's, or else the fallback."""
        unit_id = asking.unit_id(self._unit)
        fallback = self._sticky.fallback_unit
        if not unit_id and fallback and (other := asking.unit_id(fallback)):
            return fallback, other
        return self._unit, unit_id

    def found(self, asking: Asking) -> int:
        """Index of the variant that the unit keeps; ``NOT_FOUND``, or ``BLOCKED`` where it has one
        of a version that is out."""
        assignments: dict[str, str] = {}
        # What the fallback unit has counts for less. GrowthBook takes "id" where there is none.
        for unit in (self._sticky.fallback_unit or "id", self._unit):
            unit_id = asking.unit_id(unit)
            document = asking.document(unit, unit_id) if unit_id or unit == self._unit else None
            if document is not None:
                assignments.update(document.assignments)
        if any(entry in assignments for entry in self._blocked):
            return BLOCKED
        return self._index.get(assignments.get(self._entry, ""), NOT_FOUND)

    def keep(self, asking: Asking, unit: str, unit_id: str, variant_key: str) -> None:
        """Notes a variant in the unit's document, where that is news."""
        document = asking.document(unit, unit_id)
        before = {} if document is None else document.assignments
        if before.get(self._entry) == variant_key:
            return
        changed = StickyDocument(unit, unit_id, {**before, self._entry: variant_key})
        asking.changes[changed.key] = changed
