"""The manifest of a bundle, filled in from the domain and what training saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from offline.dataset.tables import cross_items
from offline.training.layout import Layout, layout_of
from offline.training.transforms import still_columns
from services.common.bundle.manifest import (
    FirstPassOutput,
    IndexEntry,
    Manifest,
    ManifestFeature,
    ManifestView,
    NamedCross,
    ObjectiveOutput,
    SequenceInput,
    TrainingWindow,
    feature_order_hash,
    ids_file,
    index_file,
)
from services.common.domain import Domain
from services.feature.definitions import FeatureView, compile_views


def manifest_of(
    domain: Domain,
    *,
    dim: int,
    seed: int,
    created_at: datetime,
    git_revision: str,
    training_window: TrainingWindow,
    indexes: Mapping[str, IndexEntry],
    metrics: Mapping[str, float],
    slopes: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Manifest:
    """A manifest without version, files and digest: those are sealed when it is published.

    ``slopes``: of the first pass, by surface; empty where the bundle has none.
    """
    layout: Layout = layout_of(domain)
    stamp = created_at.astimezone(UTC)
    return Manifest(
        created_at=stamp.strftime("%Y%m%dT%H%M%S.%fZ"),
        git_revision=git_revision,
        domain=domain.name,
        domain_hash=domain.config_hash,
        seed=seed,
        training_window=training_window,
        feature_views={name: _view(view) for name, view in compile_views(domain).items()},
        sequence=SequenceInput(
            items=domain.model.sequence.items,
            actions=domain.model.sequence.actions,
            entity=layout.sequence_entity,
            vocabulary=layout.sequence_vocabulary,
            length=layout.sequence_length,
            action_names=list(layout.action_names),
        ),
        user_features=list(layout.user_features),
        item_features=list(layout.item_features),
        still_features=[layout.item_features[column] for column in still_columns(domain)],
        carried_features=_carried(domain, layout),
        crosses=[NamedCross(name=n, cross=c) for n, c in domain.model.crosses.items()],
        first_pass=_first_pass(slopes),
        feature_order_hash=feature_order_hash(
            layout.user_features, layout.item_features, layout.tower_columns
        ),
        tower_fields=list(layout.tower_fields),
        tower_numeric=list(layout.tower_numeric),
        towers=layout.towers,
        entity_types=list(layout.entity_types),
        surfaces=list(layout.surfaces),
        objectives=[
            ObjectiveOutput(name=name, weight=objective.weight)
            for name, objective in domain.objectives.items()
        ],
        dim=dim,
        indexes=dict(indexes),
        metrics=dict(metrics),
    )


def _carried(domain: Domain, layout: Layout) -> dict[str, list[str]]:
    found = {}
    wanted = dict.fromkeys((*layout.item_features, *cross_items(domain)))
    for name, entity in domain.entities.items():
        carried = [] if entity.carries is None else entity.carries.features
        read = [feature for feature in wanted if feature in carried]
        if read:
            found[name] = read
    return found


def _first_pass(slopes: Mapping[str, Sequence[float]]) -> FirstPassOutput | None:
    if not slopes:
        return None
    return FirstPassOutput(slopes={name: [*given] for name, given in slopes.items()})


def index_entry(entity: str, kind: str, rows: int) -> IndexEntry:
    """Index entry with the standard file names."""
    return IndexEntry(
        kind="ivf" if kind == "ivf" else "flat",
        rows=rows,
        file=index_file(entity),
        ids_file=ids_file(entity),
    )


def _view(view: FeatureView) -> ManifestView:
    return ManifestView(
        name=view.name,
        hash=view.hash,
        features=[
            ManifestFeature(
                name=feature.name,
                dtype=str(feature.dtype),
                default=[*feature.default]
                if isinstance(feature.default, tuple)
                else feature.default,
            )
            for feature in view.features
        ],
    )
