"""Columns the models read, in order, derived from the domain alone.

Order everywhere: first appearance over ``domain.entities`` as written in the YAML.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.bundle.manifest import Tower
from services.common.domain import Domain
from services.common.errors import FailedPrecondition


@dataclass(frozen=True)
class Layout:
    """Names of every input column. Indices of names are their place plus one, 0 being unknown."""

    entity_types: tuple[str, ...]
    towers: dict[str, Tower]
    tower_fields: tuple[str, ...]
    tower_numeric: tuple[str, ...]
    surfaces: tuple[str, ...]
    objectives: tuple[str, ...]
    user_features: tuple[str, ...]
    item_features: tuple[str, ...]
    sequence_entity: str
    sequence_vocabulary: str
    sequence_length: int
    action_names: tuple[str, ...]

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
        objectives=tuple(domain.objectives),
        user_features=tuple(domain.model.user_features),
        item_features=tuple(domain.model.item_features),
        sequence_entity=sequence.entity,
        sequence_vocabulary=own[0],
        sequence_length=sequence.length,
        action_names=tuple(getattr(actions, "events", ())),
    )


def _first_appearances(groups: list[list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))
