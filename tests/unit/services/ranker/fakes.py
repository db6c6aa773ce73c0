"""A model, a specification and rows for tests of the ranker's core."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import FeatureRows, View, ViewColumn
from services.ranker.plan import BundleSpec, SurfaceSpec, TowerSpec
from services.ranker.state import Tables
from services.ranker.types import Degradation, Part, RankResult

DIM = 4
UNLEARNED = "unlearned"
"""A surface that bundles have no first pass of."""
ITEM_VIEW = View(
    "test.item",
    "hash-item",
    (
        ViewColumn("score", "float32", 0.5),
        ViewColumn("clicks", "int64", 0),
        ViewColumn("seats", "int64", 0),
        ViewColumn("live", "int64", 0),
        ViewColumn("opens", "int64", 0),
        ViewColumn("closes", "int64", 0),
        ViewColumn("host", "string", ""),
        ViewColumn("sells", "string", ""),
        ViewColumn("tags", "list", ()),
        ViewColumn("level", "int64", 0),
        ViewColumn("category", "string", ""),
    ),
)
USER_VIEW = View(
    "test.user",
    "hash-user",
    (
        ViewColumn("spend", "float32", 1.5),
        ViewColumn("history", "list", ()),
        ViewColumn("actions", "list", ()),
        ViewColumn("bought", "list", ()),
        ViewColumn("blocked", "list", ()),
    ),
)


@functools.cache
def vector_of(text: str) -> Float32Array:
    """A vector that depends on a string only."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


def rows_of(view: View, rows: Mapping[str, Mapping[str, Any]]) -> FeatureRows:
    """Rows by id; what a row lacks is NULL with its default."""

    def values(dtype: str) -> list[Any]:
        columns = [c for c in view.columns if c.dtype == dtype]
        return [row.get(c.name, c.default) for row in rows.values() for c in columns]

    ordered = [
        c
        for dtype in ("float32", "int64", "string", "list")
        for c in view.columns
        if c.dtype == dtype
    ]
    statuses = [[1 if c.name in row else 2 for c in ordered] for row in rows.values()]
    lists = values("list")
    return FeatureRows(
        ids=list(rows),
        float_names=view.of("float32"),
        floats=np.array(values("float32"), np.float32).reshape(len(rows), len(view.of("float32"))),
        int_names=view.of("int64"),
        ints=np.array(values("int64"), np.int64).reshape(len(rows), len(view.of("int64"))),
        string_names=view.of("string"),
        strings=values("string"),
        list_names=view.of("list"),
        list_offsets=np.cumsum([0, *map(len, lists)]).astype(np.int32),
        list_values=[value for found in lists for value in found],
        statuses=np.array(statuses, np.uint8).reshape(len(rows), len(ordered)),
    )


def tables_of(rows: Mapping[str, Mapping[str, Any]]) -> Tables:
    """An installed catalogue of one entity type."""
    table = EntityTable.empty("item", ITEM_VIEW)
    if rows:
        table = table.changed([rows_of(ITEM_VIEW, rows)], (), 1)
    return Tables(object(), 1, 1, {"item": table}, lambda: None, lambda: 0)


class FakeModel:
    """Vectors are sums of ``vector_of`` the ids; the score of objective o is a sigmoid of the inner
    product, the item's features and o. ``index`` holds the ids that search finds."""

    def __init__(self, index: Sequence[str] = ()) -> None:
        self.index = list(index)
        self.broken: set[str] = set()
        self.nan_items: set[int] = set()
        self.encoded: list[int] = []
        self.logits: list[int] = []
        self.nan_logits = False
        self._names: list[str] = [""]

    def lookup(self, vocabulary: str, values: Sequence[str]) -> Int64Array:
        del vocabulary
        for value in values:
            if value not in self._names:
                self._names.append(value)
        return np.array([self._names.index(value) for value in values], np.int64)

    def lookup_actions(self, names: Sequence[str]) -> Int64Array:
        return np.ones(len(names), np.int64)

    def _vectors(self, numbers: Int64Array) -> Float32Array:
        zero = np.zeros(DIM, np.float32)
        found = [vector_of(self._names[n]) if n else zero for n in numbers.ravel().tolist()]
        shaped = np.array(found, np.float32).reshape(*numbers.shape, DIM)
        return shaped.sum(axis=1)

    def encode_users(
        self,
        items: Int64Array,
        actions: Int64Array,
        user_features: Float32Array,
        surface: Int64Array,
    ) -> Float32Array:
        if "user" in self.broken:
            raise RuntimeError("the user tower is broken")
        del actions, surface
        return self._vectors(items) + user_features[:, :1] * np.float32(0.1)

    def encode_items(
        self, entity_type: Int64Array, fields: Int64Array, numeric: Float32Array
    ) -> Float32Array:
        del entity_type
        self.encoded.append(len(fields))
        return self._vectors(fields) + numeric[:, :1] * np.float32(0.01)

    def item_parts(self, item_vector: Float32Array, item_features: Float32Array) -> Float32Array:
        """The vector and the feature that stands still."""
        return np.concatenate([item_vector, item_features[:, :1]], axis=1)

    def item_logits(self, item_features: Float32Array, surface: Int64Array) -> Float32Array:
        """Of an item whose score is above 1.5 and ``nan_logits`` set, no numbers."""
        self.logits.append(len(item_features))
        found = item_features[:, :1] * np.array([[0.8, -0.3]]) + 0.01 * surface[:, None]
        if self.nan_logits:
            found[item_features[:, 0] > 1.5] = np.nan
        return np.asarray(found, np.float32)

    @property
    def ranker_inputs(self) -> frozenset[str]:
        return frozenset(("user_vector", "item_vector", "item_features", "item_part"))

    def search(self, entity: str, queries: Float32Array, k: int) -> tuple[Float32Array, Int64Array]:
        if "search" in self.broken:
            raise RuntimeError("the index is broken")
        del entity
        scores = queries @ np.array([self.index_vector(id_) for id_ in self.index]).T
        rows = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, rows, axis=1), rows.astype(np.int64)

    def index_vector(self, id_: str) -> Float32Array:
        """What the index holds for an item without a host and with no clicks."""
        return vector_of(id_)

    def score(
        self,
        *,
        user_vector: Float32Array,
        user_features: Float32Array,
        owner: Int64Array,
        item_vector: Float32Array,
        item_features: Float32Array,
        position: Int64Array,
        surface: Int64Array,
        item_part: Float32Array | None = None,
        cross_features: Float32Array | None = None,
    ) -> Float32Array:
        if "score" in self.broken:
            raise RuntimeError("the ranker is broken")
        assert not position.any()
        assert cross_features is None or cross_features.shape == (len(owner), 0)
        if item_part is not None:
            assert np.array_equal(item_part, self.item_parts(item_vector, item_features))
        assert len(surface) == len(user_vector) == len(user_features)
        product = (user_vector[owner] * item_vector).sum(axis=1, keepdims=True)
        logits = product * np.array([[0.2, 0.1]]) + item_features[:, :1] * np.array([[1.0, -1.0]])
        scores: Float32Array = (1 / (1 + np.exp(-logits))).astype(np.float32)
        scores[[n for n in self.nan_items if n < len(scores)]] = np.nan
        return scores


