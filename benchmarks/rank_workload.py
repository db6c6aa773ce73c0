"""The pinned workload of ``benchmarks.rank``: domain, catalogue, users, bundle and event log.

Everything follows from ``SEED``. 100,000 items of 64 dimensions lie around 256 centres: recall of
an index depends on that (on vectors without clusters the same index finds a quarter of them).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from offline.publish.manifest import index_entry, manifest_of
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.bundle.index import PROBES, ItemIndex
from services.common.bundle.manifest import (
    FIRST_LAYER_FILE,
    ITEM_TOWER_FILE,
    RANKER_FILE,
    USER_TOWER_FILE,
    VOCABULARY_FILE,
    TrainingWindow,
    vectors_file,
)
from services.common.bundle.store import BundleStore
from services.common.domain import Domain, load_domain
from services.common.domain_selection import Selection
from services.common.domain_sources import PersonalSource
from services.common.event_log import LogWriter
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser

SEED = 20_261_122
DIM = 64
CENTRES = 256
SPREAD = 0.35
"""Standard deviation around a centre; the centres' own is 1."""

CANDIDATES = 500
SLATE = 20
HIDDEN = (64, 32)
OBJECTIVES = ("click", "watch", "interact", "purchase", "refund")
HISTORY = 20
HOSTS_PER_ITEM = 20

_ENTITY = "course"
_CHUNK = 1_000

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Workload:
    """What the generator drew: ``items`` float32 [rows, DIM], ``centre_of`` int64 [rows], and the
    items of each user's history, int64 [users, HISTORY]."""

    items: FloatArray
    centre_of: NDArray[np.int64]
    histories: NDArray[np.int64]

    def item_ids(self) -> list[str]:
        """Ids in the order of the rows."""
        return [f"c{row}" for row in range(len(self.items))]

    def user_ids(self) -> list[str]:
        """Ids in the order of the histories."""
        return [f"u{row}" for row in range(len(self.histories))]

    def user_vectors(self) -> FloatArray:
        """What the user tower makes of the histories: the mean of the items, float32."""
        vectors: FloatArray = self.items[self.histories].mean(axis=1)
        return vectors


@dataclass(frozen=True)
class IndexSetting:
    """How the items are indexed: exactly ("flat"), or in lists of which ``probes`` are searched."""

    kind: Literal["flat", "ivf"] = "ivf"
    probes: int = PROBES


INVERTED_LISTS = IndexSetting()


def draw(items: int, users: int) -> Workload:
    """Draws the workload. A user's history is from three centres."""
    random = np.random.default_rng(SEED)
    centres = random.normal(size=(CENTRES, DIM))
    centre_of = random.integers(0, CENTRES, items)
    noise = random.normal(scale=SPREAD, size=(items, DIM))
    vectors = (centres[centre_of] + noise).astype(np.float32)
    by_centre = [np.flatnonzero(centre_of == centre) for centre in range(CENTRES)]
    filled = [rows for rows in by_centre if len(rows)]
    histories = np.empty((users, HISTORY), np.int64)
    for user in range(users):
        liked = np.concatenate([filled[n] for n in random.integers(0, len(filled), 3)])
        histories[user] = random.choice(liked, HISTORY)
    return Workload(vectors, centre_of, histories)


