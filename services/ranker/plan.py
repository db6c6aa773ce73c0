"""What a surface needs to be ranked, prepared once for each bundle and catalogue version.

Preparing runs on the threads that bring new bundles and catalogue changes; a request only reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from services.common.affinities import Affinities
from services.common.crosses import Cross
from services.common.domain_selection import Margin, Selection
from services.ranker.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from services.ranker.catalogue.carried import Carry
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import View
from services.ranker.filters.apply import apply_filters
from services.ranker.filters.asking import Asking
from services.ranker.filters.rules import BoundFilter, Filter
from services.ranker.guarantee import Guarantee
from services.ranker.ports import Model
from services.ranker.scoring.first_pass import FirstPass
from services.ranker.scoring.margins import bind_margins
from services.ranker.scoring.value import Margins, weights_of
from services.ranker.selection.bound import BoundSelection, bind
from services.ranker.sources.base import (
    BoundSource,
    Ground,
    Histories,
    Made,
    Neighbours,
    Reuse,
    Source,
)
from services.ranker.sources.nearby import MAX_OVERFETCH, Nearby

Scalar = TypeVar("Scalar", bound=np.generic)

SAME_VECTOR_TOLERANCE = 1e-3
"""Largest difference of a coordinate at which an item still counts as the indexed one."""

_ENCODE_ROWS = 4096


@dataclass(frozen=True)
class SurfaceSpec:
    """A configured surface. ``weights`` are the objective weights it overrides, by name;
    ``margin`` says what an item earns; ``scored`` how many candidates the ranker gets, None for
    all."""

    name: str
    entity: str
    default_k: int
    candidates: int
    sources: tuple[Source, ...]
    filters: tuple[Filter, ...]
    caps: Mapping[str, int]
    selling_attribute: str | None
    weights: Mapping[str, float]
    selection: Selection = field(default_factory=Selection)
    margin: Margin | None = None
    scored: int | None = None


@dataclass(frozen=True)
class TowerSpec:
    """What the item tower reads of an entity type.

    ``fields`` is one (vocabulary, column) for every field of the tower, ``numeric`` one (column,
    default) for every number; a column of "" is one the entity lacks, "id" is its own id.
    """

    entity_index: int
    fields: tuple[tuple[str, str], ...]
    numeric: tuple[str, ...]


@dataclass(frozen=True)
class BundleSpec:
    """What the ranker reads of a bundle's manifest, with the objectives' weights in force.

    ``neighbours`` are those of the sequence's items; None where the bundle holds none.
    ``affinities`` are what cross features of that kind read.
    ``carries``: what items of an entity type carry of another; ``unread``: which of it the models
    were trained without. ``crosses``: the columns of cross features, in order.
    ``still_columns``: of the item features, those that ``Model.item_parts`` reads.
    ``money``: the objectives that are multiplied by an item's margin. ``currency_rates``: minor
    units of the domain's currency that one of another's is worth, by code. ``slopes``
    float32 [O] of the first pass, by surface.
    """

    version: str
    views: Mapping[str, View]
    sequence_entity: str
    sequence_items: str
    sequence_actions: str
    sequence_vocabulary: str
    sequence_length: int
    user_features: tuple[str, ...]
    user_defaults: Float32Array
    item_features: tuple[str, ...]
    item_defaults: Float32Array
    objectives: tuple[str, ...]
    weights: tuple[float, ...]
    surfaces: Mapping[str, SurfaceSpec]
    surface_index: Mapping[str, int]
    towers: Mapping[str, TowerSpec]
    index_row_of: Mapping[str, Mapping[str, int]]
    index_vectors: Mapping[str, Float32Array]
    dim: int
    neighbours: Neighbours | None = None
    affinities: Affinities = field(default_factory=Affinities.nothing)
    still_columns: tuple[int, ...] = ()
    carries: Mapping[str, Carry] = field(default_factory=dict)
    unread: Mapping[str, frozenset[str]] = field(default_factory=dict)
    crosses: Mapping[str, Cross] = field(default_factory=dict)
    money: tuple[str, ...] = ()
    currency_rates: Mapping[str, float] = field(default_factory=dict)
    slopes: Mapping[str, Float32Array] = field(default_factory=dict)

    def catalogue_views(self) -> dict[str, View]:
        """The views of the entity types that some surface ranks, or whose features are carried."""
        entities = dict.fromkeys(surface.entity for surface in self.surfaces.values())
        entities |= dict.fromkeys(carry.entity for carry in self.carries.values())
        return {entity: self.views[entity] for entity in entities}


@dataclass(frozen=True)
class ItemMatrix:
    """What the models read of n items of one type, by slot.

    ``fields`` int64 [n, V] and ``numeric`` float32 [n, M] are the tower's inputs, ``vectors``
    float32 [n, D] its output, ``features`` float32 [n, I] the ranker's inputs. ``parts`` float32
    [n, H] is what vectors and the features that stand still add to the ranker's first layer.
    ``index_row`` int64 [n] is the item's row in the bundle's index; -1 where it has none or its
    vector has moved.
    """

    fields: Int64Array
    numeric: Float32Array
    vectors: Float32Array
    features: Float32Array
    parts: Float32Array
    index_row: Int64Array


@dataclass(frozen=True)
class SurfacePlan:
    """One surface over one bundle and one catalogue version. ``sources`` are those of the
    specification, by name, in its order, bound to ``ground``; ``made`` is what the next version may
    use again. ``weights`` float32 [O] are those of requests whose variants replace none.
    ``margins`` is None where no objective is of money, ``first_pass`` where all candidates are
    scored."""

    spec: SurfaceSpec
    surface_index: int
    table: EntityTable
    items: ItemMatrix
    nearby: Nearby
    ground: Ground
    sources: tuple[tuple[str, BoundSource], ...]
    filters: tuple[tuple[str, BoundFilter], ...]
    caps: tuple[tuple[Int32Array, int], ...]
    any_repaired: bool
    made: Made
    selection: BoundSelection
    weights: Float32Array
    margins: Margins | None
    first_pass: FirstPass | None = None


def item_matrix(
    model: Model,
    spec: BundleSpec,
    table: EntityTable,
    before: ItemMatrix | None,
    since: int,
) -> ItemMatrix:
    """The matrix of ``table``; ``before`` is that of the same table after the change ``since``.

    Only items that changed since then, and whose tower inputs differ from before, are encoded; the
    same goes for ``parts`` with the features that stand still.
    """
    tower = spec.towers[table.entity]
    size, known = len(table), 0
    if before is None:
        before = _no_items(spec, tower)
        touched = np.arange(size)
    else:
        known = len(before.vectors)
        touched = np.flatnonzero(table.changed_at > since)
        if not len(touched) and size == known:
            return before
    new_fields, new_numeric = _tower_inputs(model, tower, table, touched)
    differs = touched >= known
    # Slots only grow, so those known before come first.
    old = touched[~differs]
    differs[: len(old)] = (new_fields[: len(old)] != before.fields[old]).any(axis=1)
    differs[: len(old)] |= (new_numeric[: len(old)] != before.numeric[old]).any(axis=1)
    features = _grown(before.features, size)
    features[touched] = _features(spec, table, touched)
    restated = differs.copy()
    still = list(spec.still_columns)
    restated[: len(old)] |= (features[old][:, still] != before.features[old][:, still]).any(axis=1)
    if not restated.any():
        return replace(before, features=features)
    if not differs.any():
        parts = _parts(model, before.parts, before.vectors, features, touched[restated])
        return replace(before, features=features, parts=parts)
    stale = touched[differs]
    fields, numeric = _grown(before.fields, size), _grown(before.numeric, size)
    fields[stale], numeric[stale] = new_fields[differs], new_numeric[differs]
    vectors = _grown(before.vectors, size)
    for start in range(0, len(stale), _ENCODE_ROWS):
        some = stale[start : start + _ENCODE_ROWS]
        kinds = np.full(len(some), tower.entity_index, np.int64)
        vectors[some] = np.nan_to_num(model.encode_items(kinds, fields[some], numeric[some]))
    index_row = np.full(size, -1, np.int64)
    index_row[:known] = before.index_row
    index_row[stale] = _rows_in_index(spec, table, stale, vectors)
    parts = _parts(model, before.parts, vectors, features, touched[restated])
    return ItemMatrix(fields, numeric, vectors, features, parts, index_row)


def surface_plan(
    spec: BundleSpec,
    surface: SurfaceSpec,
    table: EntityTable,
    items: ItemMatrix,
    *,
    histories: Histories | None,
    before: SurfacePlan | None,
    first_pass: FirstPass | None = None,
    exact_rows: int,
    now_ms: int,
) -> SurfacePlan:
    """Prepares a surface. Up to ``exact_rows`` items that may be shown are searched exactly.

    ``histories`` are the items that users' histories name; ``before`` is the surface's plan for the
    same bundle and an earlier version of the table.

    What may be shown is decided by the filters that look at items only, at ``now_ms``; requests
    ask them again, so an item that closes meanwhile is not shown, and one that opens is found at
    the next preparation. Where nothing but the time has changed, and nothing closed or opened, the
    plan is the one before.
    """
    if before is not None and before.table is table:
        bound = before.filters
    else:
        bound = tuple((rule.reason, rule.bind(table)) for rule in surface.filters)
    of_item = [pair for rule, pair in zip(surface.filters, bound, strict=True) if rule.of_item]
    alive = np.flatnonzero(table.alive)
    eligible = np.zeros(len(table), np.bool_)
    eligible[alive] = apply_filters(of_item, alive, Asking.nobody(now_ms)).kept
    if before is not None and _stands(before, table, items, histories, eligible):
        return before
    reuse = Reuse({} if before is None else before.made)
    nearby = reuse.get(
        "nearby",
        (items.vectors, items.index_row, eligible, exact_rows),
        lambda: nearby_of(spec, table, items, eligible, exact_rows),
    )
    guarantee = Guarantee.of(surface.selection.new_items, table, now_ms)
    ground = Ground(table, eligible, nearby, histories, spec.neighbours, guarantee, reuse)
    caps = [(table.strings(name), limit) for name, limit in surface.caps.items()]
    return SurfacePlan(
        spec=surface,
        surface_index=spec.surface_index.get(surface.name, 0),
        table=table,
        items=items,
        nearby=nearby,
        ground=replace(ground, reuse=Reuse()),
        sources=tuple((source.name, source.bind(ground)) for source in surface.sources),
        filters=bound,
        caps=tuple((column[0], limit) for column, limit in caps if column is not None),
        any_repaired=bool(table.repaired.any()),
        made=reuse.made,
        selection=bind(
            surface.selection, table, eligible, [s.name for s in surface.sources], guarantee
        ),
        weights=weights_of(spec.objectives, surface.weights, default=spec.weights),
        margins=bind_margins(
            surface.margin, spec.currency_rates, spec.objectives, spec.money, table
        ),
        first_pass=first_pass,
    )


def _stands(
    plan: SurfacePlan,
    table: EntityTable,
    items: ItemMatrix,
    histories: Histories | None,
    eligible: BoolArray,
) -> bool:
    """Whether a plan of the same bundle was made of the same."""
    before = plan.ground.histories
    if before is not histories:
        if before is None or histories is None:
            return False
        if before.table is not histories.table or before.vectors is not histories.vectors:
            return False
    return (
        plan.table is table
        and plan.items is items
        and np.array_equal(plan.ground.eligible, eligible)
    )


def nearby_of(
    spec: BundleSpec,
    table: EntityTable,
    items: ItemMatrix,
    eligible: BoolArray,
    exact_rows: int,
) -> Nearby:
    """What is searched of the ``eligible`` [n] items: up to ``exact_rows`` exactly."""
    rows = len(spec.index_row_of.get(table.entity, ()))
    indexed = eligible & (items.index_row >= 0)
    if int(eligible.sum()) <= exact_rows or not rows:
        indexed[:] = False
    index_slots, overfetch = np.zeros(0, np.int64), 1.0
    shown = int(np.count_nonzero(indexed))
    if shown:
        overfetch = min(MAX_OVERFETCH, rows / shown)
        index_slots = np.full(rows, -1, np.int64)
        slots = np.flatnonzero(indexed)
        index_slots[items.index_row[slots]] = slots
    exact = np.flatnonzero(eligible & ~indexed)
    vectors = np.ascontiguousarray(items.vectors[exact])
    return Nearby(table.entity, index_slots, overfetch, exact, vectors)


def _no_items(spec: BundleSpec, tower: TowerSpec) -> ItemMatrix:
    return ItemMatrix(
        fields=np.zeros((0, len(tower.fields)), np.int64),
        numeric=np.zeros((0, len(tower.numeric)), np.float32),
        vectors=np.zeros((0, spec.dim), np.float32),
        features=np.zeros((0, len(spec.item_features)), np.float32),
        parts=np.zeros((0, 0), np.float32),
        index_row=np.zeros(0, np.int64),
    )


def _grown(before: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
    """A copy with room for ``size`` rows, the new ones zero."""
    grown: npt.NDArray[Scalar] = np.zeros((size, before.shape[1]), before.dtype)
    grown[: len(before)] = before
    return grown


def _parts(
    model: Model,
    before: Float32Array,
    vectors: Float32Array,
    features: Float32Array,
    slots: Int64Array,
) -> Float32Array:
    """``before`` [known, H] grown to all items, those of ``slots`` computed."""
    found = [
        model.item_parts(vectors[some], features[some])
        for some in np.array_split(slots, math.ceil(len(slots) / _ENCODE_ROWS))
    ]
    parts = np.zeros((len(vectors), found[0].shape[1]), np.float32)
    if len(before):
        parts[: len(before)] = before
    parts[slots] = np.nan_to_num(np.concatenate(found))
    return parts


def _tower_inputs(
    model: Model, tower: TowerSpec, table: EntityTable, slots: Int64Array
) -> tuple[Int64Array, Float32Array]:
    fields = np.zeros((len(slots), len(tower.fields)), np.int64)
    for at, (vocabulary, column) in enumerate(tower.fields):
        if column == "id":
            fields[:, at] = model.lookup(vocabulary, [table.ids[slot] for slot in slots])
        elif column and (found := table.strings(column)) is not None:
            codes, pool = found
            fields[:, at] = model.lookup(vocabulary, [pool.values[code] for code in codes[slots]])
    numeric = np.zeros((len(slots), len(tower.numeric)), np.float32)
    for at, column in enumerate(tower.numeric):
        values = table.numeric(column) if column else None
        if values is not None:
            numeric[:, at] = values[slots]
    return fields, numeric


def _rows_in_index(
    spec: BundleSpec, table: EntityTable, slots: Int64Array, vectors: Float32Array
) -> Int64Array:
    row_of = spec.index_row_of.get(table.entity, {})
    rows = np.fromiter((row_of.get(table.ids[s], -1) for s in slots), np.int64, len(slots))
    inside = np.flatnonzero(rows >= 0)
    if len(inside):
        indexed = spec.index_vectors[table.entity][rows[inside]]
        moved = np.abs(indexed - vectors[slots[inside]]).max(axis=1) > SAME_VECTOR_TOLERANCE
        rows[inside[moved]] = -1
    return rows


def _features(spec: BundleSpec, table: EntityTable, slots: Int64Array) -> Float32Array:
    features = np.empty((len(slots), len(spec.item_features)), np.float32)
    unread = spec.unread.get(table.entity, frozenset())
    for at, name in enumerate(spec.item_features):
        values = None if name in unread else table.numeric(name)
        features[:, at] = spec.item_defaults[at] if values is None else values[slots]
    return features