def spec_of(model: FakeModel, *surfaces: SurfaceSpec) -> BundleSpec:
    """A bundle whose tower reads the id, the host, and the clicks."""
    return BundleSpec(
        version="v1",
        views={"user": USER_VIEW, "item": ITEM_VIEW},
        sequence_entity="item",
        sequence_items="history",
        sequence_actions="actions",
        sequence_vocabulary="item",
        sequence_length=3,
        user_features=("spend",),
        user_defaults=np.array([1.5], np.float32),
        item_features=("score", "elsewhere"),
        item_defaults=np.array([0.5, 2.0], np.float32),
        objectives=("buy", "refund"),
        weights=(1.0, -0.5),
        surfaces={surface.name: surface for surface in surfaces},
        surface_index={surface.name: n + 1 for n, surface in enumerate(surfaces)},
        towers={"item": TowerSpec(1, (("item", "id"), ("host", "host")), ("clicks",))},
        index_row_of={"item": {id_: row for row, id_ in enumerate(model.index)}},
        index_vectors={
            "item": np.array([model.index_vector(i) for i in model.index]).reshape(-1, DIM)
        },
        dim=DIM,
        still_columns=(0,),
        slopes={
            surface.name: np.array([0.25, 0.1], np.float32)
            for surface in surfaces
            if surface.scored is not None and surface.name != UNLEARNED
        },
    )


class FakeUsers:
    """Answers with set rows; ``failure`` is raised instead when there is one."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.rows = rows
        self.failure: Exception | None = None
        self.calls: list[list[str]] = []
        self.sticky_calls: list[list[str]] = []
        self.kept: dict[str, dict[str, str]] = {}

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> FakePending:
        del timeout_s
        self.sticky_calls.append(list(sticky_ids))
        self.calls.append(list(ids))
        return FakePending(self, view, list(ids))


class FakePending:
    """Rows under way."""

    def __init__(self, users: FakeUsers, view: View, ids: list[str]) -> None:
        self._users, self._view, self._ids = users, view, ids

    def ready(self, longest_s: float) -> bool:
        del longest_s
        return True

    def result(self) -> FeatureRows:
        if self._users.failure is not None:
            raise self._users.failure
        parts = [rows_of(self._view, {id_: self._users.rows.get(id_, {})}) for id_ in self._ids]
        offsets = [0]
        for part in parts:
            offsets.extend(offsets[-1] + part.list_offsets[1:])
        first = parts[0]
        return FeatureRows(
            ids=self._ids,
            float_names=first.float_names,
            floats=np.concatenate([part.floats for part in parts]),
            int_names=first.int_names,
            ints=np.concatenate([part.ints for part in parts]),
            string_names=first.string_names,
            strings=[value for part in parts for value in part.strings],
            list_names=first.list_names,
            list_offsets=np.array(offsets, np.int32),
            list_values=[value for part in parts for value in part.list_values],
            statuses=np.concatenate([part.statuses for part in parts]),
            kept=dict(self._users.kept),
            kept_is_told=True,
        )


class Recorder:
    """A slate log and an observer that remember."""

    def __init__(self) -> None:
        self.results: list[RankResult] = []
        self.removals: dict[str, int] = {}
        self.broken: dict[Part, int] = {}
        self.degradations: list[Degradation] = []
        self.drops: list[str] = []
        self.unknown: dict[str, int] = {}

    def record(self, results: Sequence[RankResult]) -> None:
        self.results.extend(results)

    def batch(self, size: int) -> None:
        del size

    def degraded(self, degradation: Degradation) -> None:
        self.degradations.append(degradation)

    def removed(self, surface: str, reason: str, count: int) -> None:
        del surface
        self.removals[reason] = self.removals.get(reason, 0) + count

    def non_finite(self, part: Part, count: int) -> None:
        self.broken[part] = self.broken.get(part, 0) + count

    def stage(self, name: str, duration_us: int) -> None:
        del name, duration_us

    def source(self, name: str, duration_s: float) -> None:
        del name, duration_s

    def unknown_candidates(self, surface: str, count: int) -> None:
        self.unknown[surface] = self.unknown.get(surface, 0) + count

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)