def write_domain(path: Path, shipped: Path) -> Domain:
    """The shipped domain with five objectives and two surfaces, written to ``path``.

    ``default`` is the shipped surface ``courses`` as it stands; ``minimal`` has one source and
    neither filters, caps nor anything else in its selection.
    """
    domain = load_domain(shipped)
    courses = domain.surfaces["courses"]
    minimal = courses.model_copy(
        update={
            "sources": [PersonalSource(kind="personal", quota=CANDIDATES)],
            "filters": [],
            "caps": {},
            "selection": Selection(),
        }
    )
    reduced = domain.model_copy(
        update={
            "objectives": {name: domain.objectives[name] for name in OBJECTIVES},
            "surfaces": {"minimal": minimal, "default": courses},
        }
    )
    content = reduced.model_dump(mode="json", exclude_none=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_domain(path)


def write_bundle(
    directory: Path, domain: Domain, workload: Workload, setting: IndexSetting = INVERTED_LISTS
) -> str:
    """Publishes and promotes the pinned bundle; returns its version."""
    version = publish_bundle(directory, domain, workload, setting)
    BundleStore(directory).promote(version)
    return version


def publish_bundle(
    directory: Path,
    domain: Domain,
    workload: Workload,
    setting: IndexSetting = INVERTED_LISTS,
    *,
    number: int = 0,
) -> str:
    """Publishes a bundle with random weights of the ranker, others for each ``number``."""
    random = _weights_source(number)
    ids = workload.item_ids()
    table = np.concatenate([np.zeros((1, DIM), np.float32), workload.items])
    store = BundleStore(directory)
    with store.staging() as staging:
        save_graph(_user_tower(table, domain), staging / USER_TOWER_FILE)
        save_graph(_item_tower(table, domain), staging / ITEM_TOWER_FILE)
        weights = ranker_weights(random)
        save_graph(ranker_graph(weights), staging / RANKER_FILE)
        save_graph(first_layer_graph(weights), staging / FIRST_LAYER_FILE)
        vocabularies: dict[str, list[str]] = {"video": [], "host": [], "category": []}
        (staging / VOCABULARY_FILE).write_text(json.dumps(vocabularies | {_ENTITY: ids}))
        index = ItemIndex.build(workload.items, kind=setting.kind, seed=SEED, probes=setting.probes)
        entry = index_entry(_ENTITY, index.kind, index.rows)
        index.write(staging / entry.file)
        (staging / entry.ids_file).write_text(json.dumps(ids))
        np.save(staging / vectors_file(_ENTITY), workload.items)
        manifest = manifest_of(
            domain,
            dim=DIM,
            seed=SEED,
            created_at=datetime(2026, 11, 22, tzinfo=UTC),
            git_revision="unknown",
            training_window=TrainingWindow(start_ms=0, end_ms=0, log_position=0),
            indexes={_ENTITY: entry},
            metrics={},
        )
        return store.publish(staging, manifest)


def write_log(directory: Path, workload: Workload, domain: Domain, now_ms: int) -> int:
    """Writes catalogue and histories as an importer would; returns the number of events."""
    written, config_hash = 0, domain.config_hash
    with LogWriter(directory) as writer:
        batch: list[bytes] = []
        for event, time_ms in _events(workload, now_ms):
            logged = event_pb2.LoggedEvent(
                event=event,
                arrival=written,
                arrival_time=_timestamp(time_ms),
                producer="benchmark",
                config_hash=config_hash,
            )
            batch.append(logged.SerializeToString())
            written += 1
            if len(batch) == _CHUNK:
                writer.append(batch)
                batch = []
        writer.append(batch)
        writer.sync()
    return written


def _events(workload: Workload, now_ms: int) -> Iterator[tuple[event_pb2.Event, int]]:
    start_ms = now_ms - 3_600_000
    for row, id_ in enumerate(workload.item_ids()):
        attributes = {
            "title": common_pb2.AttributeValue(string_value=f"Course {row}"),
            "host_id": common_pb2.AttributeValue(string_value=_host(row)),
            "category": common_pb2.AttributeValue(string_value=f"k{workload.centre_of[row]}"),
            "level": common_pb2.AttributeValue(int_value=row % 4),
        }
        upsert = event_pb2.EntityUpsert(attributes=attributes, seats_left=10)
        upsert.price.CopyFrom(common_pb2.Money(amount_minor=100 + row, currency_code="USD"))
        yield (
            event_pb2.Event(
                event_id=f"upsert-{row}",
                type="entity_upsert",
                event_time=_timestamp(start_ms),
                entities=[common_pb2.EntityRef(type=_ENTITY, id=id_)],
                entity_upsert=upsert,
            ),
            start_ms,
        )
    names = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
    ids = workload.item_ids()
    for user, user_id in enumerate(workload.user_ids()):
        actor = common_pb2.Actor(user_id=names.encrypt(user_id))
        for place, row in enumerate(workload.histories[user].tolist()):
            time_ms = start_ms + 60_000 * (place + 1)
            yield (
                event_pb2.Event(
                    event_id=f"click-{user}-{place}",
                    type="click",
                    event_time=_timestamp(time_ms),
                    actor=actor,
                    surface="default",
                    entities=[
                        common_pb2.EntityRef(type=_ENTITY, id=ids[row]),
                        common_pb2.EntityRef(type="host", id=_host(row)),
                    ],
                ),
                time_ms,
            )


def _host(row: int) -> str:
    return f"h{row // HOSTS_PER_ITEM}"


def _timestamp(time_ms: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(time_ms)
    return stamp


# --- graphs -------------------------------------------------------------------------------------


def _model(
    name: str,
    inputs: Sequence[onnx.ValueInfoProto],
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    columns: int,
) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", columns])
    graph = helper.make_graph(list(nodes), name, list(inputs), [output], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _input(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _user_tower(table: FloatArray, domain: Domain) -> onnx.ModelProto:
    """The mean of the history's item vectors."""
    length = domain.model.sequence.length
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array(0, np.int64), "zero"),
        numpy_helper.from_array(np.array(1.0, np.float32), "one"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "items"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "axis"], ["total"], keepdims=0),
        helper.make_node("Greater", ["items", "zero"], ["known"]),
        helper.make_node("Cast", ["known"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ones", "axis"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Div", ["total", "divisor"], ["output"]),
    ]
    inputs = [_input("items", TensorProto.INT64, ["n", length])]
    return _model("user_tower", inputs, nodes, constants, DIM)


def _item_tower(table: FloatArray, domain: Domain) -> onnx.ModelProto:
    """The vector of the item's own id, so that the tower agrees with the index."""
    vocabularies = list(
        dict.fromkeys(v for e in domain.entities.values() if e.tower for v in e.tower.fields)
    )
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array(vocabularies.index(_ENTITY), np.int64), "column"),
    ]
    nodes = [
        helper.make_node("Gather", ["fields", "column"], ["own"], axis=1),
        helper.make_node("Gather", ["table", "own"], ["output"]),
    ]
    inputs = [_input("fields", TensorProto.INT64, ["n", len(vocabularies)])]
    return _model("item_tower", inputs, nodes, constants, DIM)


