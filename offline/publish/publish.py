"""Trained models to a published bundle: export, index, gate, manifest, atomic publish."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from offline.dataset.tables import DatasetMeta
from offline.publish.export import (
    export_first_layer,
    export_first_pass,
    export_item_tower,
    export_ranker,
    export_user_tower,
)
from offline.publish.manifest import index_entry, manifest_of
from offline.publish.parity import (
    Parity,
    first_layer_difference,
    first_pass_difference,
    index_recall,
    item_tower_difference,
    ranker_difference,
    require_parity,
    user_tower_difference,
)
from offline.training.data import IntArray
from offline.training.encode import encode_items
from offline.training.neighbours import within
from offline.training.ranker import ItemFirstLayer, ServingRanker, SplitRanker
from offline.training.train import TrainedModels
from services.common.affinities import AFFINITIES_FILE
from services.common.bundle.index import ItemIndex
from services.common.bundle.loaded import GraphSession
from services.common.bundle.manifest import (
    FIRST_LAYER_FILE,
    FIRST_PASS_FILE,
    ITEM_TOWER_FILE,
    RANKER_FILE,
    USER_TOWER_FILE,
    VOCABULARY_FILE,
    IndexEntry,
    Manifest,
    TrainingWindow,
    vectors_file,
)
from services.common.bundle.neighbours import NEIGHBOUR, neighbours_file
from services.common.bundle.store import BundleStore
from services.common.crosses import AffinityCross
from services.common.domain import Domain

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Published:
    """A bundle as it was published, and what the gate measured."""

    manifest: Manifest
    parity: Parity


def publish(
    domain: Domain,
    models: TrainedModels,
    meta: DatasetMeta,
    store: BundleStore,
    *,
    seed: int,
    created_at: datetime,
    git_revision: str,
    progress: Progress = lambda _stage, _share: None,
) -> Published:
    """Publishes, without promoting. Raises ``BundleError`` when the gate refuses."""
    layout = models.layout
    ranker = ServingRanker(models.ranker.ranker).eval()
    with store.staging() as staging:
        progress("export", 0.0)
        export_user_tower(models.towers.serving_user, layout, staging / USER_TOWER_FILE)
        progress("export", 0.4)
        export_item_tower(models.towers.item, layout, staging / ITEM_TOWER_FILE)
        export_ranker(SplitRanker(ranker.ranker), layout, staging / RANKER_FILE)
        if ranker.ranker.shape.still:
            layer = ItemFirstLayer(ranker.ranker)
            export_first_layer(layer, layout, staging / FIRST_LAYER_FILE)
        if models.first_pass.slopes:
            export_first_pass(models.first_pass.head, layout, staging / FIRST_PASS_FILE)
        if any(isinstance(cross, AffinityCross) for cross in layout.crosses.values()):
            np.save(staging / AFFINITIES_FILE, models.affinities.table())
        vocabularies = {n: v.to_pylist() for n, v in models.vocabularies.values.items()}
        _write_json(staging / VOCABULARY_FILE, vocabularies)
        progress("export", 0.8)
        indexes, recall = _write_indexes(domain, models, staging, seed)
        parity = measure_parity(models, ranker, staging, recall)
        require_parity(parity)
        progress("export", 1.0)
        manifest = manifest_of(
            domain,
            dim=models.towers.shape.dim,
            seed=seed,
            created_at=created_at,
            git_revision=git_revision,
            training_window=TrainingWindow(
                start_ms=meta.start_ms,
                end_ms=meta.validation_start_ms or meta.end_ms,
                log_position=meta.log_position,
            ),
            indexes=indexes,
            metrics=models.metrics | parity.figures(),
            slopes={name: s.tolist() for name, s in models.first_pass.slopes.items()},
        )
        version = store.publish(staging, manifest)
    return Published(store.manifest(version), parity)


def measure_parity(
    models: TrainedModels, ranker: ServingRanker, directory: Path, recall: dict[str, float]
) -> Parity:
    """Runs the graphs in ``directory`` and the torch models on the same real rows."""

    def session(name: str) -> GraphSession:
        return GraphSession(directory / name, threads=1, device="cpu")

    item_tower = session(ITEM_TOWER_FILE)
    first_layer = session(FIRST_LAYER_FILE) if ranker.ranker.shape.still else None
    first_pass = session(FIRST_PASS_FILE) if models.first_pass.slopes else None
    return Parity(
        user_tower_difference(models.towers.serving_user, session(USER_TOWER_FILE), models.check),
        max(
            item_tower_difference(models.towers.item, item_tower, catalogue.items)
            for catalogue in models.catalogues.values()
        ),
        ranker_difference(ranker, session(RANKER_FILE), first_layer, models.check),
        recall,
        first_layer_difference(ranker, first_layer, models.check),
        first_pass_difference(models.first_pass.head, first_pass, models.check),
    )


def revision(directory: Path) -> str:
    """Git revision of the checkout around ``directory``, "unknown" outside one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _write_indexes(
    domain: Domain, models: TrainedModels, staging: Path, seed: int
) -> tuple[dict[str, IndexEntry], dict[str, float]]:
    """Ids, vectors and index of every ranked entity type, withdrawn items left out."""
    entries: dict[str, IndexEntry] = {}
    recall: dict[str, float] = {}
    ranked = {surface.entity for surface in domain.surfaces.values()}
    for entity, catalogue in models.catalogues.items():
        if entity not in ranked:
            continue
        kept = ~catalogue.withdrawn
        vectors = encode_items(models.towers.item, catalogue.items.take(kept))
        index = ItemIndex.build(vectors, seed=seed)
        entries[entity] = index_entry(entity, index.kind, index.rows)
        index.write(staging / entries[entity].file)
        ids = [identity for identity, keep in zip(catalogue.ids, kept, strict=True) if keep]
        _write_json(staging / entries[entity].ids_file, ids)
        np.save(staging / vectors_file(entity), vectors)
        recall[entity] = index_recall(index, vectors, models.check.user_vector)
        if entity == models.layout.sequence_entity:
            _write_neighbours(models, np.flatnonzero(kept), staging / neighbours_file(entity))
    return entries, recall


def _write_neighbours(models: TrainedModels, kept: IntArray, path: Path) -> None:
    """Those of the catalogue rows ``kept``, which are the index's, in its order."""
    known = within(models.neighbours, kept)
    found = np.empty(known.rows.shape, NEIGHBOUR)
    found["row"], found["similarity"] = known.rows, known.similarities
    np.save(path, found)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
