"""Columns the models read, in order, derived from the domain alone.

Order everywhere: first appearance over ``domain.entities`` as written in the YAML.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.bundle.manifest import Tower
from services.common.crosses import Cross
from services.common.domain import Domain
from services.common.domain_features import LastNFeature
from services.common.domain_filters import NotInListFilter
from services.common.errors import FailedPrecondition


@dataclass(frozen=True)
class Layout:
    """Names of every input column. Indices of names are their place plus one, 0 being unknown.

    ``unnamed_surface``: the first surface of the sequence entity where the log has no impressions,
    and so can't name the surface of an event; else 0 (unknown). ``final_actions``: indices of
    actions after which an item is not shown to the user again.
    """

    entity_types: tuple[str, ...]
    towers: dict[str, Tower]
    tower_fields: tuple[str, ...]
    tower_numeric: tuple[str, ...]
    surfaces: tuple[str, ...]
    unnamed_surface: int
    objectives: tuple[str, ...]
    user_features: tuple[str, ...]
    item_features: tuple[str, ...]
    crosses: dict[str, Cross]
    sequence_entity: str
    sequence_vocabulary: str
    sequence_length: int
    action_names: tuple[str, ...]
    final_actions: tuple[int, ...]

    def surface_index(self, surface: str) -> int:
        """Index of a surface; 0 when unknown."""
        return self.surfaces.index(surface) + 1 if surface in self.surfaces else 0

    def entity_index(self, entity: str) -> int:
        """Index of an entity type; 0 when unknown."""
        return self.entity_types.index(entity) + 1 if entity in self.entity_types else 0

    @property
    def tower_columns(self) -> tuple[str, ...]:
        """Columns of the item tower: entity types, vocabularies, numeric attributes."""
        return (*self.entity_types, *self.tower_fields, *self.tower_numeric)


def layout_of(domain: Domain) -> Layout:
    """Layout of a domain.

    Raises ``FailedPrecondition`` when the sequence entity's tower does not look its own id up in a
    vocabulary: the user tower could not tell its items apart.
    """
    towers = {
        name: Tower(fields=dict(entity.tower.fields), numeric=list(entity.tower.numeric))
        for name, entity in domain.entities.items()
        if entity.tower is not None
    }
    sequence = domain.model.sequence
    own = [v for v, attribute in towers[sequence.entity].fields.items() if attribute == "id"]
    if not own:
        raise FailedPrecondition(
            f"domain {domain.name}: the tower of {sequence.entity} needs a field that reads id"
        )
    actions = domain.features[sequence.actions]
    return Layout(
        entity_types=tuple(towers),
        towers=towers,
        tower_fields=_first_appearances([list(t.fields) for t in towers.values()]),
        tower_numeric=_first_appearances([t.numeric for t in towers.values()]),
        surfaces=tuple(domain.surfaces),
        unnamed_surface=_unnamed_surface(domain),
        objectives=tuple(domain.objectives),
        user_features=tuple(domain.model.user_features),
        item_features=tuple(domain.model.item_features),
        crosses=dict(domain.model.crosses),
        sequence_entity=sequence.entity,
        sequence_vocabulary=own[0],
        sequence_length=sequence.length,
        action_names=tuple(getattr(actions, "events", ())),
        final_actions=_final_actions(domain),
    )


def _unnamed_surface(domain: Domain) -> int:
    own = (
        place
        for place, surface in enumerate(domain.surfaces.values(), start=1)
        if surface.entity == domain.model.sequence.entity
    )
    return 0 if domain.log.impressions else next(own, 0)


def _final_actions(domain: Domain) -> tuple[int, ...]:
    """Actions whose items the surfaces of the sequence entity filter out."""
    sequence = domain.model.sequence
    actions = domain.features[sequence.actions]
    final: set[str] = set()
    for surface in domain.surfaces.values():
        for rule in surface.filters:
            if surface.entity == sequence.entity and isinstance(rule, NotInListFilter):
                listed = domain.features[rule.feature]
                if rule.attribute == "id" and isinstance(listed, LastNFeature):
                    final |= set(listed.events) if listed.of == sequence.entity else set()
    names = actions.events if isinstance(actions, LastNFeature) else []
    return tuple(place for place, name in enumerate(names, start=1) if name in final)


def _first_appearances(groups: list[list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
