"""Turns a bundle's manifest and the domain into what the ranker reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.manifest import Manifest, ManifestView
from services.common.domain import Domain, Surface
from services.common.domain_filter_references import item_reads
from services.common.domain_selection_references import selection_reads
from services.common.errors import BundleError
from services.ranker.arrays import Float32Array
from services.ranker.catalogue.carried import Carry
from services.ranker.feature_rows import View, ViewColumn
from services.ranker.filters.configured import rules_of
from services.ranker.plan import BundleSpec, SurfaceSpec, TowerSpec
from services.ranker.sources.base import Neighbours
from services.ranker.sources.registry import source_of

_logger = logging.getLogger(__name__)

USER = "user"


def bundle_spec(bundle: LoadedBundle, domain: Domain) -> BundleSpec:
    """The specification of a bundle under a domain. Surfaces, filters and weights are the domain's.

    Raises ``BundleError`` when the bundle is of another domain or lacks what a surface needs.
    """
    manifest = bundle.manifest
    _require_fit(manifest, domain)
    _warn_of_missing_columns(manifest, domain)
    _warn_of_no_first_pass(manifest, domain)
    views = {entity: _view(view) for entity, view in manifest.feature_views.items()}
    entities = dict.fromkeys(surface.entity for surface in domain.surfaces.values())
    weights = {name: objective.weight for name, objective in domain.objectives.items()}
    carries = _carries(manifest, domain)
    row_of = {
        entity: {id_: row for row, id_ in enumerate(ids)} for entity, ids in bundle.item_ids.items()
    }
    return BundleSpec(
        version=manifest.version,
        views=views,
        sequence_entity=manifest.sequence.entity,
        sequence_items=manifest.sequence.items,
        sequence_actions=manifest.sequence.actions,
        sequence_vocabulary=manifest.sequence.vocabulary,
        sequence_length=manifest.sequence.length,
        user_features=tuple(manifest.user_features),
        user_defaults=_defaults(manifest.user_features, {USER: views[USER]}),
        item_features=tuple(manifest.item_features),
        item_defaults=_defaults(
            manifest.item_features, {e: view for e, view in views.items() if e != USER}
        ),
        objectives=tuple(objective.name for objective in manifest.objectives),
        weights=tuple(weights.get(o.name, o.weight) for o in manifest.objectives),
        surfaces={name: _surface(name, surface) for name, surface in domain.surfaces.items()},
        surface_index={name: manifest.surface_index(name) for name in domain.surfaces},
        towers={entity: _tower(entity, manifest, domain) for entity in entities},
        index_row_of=row_of,
        index_vectors=bundle.item_vectors,
        dim=manifest.dim,
        neighbours=_neighbours(bundle, row_of),
        affinities=bundle.affinities,
        carries=carries,
        unread={
            entity: frozenset(carry.features) - {*manifest.carried_features.get(entity, ())}
            for entity, carry in carries.items()
        },
        crosses={named.name: named.cross for named in manifest.crosses},
        still_columns=tuple(manifest.item_features.index(n) for n in manifest.still_features),
        money=tuple(name for name, objective in domain.objectives.items() if objective.money),
        currency_rates={domain.currency: 1.0, **domain.currency_rates},
        slopes=_slopes(manifest),
    )


def _require_fit(manifest: Manifest, domain: Domain) -> None:
    if manifest.domain != domain.name:
        raise BundleError(
            f"bundle {manifest.version} is of domain {manifest.domain!r}, not {domain.name!r}"
        )
    if USER not in manifest.feature_views:
        raise BundleError(f"bundle {manifest.version} names no feature view of {USER}")
    for name, surface in domain.surfaces.items():
        for part, known in (("feature view", manifest.feature_views), ("tower", manifest.towers)):
            if surface.entity not in known:
                raise BundleError(
                    f"bundle {manifest.version} has no {part} of {surface.entity}, "
                    f"which surface {name} ranks"
                )


def _warn_of_missing_columns(manifest: Manifest, domain: Domain) -> None:
    """A bundle from before an attribute still serves; who relies on what reads it must know."""
    for name, surface in domain.surfaces.items():
        columns = _columns(manifest, domain, surface.entity)
        for rule in surface.filters:
            for _, attribute, _ in item_reads(rule):
                if attribute not in columns:
                    _logger.warning(
                        "bundle %s was trained without %s of %s: to the filter %s of surface %s "
                        "every item lacks it",
                        manifest.version,
                        attribute,
                        surface.entity,
                        rule.kind,
                        name,
                    )
        for part, _, feature, _ in selection_reads(surface):
            if feature not in columns:
                _logger.warning(
                    "bundle %s was trained without %s of %s: selection on surface %s leaves out %s",
                    manifest.version,
                    feature,
                    surface.entity,
                    name,
                    part,
                )


def _warn_of_no_first_pass(manifest: Manifest, domain: Domain) -> None:
    slopes = _slopes(manifest)
    for name, surface in domain.surfaces.items():
        if surface.scored is not None and name not in slopes:
            _logger.warning(
                "bundle %s has no first pass of surface %s: which candidates are scored is decided "
                "by their places in the sources",
                manifest.version,
                name,
            )


def _slopes(manifest: Manifest) -> dict[str, Float32Array]:
    if manifest.first_pass is None:
        return {}
    return {n: np.array(s, np.float32) for n, s in manifest.first_pass.slopes.items()}


def _columns(manifest: Manifest, domain: Domain, entity: str) -> set[str]:
    """Columns that items of a type have: of their own view, and carried."""
    columns = {column.name for column in manifest.feature_views[entity].features}
    carry = _carries(manifest, domain).get(entity)
    if carry is not None:
        theirs = manifest.feature_views[carry.entity].features
        columns |= {column.name for column in theirs} & set(carry.features)
    return columns


def _carries(manifest: Manifest, domain: Domain) -> dict[str, Carry]:
    """What the entity types that surfaces rank carry; nothing of a type without a view."""
    ranked = {surface.entity for surface in domain.surfaces.values()}
    return {
        name: Carry(entity.carries.by, entity.carries.entity, tuple(entity.carries.features))
        for name, entity in domain.entities.items()
        if name in ranked
        and entity.carries is not None
        and entity.carries.entity in manifest.feature_views
    }


def _neighbours(bundle: LoadedBundle, row_of: Mapping[str, Mapping[str, int]]) -> Neighbours | None:
    """Of the items of histories; None where the bundle, an older one perhaps, holds none."""
    entity = bundle.manifest.sequence.entity
    found = bundle.neighbours.get(entity)
    if found is None:
        _logger.info("bundle %s has no neighbours: item_knn yields nothing", bundle.version)
        return None
    ids, rows = bundle.item_ids[entity], found["row"].astype(np.int64)
    return Neighbours(ids, row_of[entity], rows, np.ascontiguousarray(found["similarity"]))


def _view(view: ManifestView) -> View:
    columns = tuple(ViewColumn(f.name, f.dtype, f.default) for f in view.features)
    return View(view.name, view.hash, columns)


def _defaults(names: list[str], views: dict[str, View]) -> Float32Array:
    """Declared default of every feature, float32; any view that has the feature declares it."""
    declared: dict[str, float] = {}
    for view in views.values():
        for column in view.columns:
            if isinstance(column.default, int | float):
                declared[column.name] = float(column.default)
    return np.array([declared.get(name, 0.0) for name in names], np.float32)


def _surface(name: str, surface: Surface) -> SurfaceSpec:
    return SurfaceSpec(
        name=name,
        entity=surface.entity,
        default_k=surface.default_k,
        candidates=surface.candidates,
        sources=tuple(source_of(source, surface.candidates) for source in surface.sources),
        filters=tuple(rule for config in surface.filters for rule in rules_of(config)),
        caps=dict(surface.caps),
        selling_attribute=surface.selling_attribute,
        weights=dict(surface.objective_weights),
        selection=surface.selection,
        margin=surface.margin,
        scored=surface.scored,
    )


def _tower(entity: str, manifest: Manifest, domain: Domain) -> TowerSpec:
    tower = manifest.towers[entity]
    return TowerSpec(
        entity_index=manifest.entity_index(entity),
        fields=tuple(
            (vocabulary, _column(tower.fields.get(vocabulary, ""), entity, domain))
            for vocabulary in manifest.tower_fields
        ),
        numeric=tuple(
            _column(name, entity, domain) if name in tower.numeric else ""
            for name in manifest.tower_numeric
        ),
    )


def _column(attribute: str, entity: str, domain: Domain) -> str:
    """The feature that carries an attribute; the attribute's own name when none says so."""
    for name, feature in domain.features.items():
        if (
            feature.kind == "attribute"
            and entity in feature.entities
            and (feature.attribute or name) == attribute
        ):
            return name
    return attribute
