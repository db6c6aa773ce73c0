"""A small bundle with random weights for any domain, made without torch.

The graphs are simple but real: the user vector sums the history's item rows, the item tower sums
embeddings, and the ranker is a sigmoid of the inner product, a surface bias and the features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from offline.publish.manifest import index_entry, manifest_of
from offline.training.layout import Layout, layout_of
from services.common.affinities import AFFINITIES_FILE, Affinities
from services.common.bundle.index import ItemIndex
from services.common.bundle.loaded import GraphSession
from services.common.bundle.manifest import (
    FIRST_PASS_FILE,
    ITEM_TOWER_FILE,
    RANKER_FILE,
    USER_TOWER_FILE,
    VOCABULARY_FILE,
    TrainingWindow,
    vectors_file,
)
from services.common.bundle.store import BundleStore
from services.common.crosses import AffinityCross
from services.common.domain import Domain

Catalogue = Mapping[str, Mapping[str, Mapping[str, str | int | float | bool]]]


def make_tiny_bundle(
    directory: Path,
    domain: Domain,
    catalogue: Catalogue,
    *,
    dim: int = 8,
    seed: int = 0,
    promote: bool = True,
    created_at: datetime | None = None,
    first_pass: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> str:
    """Publishes a random bundle over ``catalogue[entity][id][attribute]``; returns its version.

    Entity types with an entry in ``catalogue`` (even an empty one) get an index. Equal arguments
    give equal weights. ``first_pass``: slopes by surface; without any the bundle has none.
    """
    layout = layout_of(domain)
    random = np.random.default_rng(seed)
    vocabularies = tiny_vocabularies(layout, catalogue)
    store = BundleStore(directory)
    with store.staging() as staging:
        tables = {
            name: random.normal(size=(len(values) + 1, dim)).astype(np.float32)
            for name, values in vocabularies.items()
        }
        for table in tables.values():
            table[0] = 0.0
        _save(_item_tower(layout, tables, random, dim), staging / ITEM_TOWER_FILE)
        _save(_user_tower(layout, tables, random, dim), staging / USER_TOWER_FILE)
        _save(_ranker(layout, random, dim), staging / RANKER_FILE)
        if first_pass:
            _save(_first_pass(layout, random), staging / FIRST_PASS_FILE)
        (staging / VOCABULARY_FILE).write_text(json.dumps(vocabularies))
        if any(isinstance(cross, AffinityCross) for cross in layout.crosses.values()):
            size = len(vocabularies[layout.sequence_vocabulary]) + 1
            weights = random.normal(size=(size, size))
            table = Affinities(np.tile(np.arange(size), (size, 1)), weights)
            np.save(staging / AFFINITIES_FILE, table.table())
        tower = GraphSession(staging / ITEM_TOWER_FILE, threads=1, device="cpu")
        indexes = {}
        for entity, items in catalogue.items():
            if entity not in layout.towers:
                continue
            vectors = np.zeros((0, dim), np.float32)
            if items:
                vectors = tower.run(tiny_item_inputs(layout, vocabularies, entity, items))
            index = ItemIndex.build(vectors, kind="flat")
            indexes[entity] = index_entry(entity, index.kind, index.rows)
            index.write(staging / indexes[entity].file)
            (staging / indexes[entity].ids_file).write_text(json.dumps(list(items)))
            np.save(staging / vectors_file(entity), vectors)
        manifest = manifest_of(
            domain,
            dim=dim,
            seed=seed,
            created_at=created_at or datetime.now(UTC),
            git_revision="unknown",
            training_window=TrainingWindow(start_ms=0, end_ms=0, log_position=0),
            indexes=indexes,
            metrics={},
            slopes=first_pass,
        )
        version = store.publish(staging, manifest)
    if promote:
        store.promote(version)
    return version


def tiny_vocabularies(layout: Layout, catalogue: Catalogue) -> dict[str, list[str]]:
    """Every value of every tower vocabulary found in the catalogue, sorted."""
    values: dict[str, set[str]] = {name: set() for name in layout.tower_fields}
    for entity, items in catalogue.items():
        for vocabulary, attribute in _fields(layout, entity).items():
            for item_id, attributes in items.items():
                value = item_id if attribute == "id" else str(attributes.get(attribute, ""))
                values[vocabulary].add(value)
    return {name: sorted(found - {""}) for name, found in values.items()}


def tiny_item_inputs(
    layout: Layout,
    vocabularies: Mapping[str, Sequence[str]],
    entity: str,
    items: Mapping[str, Mapping[str, str | int | float | bool]],
) -> dict[str, NDArray[np.int64] | NDArray[np.float32]]:
    """Inputs of the item tower for the items of one entity type."""
    fields = np.zeros((len(items), len(layout.tower_fields)), np.int64)
    numeric = np.zeros((len(items), len(layout.tower_numeric)), np.float32)
    for row, (item_id, attributes) in enumerate(items.items()):
        for vocabulary, attribute in _fields(layout, entity).items():
            value = item_id if attribute == "id" else str(attributes.get(attribute, ""))
            if value in vocabularies[vocabulary]:
                column = layout.tower_fields.index(vocabulary)
                fields[row, column] = vocabularies[vocabulary].index(value) + 1
        for name in layout.towers[entity].numeric:
            numeric[row, layout.tower_numeric.index(name)] = float(attributes.get(name, 0.0))
    entity_type = np.full(len(items), layout.entity_index(entity), np.int64)
    return {"entity_type": entity_type, "fields": fields, "numeric": numeric}


def _fields(layout: Layout, entity: str) -> dict[str, str]:
    return layout.towers[entity].fields if entity in layout.towers else {}


class _Graph:
    """Collects nodes and constants of an ONNX graph."""

    def __init__(self, name: str, inputs: Mapping[str, tuple[int, list[str | int]]]) -> None:
        self.name = name
        self.inputs = [helper.make_tensor_value_info(n, *spec) for n, spec in inputs.items()]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: int) -> str:
        name = f"node_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def model(self, output: str, columns: int) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [output], ["output"]))
        value = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", columns])
        graph = helper.make_graph(self.nodes, self.name, self.inputs, [value], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _item_tower(
    layout: Layout, tables: Mapping[str, NDArray[np.float32]], random: np.random.Generator, dim: int
) -> onnx.ModelProto:
    graph = _Graph(
        "item_tower",
        {
            "entity_type": (TensorProto.INT64, ["n"]),
            "fields": (TensorProto.INT64, ["n", len(layout.tower_fields)]),
            "numeric": (TensorProto.FLOAT, ["n", len(layout.tower_numeric)]),
        },
    )
    kinds = random.normal(size=(len(layout.entity_types) + 1, dim)).astype(np.float32) * 0.1
    total = graph.node("Gather", graph.constant(kinds), "entity_type")
    for column, vocabulary in enumerate(layout.tower_fields):
        index = graph.node("Gather", "fields", graph.constant(np.array(column, np.int64)), axis=1)
        found = graph.node("Gather", graph.constant(tables[vocabulary]), index)
        total = graph.node("Add", total, found)
    if layout.tower_numeric:
        total = graph.node(
            "Add", total, _numeric(graph, "numeric", layout.tower_numeric, dim, random)
        )
    return graph.model(total, dim)


def _user_tower(
    layout: Layout, tables: Mapping[str, NDArray[np.float32]], random: np.random.Generator, dim: int
) -> onnx.ModelProto:
    length = layout.sequence_length
    graph = _Graph(
        "user_tower",
        {
            "items": (TensorProto.INT64, ["n", length]),
            "actions": (TensorProto.INT64, ["n", length]),
            "user_features": (TensorProto.FLOAT, ["n", len(layout.user_features)]),
            "surface": (TensorProto.INT64, ["n"]),
        },
    )
    axis = graph.constant(np.array([1], np.int64))
    table = graph.constant(tables[layout.sequence_vocabulary])
    total = graph.node("ReduceSum", graph.node("Gather", table, "items"), axis, keepdims=0)
    actions = random.normal(size=(len(layout.action_names) + 1, dim)).astype(np.float32) * 0.1
    actions[0] = 0.0
    done = graph.node("Gather", graph.constant(actions), "actions")
    total = graph.node("Add", total, graph.node("ReduceSum", done, axis, keepdims=0))
    surfaces = random.normal(size=(len(layout.surfaces) + 1, dim)).astype(np.float32)
    total = graph.node("Add", total, graph.node("Gather", graph.constant(surfaces), "surface"))
    if layout.user_features:
        features = _numeric(graph, "user_features", layout.user_features, dim, random)
        total = graph.node("Add", total, features)
    return graph.model(total, dim)


def _ranker(layout: Layout, random: np.random.Generator, dim: int) -> onnx.ModelProto:
    objectives = len(layout.objectives)
    graph = _Graph(
        "ranker",
        {
            "user_vector": (TensorProto.FLOAT, ["b", dim]),
            "user_features": (TensorProto.FLOAT, ["b", len(layout.user_features)]),
            "owner": (TensorProto.INT64, ["n"]),
            "item_vector": (TensorProto.FLOAT, ["n", dim]),
            "item_features": (TensorProto.FLOAT, ["n", len(layout.item_features)]),
            "position": (TensorProto.INT64, ["n"]),
            "surface": (TensorProto.INT64, ["b"]),
        },
    )
    user = graph.node("Gather", "user_vector", "owner")
    product = graph.node("Mul", user, "item_vector")
    axis = graph.constant(np.array([1], np.int64))
    logit = graph.node("ReduceSum", product, axis, keepdims=1)
    scale = np.linspace(0.2, 0.1, objectives, dtype=np.float32)[None, :]
    logit = graph.node("Mul", logit, graph.constant(scale))
    bias = random.normal(size=(len(layout.surfaces) + 1, objectives)).astype(np.float32) - 2.0
    on_surface = graph.node("Gather", graph.constant(bias), "surface")
    logit = graph.node("Add", logit, graph.node("Gather", on_surface, "owner"))
    if layout.item_features:
        features = _numeric(graph, "item_features", layout.item_features, objectives, random)
        logit = graph.node("Add", logit, features)
    if layout.user_features:
        features = _numeric(graph, "user_features", layout.user_features, objectives, random)
        logit = graph.node("Add", logit, graph.node("Gather", features, "owner"))
    # Logged positions 1..200 are each a little worse than the neutral position 0.
    bias = -np.minimum(np.arange(202), 200).astype(np.float32)[:, None] * 0.01
    last = graph.constant(np.array(201, np.int64))
    bounded = graph.node("Min", "position", last)
    logit = graph.node("Add", logit, graph.node("Gather", graph.constant(bias), bounded))
    return graph.model(graph.node("Sigmoid", logit), objectives)


def _first_pass(layout: Layout, random: np.random.Generator) -> onnx.ModelProto:
    graph = _Graph(
        "first_pass",
        {
            "item_features": (TensorProto.FLOAT, ["n", len(layout.item_features)]),
            "surface": (TensorProto.INT64, ["n"]),
        },
    )
    objectives = len(layout.objectives)
    bias = random.normal(size=(len(layout.surfaces) + 1, objectives)).astype(np.float32)
    logit = graph.node("Gather", graph.constant(bias), "surface")
    if layout.item_features:
        features = _numeric(graph, "item_features", layout.item_features, objectives, random)
        logit = graph.node("Add", logit, features)
    return graph.model(logit, objectives)


def _numeric(
    graph: _Graph, name: str, columns: Sequence[str], width: int, random: np.random.Generator
) -> str:
    """sign(x) * log(1 + |x|) times a random matrix."""
    weights = random.normal(size=(len(columns), width)).astype(np.float32) * 0.02
    one = graph.constant(np.array(1.0, np.float32))
    magnitude = graph.node("Log", graph.node("Add", graph.node("Abs", name), one))
    signed = graph.node("Mul", graph.node("Sign", name), magnitude)
    return graph.node("MatMul", signed, graph.constant(weights))


def _save(model: onnx.ModelProto, path: Path) -> None:
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