def write_whole_ranker(path: Path, *, number: int = 0) -> None:
    """The ranker of ``publish_bundle`` as one graph, which takes item vectors as they are."""
    save_graph(whole_ranker_graph(ranker_weights(_weights_source(number))), path)


def _weights_source(number: int) -> np.random.Generator:
    return np.random.default_rng(SEED + 1 + number)


def ranker_weights(
    random: np.random.Generator, hidden: tuple[int, int] = HIDDEN
) -> dict[str, FloatArray]:
    """128 (user and item vector) -> ``hidden`` -> 5."""
    sizes = [2 * DIM, *hidden, len(OBJECTIVES)]
    drawn = [
        random.normal(scale=(2 / before) ** 0.5, size=(before, after)).astype(np.float32)
        for before, after in pairwise(sizes)
    ]
    weights = {
        "user_weight": drawn[0][:DIM],
        "item_weight": drawn[0][DIM:],
        "weight_1": drawn[1],
        "weight_2": drawn[2] * np.float32(0.1),
    }
    return weights | {f"bias_{n}": np.full(s, 0.1, np.float32) for n, s in enumerate(sizes[1:])}


def first_layer_graph(weights: dict[str, FloatArray]) -> onnx.ModelProto:
    """The items' half of the first layer, which is computed once an item."""
    nodes = [helper.make_node("Gemm", ["item_vector", "item_weight", "bias_0"], ["output"])]
    inputs = [_input("item_vector", TensorProto.FLOAT, ["n", DIM])]
    constants = [numpy_helper.from_array(weights[n], n) for n in ("item_weight", "bias_0")]
    return _model("item_first_layer", inputs, nodes, constants, len(weights["bias_0"]))


def ranker_graph(weights: dict[str, FloatArray]) -> onnx.ModelProto:
    """The net over the items' half of the first layer, which is an input."""
    return _ranker(
        weights, [_input("item_part", TensorProto.FLOAT, ["n", len(weights["bias_0"])])], []
    )


def whole_ranker_graph(weights: dict[str, FloatArray]) -> onnx.ModelProto:
    """The whole net."""
    first = helper.make_node("Gemm", ["item_vector", "item_weight", "bias_0"], ["item_part"])
    return _ranker(weights, [_input("item_vector", TensorProto.FLOAT, ["n", DIM])], [first])


def _ranker(
    weights: dict[str, FloatArray],
    item_inputs: Sequence[onnx.ValueInfoProto],
    item_nodes: Sequence[onnx.NodeProto],
) -> onnx.ModelProto:
    """``item_nodes`` make the items' half of ``item_inputs``; the user's is multiplied once a
    user."""
    nodes = [
        *item_nodes,
        helper.make_node("MatMul", ["user_vector", "user_weight"], ["user_part"]),
        helper.make_node("Gather", ["user_part", "owner"], ["owner_part"]),
        helper.make_node("Add", ["owner_part", "item_part"], ["hidden_0"]),
        helper.make_node("Relu", ["hidden_0"], ["active_0"]),
        helper.make_node("Gemm", ["active_0", "weight_1", "bias_1"], ["hidden_1"]),
        helper.make_node("Relu", ["hidden_1"], ["active_1"]),
        helper.make_node("Gemm", ["active_1", "weight_2", "bias_2"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    inputs = [
        _input("user_vector", TensorProto.FLOAT, ["b", DIM]),
        _input("owner", TensorProto.INT64, ["n"]),
        *item_inputs,
    ]
    read = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(v, n) for n, v in weights.items() if n in read]
    return _model("ranker", inputs, nodes, constants, len(OBJECTIVES))


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
