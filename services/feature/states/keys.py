"""Which entities, users and pairs an event touches. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.domain import Domain
from services.feature.definitions import CATALOGUE_EVENTS, MAX_KEY_BYTES, USER_ENTITY, Key, pair_id
from services.feature.states.applied_event import AppliedEvent

ReadAttribute = Callable[[Key, str], str | None]
"""A string attribute of an entity as known when the event arrived."""


class KeyRules:
    """What a domain says about derived keys and pairs."""

    def __init__(self, domain: Domain) -> None:
        self._declared = frozenset(domain.entities)
        self._derived = {n: e.derived_from for n, e in domain.entities.items() if e.derived_from}
        self._pairs = {n: e.pair[1] for n, e in domain.entities.items() if e.pair}

    def derived(self, event: AppliedEvent, read: ReadAttribute) -> list[Key]:
        """Keys that the event leads to beside those it names.

        What the catalogue says of itself leads nowhere; a key named outright is not derived.
        """
        found: list[Key] = []
        if not self._derived or event.type in CATALOGUE_EVENTS:
            return found
        for derived, sources in self._derived.items():
            if any(kind == derived for kind, _ in event.entities):
                continue
            said = (
                read(key, attribute)
                for source, attribute in sources.items()
                for key in event.entities
                if key[0] == source
            )
            first = next((value for value in said if _is_key(value)), None)
            if first is not None:
                found.append((derived, first))
        return found

    def touched(self, event: AppliedEvent, derived: Sequence[Key]) -> list[Key]:
        """Every key whose state the event changes, each once."""
        declared = self._declared
        keys = {key: None for key in event.entities if key[0] in declared}
        for key in derived:
            if key[0] in declared:
                keys[key] = None
        if event.actor:
            pairs = [
                (pair, pair_id(event.actor, identity))
                for pair, other in self._pairs.items()
                for kind, identity in keys
                if kind == other
            ]
            keys[USER_ENTITY, event.actor] = None
            for key in pairs:
                keys[key] = None
        return list(keys)

    @property
    def derives(self) -> bool:
        """Whether there are derived keys at all."""
        return bool(self._derived)

    @property
    def pairs(self) -> Sequence[str]:
        """Entity types that pair users with something."""
        return tuple(self._pairs)


def _is_key(value: str | None) -> bool:
    return value is not None and 0 < len(value.encode()) <= MAX_KEY_BYTES
