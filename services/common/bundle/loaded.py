"""A bundle in memory: ONNX Runtime sessions, indexes and vocabularies, ready to answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.common.affinities import AFFINITIES_FILE, Affinities
from services.common.bundle.index import FloatArray, IntArray, ItemIndex, gpus
from services.common.bundle.manifest import (
    FIRST_LAYER_FILE,
    FIRST_PASS_FILE,
    ITEM_TOWER_FILE,
    RANKER_FILE,
    USER_TOWER_FILE,
    VOCABULARY_FILE,
    Manifest,
    vectors_file,
)
from services.common.bundle.neighbours import NeighbourArray, neighbours_file, read_neighbours
from services.common.bundle.plain_files import read_ids, read_vectors, read_vocabularies
from services.common.bundle.store import verify_directory
from services.common.crosses import AffinityCross, unknown
from services.common.errors import BundleError

Device = Literal["auto", "cpu", "cuda"]

_CUDA = "CUDAExecutionProvider"


class GraphSession:
    """One ONNX graph. Inputs that it does not read are left out, so callers need not know.

    On a GPU a run binds its inputs and output there (``bound``); ``bind`` says so for others.
    """

    def __init__(
        self, path: Path, *, threads: int, device: Device, bind: bool | None = None
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the core from the server between two requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=providers(device)
            )
        except Exception as error:  # onnxruntime's error classes share no public base
            raise BundleError(f"{path}: not a graph ONNX Runtime can load: {error}") from error
        self._inputs = frozenset(entry.name for entry in self._session.get_inputs())
        self._bind = self.on_gpu if bind is None else bind

    @property
    def on_gpu(self) -> bool:
        """Whether ONNX Runtime really runs the graph with CUDA."""
        return bool(self._session.get_providers()[0] == _CUDA)

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the inputs that the graph reads."""
        return self._inputs

    def run(self, inputs: dict[str, NDArray[Any]]) -> FloatArray:
        """The graph's only output, float32."""
        if self._bind:
            bound = self.bound(inputs)
            bound.run()
            return bound.output()
        output: FloatArray = self._session.run(None, self._feed(inputs))[0]
        return output

    def bound(self, inputs: dict[str, NDArray[Any]]) -> BoundRun:
        """Copies ``inputs`` to where the graph runs, ready to be run there any number of times."""
        device = "cuda" if self.on_gpu else "cpu"
        binding = self._session.io_binding()
        held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), device, 0)
            for name, value in self._feed(inputs).items()
        }
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(self._session.get_outputs()[0].name, device)
        return BoundRun(self._session, binding, held)

    def _feed(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {name: value for name, value in inputs.items() if name in self._inputs}


class BoundRun:
    """A graph with its inputs, which ``held`` keeps alive, and its output held where it runs."""

    def __init__(self, session: Any, binding: Any, held: object) -> None:
        self._session = session
        self._binding = binding
        self._held = held

    def run(self) -> None:
        """Runs the graph's kernels; copies nothing to or from the device."""
        self._session.run_with_iobinding(self._binding)

    def output(self) -> FloatArray:
        """What the last run left, copied to the host; float32."""
        output: FloatArray = self._binding.copy_outputs_to_cpu()[0]
        return output


def providers(device: Device) -> list[str]:
    """ONNX Runtime execution providers, preferred first. Raises ``BundleError`` without CUDA."""
    has_cuda = _CUDA in onnxruntime.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise BundleError("device cuda: this onnxruntime has no CUDA provider")
    use_cuda = device != "cpu" and has_cuda
    return ([_CUDA] if use_cuda else []) + ["CPUExecutionProvider"]


@dataclass(frozen=True)
class LoadedBundle:
    """Models, indexes and vocabularies of one version. Safe for concurrent calls.

    ``item_ids`` and ``item_vectors`` (float32 ``[rows, dim]``) are in index order, by entity type;
    so are ``neighbours`` (``NEIGHBOUR [rows, K]``) of the types that the bundle has them of.
    ``affinities``: what cross features of that kind read.
    Index 0 means unknown or empty in every integer input; see ``Manifest`` for the others.
    """

    manifest: Manifest
    item_ids: dict[str, list[str]]
    item_vectors: dict[str, FloatArray]
    neighbours: dict[str, NeighbourArray]
    affinities: Affinities
    _user_tower: GraphSession
    _item_tower: GraphSession
    _ranker: GraphSession
    _first_layer: GraphSession | None
    _first_pass: GraphSession | None
    _indexes: dict[str, ItemIndex]
    _vocabularies: dict[str, dict[str, int]]

    @classmethod
    def load(cls, directory: Path, *, threads: int = 1, device: Device = "auto") -> LoadedBundle:
        """Verifies every hash, reads and checks every file, opens and warms the graphs.

        ``threads``: of one graph run and of one search. Indexes go to the GPU where FAISS has one,
        unless ``device`` is "cpu". Raises ``BundleError`` naming the file.
        """
        manifest = verify_directory(directory)
        path_of = functools.partial(_listed, directory, manifest)
        graphs = [USER_TOWER_FILE, ITEM_TOWER_FILE, RANKER_FILE]
        # Bundles from before it, and rankers without features that stand still, have none.
        graphs += [FIRST_LAYER_FILE] if FIRST_LAYER_FILE in manifest.files else []
        graphs += [FIRST_PASS_FILE] if manifest.first_pass is not None else []
        sessions = {
            name: GraphSession(path_of(name), threads=threads, device=device) for name in graphs
        }
        vocabularies = read_vocabularies(path_of(VOCABULARY_FILE))
        ids, vectors, indexes, neighbours = {}, {}, {}, {}
        for entity, entry in manifest.indexes.items():
            ids[entity] = read_ids(path_of(entry.ids_file))
            shape = (len(ids[entity]), manifest.dim)
            vectors[entity] = read_vectors(path_of(vectors_file(entity)), shape)
            indexes[entity] = ItemIndex.read(path_of(entry.file), threads)
            if not len(ids[entity]) == indexes[entity].rows == entry.rows:
                raise BundleError(f"{directory / entry.file}: rows differ from ids or manifest")
            if device != "cpu" and gpus() and indexes[entity].rows:
                indexes[entity] = indexes[entity].on_gpu()
            if neighbours_file(entity) in manifest.files:
                path = path_of(neighbours_file(entity))
                neighbours[entity] = read_neighbours(path, entry.rows)
        bundle = cls(
            manifest,
            ids,
            vectors,
            neighbours,
            _affinities(manifest, vocabularies, path_of),
            sessions[USER_TOWER_FILE],
            sessions[ITEM_TOWER_FILE],
            sessions[RANKER_FILE],
            sessions.get(FIRST_LAYER_FILE),
            sessions.get(FIRST_PASS_FILE),
            indexes,
            vocabularies,
        )
        bundle._warm(directory)
        return bundle

    @property
    def dim(self) -> int:
        """Dimensions of user and item vectors."""
        return self.manifest.dim

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.manifest.version

    def lookup(self, vocabulary: str, values: Sequence[str]) -> IntArray:
        """Rows of ``values`` in a vocabulary, int64 ``[n]``; 0 for what it does not hold."""
        known = self._vocabularies.get(vocabulary, {})
        return np.fromiter(map(known.get, values, repeat(0)), np.int64, len(values))

    def lookup_actions(self, names: Sequence[str]) -> IntArray:
        """Indices of event types in the sequence's actions, int64 ``[n]``; 0 for unknown ones."""
        known = {name: place + 1 for place, name in enumerate(self.manifest.sequence.action_names)}
        return np.fromiter(map(known.get, names, repeat(0)), np.int64, len(names))

    def encode_users(
        self, items: IntArray, actions: IntArray, user_features: FloatArray, surface: IntArray
    ) -> FloatArray:
        """User vectors float32 ``[B, dim]``.

        ``items``, ``actions``: int64 ``[B, L]`` with L = ``sequence.length``, right-aligned (the
        latest last), 0 being padding. ``user_features``: raw float32 ``[B, U]``.
        ``surface``: int64 ``[B]``, ``manifest.surface_index``.
        """
        return self._user_tower.run(
            {"items": items, "actions": actions, "user_features": user_features, "surface": surface}
        )

    def encode_items(
        self, entity_type: IntArray, fields: IntArray, numeric: FloatArray
    ) -> FloatArray:
        """Item vectors float32 ``[N, dim]``.

        ``entity_type``: int64 ``[N]``, ``manifest.entity_index``. ``fields``: int64 ``[N, F]``,
        rows in ``tower_fields`` vocabularies. ``numeric``: raw float32 ``[N, M]``.
        """
        return self._item_tower.run(
            {"entity_type": entity_type, "fields": fields, "numeric": numeric}
        )

    def search(self, entity: str, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
        """Best ``k`` indexed items of an entity type for each query ``[B, dim]``.

        Returns scores float32 ``[B, k]`` (inner products, best first) and rows int64 ``[B, k]``
        in ``item_ids[entity]``; where fewer exist, -inf and -1. An entity type without an index
        yields only those.
        """
        index = self._indexes.get(entity)
        if index is None:
            shape = (len(queries), k)
            return np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
        return index.search(queries, k)

    def item_parts(self, item_vector: FloatArray, item_features: FloatArray) -> FloatArray:
        """What stands still of items adds to the ranker's first layer: float32 ``[n, H]``.

        ``item_vector [n, dim]``, raw ``item_features [n, I]``, of which only
        ``manifest.still_features`` and the vectors count: it is the same for every request until
        one of these changes. H is 0 where the bundle's ranker takes no such part.
        """
        if self._first_layer is None:
            return np.zeros((len(item_vector), 0), np.float32)
        return self._first_layer.run({"item_vector": item_vector, "item_features": item_features})

    def item_logits(self, item_features: FloatArray, surface: IntArray) -> FloatArray:
        """The first pass' logits of items, float32 ``[n, O]``, of raw ``item_features [n, I]``.

        ``surface``: int64 ``[n]``, ``manifest.surface_index``. Raises ``BundleError`` where the
        bundle has no first pass.
        """
        if self._first_pass is None:
            raise BundleError(f"bundle {self.version} has no first pass")
        return self._first_pass.run({"item_features": item_features, "surface": surface})

    @property
    def ranker_inputs(self) -> frozenset[str]:
        """Which arguments of ``score`` the ranker reads; of others the values do not matter."""
        return self._ranker.inputs

    def score(
        self,
        *,
        user_vector: FloatArray,
        user_features: FloatArray,
        owner: IntArray,
        item_vector: FloatArray,
        item_features: FloatArray,
        position: IntArray,
        surface: IntArray,
        item_part: FloatArray | None = None,
        cross_features: FloatArray | None = None,
    ) -> FloatArray:
        """Probabilities float32 ``[N, O]``, one column an objective in the manifest's order.

        B users: ``user_vector [B, dim]``, raw ``user_features [B, U]``, ``surface`` int64 ``[B]``.
        N items: ``owner`` int64 ``[N]`` (the user's row), ``item_vector [N, dim]``, raw
        ``item_features [N, I]``, ``position`` int64 ``[N]``: 0 is neutral and what serving passes,
        a logged position p is p + 1. ``item_part``: rows of ``item_parts`` for the same vectors and
        features, float32 ``[N, H]``; computed here where it is left out, as it must be where a
        feature that stands still is varied. ``cross_features``: raw float32 ``[N, X]``, columns as
        in ``manifest.crosses``; where they are left out the user met nothing like it.
        """
        if item_part is None:
            item_part = self.item_parts(item_vector, item_features)
        if cross_features is None:
            cross_features = self._no_crosses(len(owner))
        return self._ranker.run(
            {
                "user_vector": user_vector,
                "user_features": user_features,
                "owner": owner,
                "item_vector": item_vector,
                "item_features": item_features,
                "position": position,
                "surface": surface,
                "item_part": item_part,
                "cross_features": cross_features,
            }
        )

    def _no_crosses(self, rows: int) -> FloatArray:
        nothing = unknown(named.cross for named in self.manifest.crosses)
        return np.tile(nothing, (rows, 1))

    def _warm(self, directory: Path) -> None:
        """Runs each graph once; wrong shapes show here and not in a request."""
        manifest = self.manifest
        one = np.zeros(1, np.int64)
        user_features = np.zeros((1, len(manifest.user_features)), np.float32)
        item_features = np.zeros((1, len(manifest.item_features)), np.float32)
        fields = np.zeros((1, len(manifest.tower_fields)), np.int64)
        numeric = np.zeros((1, len(manifest.tower_numeric)), np.float32)
        try:
            history = np.zeros((1, manifest.sequence.length), np.int64)
            user = self.encode_users(history, history, user_features, one)
            item = self.encode_items(one, fields, numeric)
            scores = self.score(
                user_vector=user,
                user_features=user_features,
                owner=np.zeros(1, np.int64),
                item_vector=item,
                item_features=item_features,
                position=one,
                surface=one,
            )
            logits = scores
            if self._first_pass is not None:
                logits = self.item_logits(item_features, one)
        except Exception as error:  # onnxruntime's error classes share no public base
            raise BundleError(
                f"{directory}: a graph refuses the manifest's shapes: {error}"
            ) from error
        objectives = len(manifest.objectives)
        expected = [(1, manifest.dim), (1, manifest.dim), (1, objectives), (1, objectives)]
        if [user.shape, item.shape, scores.shape, logits.shape] != expected:
            raise BundleError(f"{directory}: a graph's output differs from the manifest's shapes")
        slopes = {} if manifest.first_pass is None else manifest.first_pass.slopes
        for surface, given in slopes.items():
            if len(given) != objectives:
                raise BundleError(
                    f"{directory}: the first pass has {len(given)} slopes for surface {surface}, "
                    f"the bundle {objectives} objectives"
                )
        for entity, index in self._indexes.items():
            if index.dim != manifest.dim:
                raise BundleError(f"{directory}: index of {entity} has {index.dim} dimensions")
            self.search(entity, user, 1)


def _affinities(
    manifest: Manifest,
    vocabularies: dict[str, dict[str, int]],
    path_of: Callable[[str], Path],
) -> Affinities:
    """Those that a cross feature reads; nothing where none does."""
    if not any(isinstance(named.cross, AffinityCross) for named in manifest.crosses):
        return Affinities.nothing()
    rows = len(vocabularies[manifest.sequence.vocabulary]) + 1
    return Affinities.read(path_of(AFFINITIES_FILE), rows)


def _listed(directory: Path, manifest: Manifest, name: str) -> Path:
    """Path of a file that the manifest lists, hence verified. Raises ``BundleError``."""
    path = directory / name
    if name not in manifest.files:
        raise BundleError(f"{path}: missing from the manifest")
    return path
