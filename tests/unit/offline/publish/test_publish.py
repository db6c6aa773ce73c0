"""Publishing: the gate refuses what differs, and what is published answers as torch does."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console

from offline.publish.parity import Parity, difference, require_parity
from offline.publish.publish import Published, measure_parity, publish, revision
from offline.publish.summary import summary, uncalibrated_objectives
from offline.training.ranker import ServingRanker
from offline.training.train import TrainedModels, train
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import Domain, load_domain
from services.common.errors import BundleError
from tests.support.tiny_dataset import make_tiny_dataset

GRAPHS = (
    "user_tower.onnx",
    "item_tower.onnx",
    "item_first_layer.onnx",
    "first_pass.onnx",
    "ranker.onnx",
)


@pytest.fixture(scope="module", params=[0, 1], ids=["sums", "transformer"])
def domain(request: pytest.FixtureRequest) -> Domain:
    domain = load_domain(Path("config/live_courses.yaml"))
    sizes = {"epochs": 1, "dim": 8, "layers": request.param}
    retrieval = domain.model.retrieval.model_copy(update=sizes)
    return domain.model_copy(
        update={"model": domain.model.model_copy(update={"retrieval": retrieval})}
    )


@pytest.fixture(scope="module")
def models(domain: Domain) -> TrainedModels:
    return train(domain, make_tiny_dataset(domain), seed=0, threads=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BundleStore:
    return BundleStore(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def published(domain: Domain, models: TrainedModels, store: BundleStore) -> Published:
    return publish(
        domain,
        models,
        make_tiny_dataset(domain).meta,
        store,
        seed=0,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        git_revision="unknown",
    )


@pytest.fixture(scope="module")
def bundle(store: BundleStore, published: Published) -> LoadedBundle:
    return LoadedBundle.load(store.path(published.manifest.version), device="cpu")


def test_the_bundle_says_what_it_holds(
    published: Published, models: TrainedModels, store: BundleStore, domain: Domain
) -> None:
    manifest = published.manifest
    assert store.current() is None
    assert manifest.version.startswith("20260102T000000")
    assert manifest.domain_hash == domain.config_hash
    assert manifest.indexes["course"].rows == 39  # one of forty is withdrawn
    assert {n: manifest.metrics[n] for n in models.metrics} == models.metrics
    assert [o.name for o in manifest.objectives] == list(domain.objectives)
    assert summary(models, published, {"publish": 1.0}).renderables


@pytest.mark.parametrize("rows", [0.0, 3.0])
def test_objectives_without_a_final_label_are_named_as_not_calibrated(
    models: TrainedModels, published: Published, rows: float
) -> None:
    told = dict(published.manifest.metrics)
    told |= {f"ranker.{o.name}.rows": 5.0 for o in published.manifest.objectives}
    told["ranker.purchase.rows"] = rows
    manifest = published.manifest.model_copy(update={"metrics": told})
    assert uncalibrated_objectives(manifest) == ["purchase"] * (rows == 0.0)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary(models, replace(published, manifest=manifest), {}))
    assert ("Not calibrated: purchase." in console.export_text()) == (rows == 0.0)


def test_one_user_or_many_items_give_the_same_answers(
    bundle: LoadedBundle, models: TrainedModels
) -> None:
    examples = models.check.examples
    users = bundle.encode_users(
        examples.recent_items, examples.recent_actions, examples.user_features, examples.surface
    )
    np.testing.assert_allclose(users, models.check.user_vector, atol=1e-4)
    alone = bundle.encode_users(
        examples.recent_items[7:8],
        examples.recent_actions[7:8],
        examples.user_features[7:8],
        examples.surface[7:8],
    )
    np.testing.assert_allclose(alone[0], users[7], atol=1e-5)
    items = models.catalogues["course"].items.take(~models.catalogues["course"].withdrawn)
    encoded = bundle.encode_items(items.entity_type, items.fields, items.numeric)
    np.testing.assert_allclose(encoded, bundle.item_vectors["course"], atol=1e-5)


def test_the_first_pass_is_published_as_it_was_fitted(
    bundle: LoadedBundle, models: TrainedModels
) -> None:
    fitted, manifest = models.first_pass, bundle.manifest
    assert manifest.first_pass is not None
    assert set(manifest.first_pass.slopes) == set(fitted.slopes)
    assert fitted.slopes
    for surface, slopes in fitted.slopes.items():
        np.testing.assert_allclose(manifest.first_pass.slopes[surface], slopes)
        features = models.check.examples.item_features
        index = np.full(len(features), manifest.surface_index(surface), np.int64)
        with torch.inference_mode():
            expected = fitted.head(torch.from_numpy(features), torch.from_numpy(index))
        found = bundle.item_logits(features, index)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_neighbours_are_published_in_index_order(
    bundle: LoadedBundle, models: TrainedModels
) -> None:
    ids, found = bundle.item_ids["course"], bundle.neighbours["course"]
    place = {id_: row for row, id_ in enumerate(models.catalogues["course"].ids)}
    for row, id_ in enumerate(ids):
        learned = models.neighbours.rows[place[id_]]
        names = [models.catalogues["course"].ids[n] for n in learned if n >= 0]
        expected = [name for name in names if name in ids]
        assert [ids[n] for n in found["row"][row] if n >= 0] == expected
    assert (found["similarity"][:, 0] > 0).all()


def test_score_at_position_zero_ignores_where_items_were_logged(
    bundle: LoadedBundle, models: TrainedModels
) -> None:
    examples = models.check.examples
    rows = 20

    def score(position: np.ndarray) -> np.ndarray:
        return bundle.score(
            user_vector=models.check.user_vector[:rows],
            user_features=examples.user_features[:rows],
            owner=np.arange(rows),
            item_vector=models.check.item_vector[:rows],
            item_features=examples.item_features[:rows],
            position=position,
            surface=examples.surface[:rows],
        )

    neutral = score(np.zeros(rows, np.int64))
    assert neutral.shape == (rows, len(bundle.manifest.objectives))
    assert ((neutral > 0) & (neutral < 1)).all()
    logged = score(examples.position[:rows])
    assert not np.allclose(neutral, logged)
    # Positions beyond the last learned one share its bias and are no error.
    assert np.array_equal(score(np.full(rows, 200)), score(np.full(rows, 5_000)))


def test_what_stands_still_is_added_once_an_item(
    bundle: LoadedBundle, models: TrainedModels
) -> None:
    examples, rows = models.check.examples, 30
    assert bundle.manifest.still_features == ["level", "price_minor"]
    features = examples.item_features[:rows]
    parts = bundle.item_parts(models.check.item_vector[:rows], features)
    moved = features.copy()
    moved[:, 0] += 100.0  # clicks: no part of it
    assert np.array_equal(bundle.item_parts(models.check.item_vector[:rows], moved), parts)
    moved[:, bundle.manifest.item_features.index("level")] += 1.0
    others = bundle.item_parts(models.check.item_vector[:rows], moved)
    assert not np.allclose(others, parts)

    def score(item_part: np.ndarray | None) -> np.ndarray:
        return bundle.score(
            user_vector=models.check.user_vector[:3],
            user_features=examples.user_features[:3],
            owner=np.arange(rows) % 3,
            item_vector=models.check.item_vector[:rows],
            item_features=features,
            position=np.zeros(rows, np.int64),
            surface=examples.surface[:3],
            item_part=item_part,
        )

    np.testing.assert_allclose(score(parts), score(None), atol=1e-6)
    assert not np.allclose(score(others), score(parts), atol=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_gate_refuses_a_tampered_graph(
    name: str, models: TrainedModels, published: Published, store: BundleStore, tmp_path: Path
) -> None:
    source = store.path(published.manifest.version)
    for graph in GRAPHS:
        (tmp_path / graph).write_bytes((source / graph).read_bytes())
    ranker = ServingRanker(models.ranker.ranker).eval()
    require_parity(measure_parity(models, ranker, tmp_path, {}))
    model = onnx.load(tmp_path / name)
    weights = max(
        (i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT),
        key=lambda found: len(found.raw_data),
    )
    noise = np.random.default_rng(0).normal(size=tuple(weights.dims))
    changed = numpy_helper.to_array(weights) + 0.1 * noise
    weights.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), weights.name))
    onnx.save(model, tmp_path / name)
    with pytest.raises(BundleError, match=name):
        require_parity(measure_parity(models, ranker, tmp_path, {}))


def test_the_gate_refuses_an_index_that_misses_items() -> None:
    require_parity(Parity(0.0, 0.0, 0.0, {"course": 0.99}))
    with pytest.raises(BundleError, match="index_course"):
        require_parity(Parity(0.0, 0.0, 0.0, {"course": 0.5}))


def test_nan_and_other_shapes_differ_infinitely() -> None:
    assert difference(np.zeros(2, np.float32), np.zeros(2, np.float32)) == 0.0
    assert difference(np.zeros(2, np.float32), np.array([0, np.nan], np.float32)) == np.inf
    assert difference(np.zeros(2, np.float32), np.zeros(3, np.float32)) == np.inf
    with pytest.raises(BundleError, match="ranker"):
        require_parity(Parity(0.0, 0.0, float("nan"), {}))


def test_a_refused_bundle_leaves_nothing(
    domain: Domain, models: TrainedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline.publish.parity.TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="not published"):
        publish(
            domain,
            models,
            make_tiny_dataset(domain).meta,
            BundleStore(tmp_path),
            seed=0,
            created_at=datetime(2026, 1, 2, tzinfo=UTC),
            git_revision="unknown",
        )
    assert list(tmp_path.iterdir()) == []


def test_one_flipped_byte_in_any_published_file_is_caught(
    store: BundleStore, published: Published, tmp_path: Path
) -> None:
    source = store.path(published.manifest.version)
    copy = tmp_path / "bundle"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    for path in sorted(copy.iterdir()):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(bytes(content))
        with pytest.raises(BundleError, match=path.name):
            LoadedBundle.load(copy, device="cpu")
        path.write_bytes((source / path.name).read_bytes())


def test_revision_outside_a_checkout_is_unknown(tmp_path: Path) -> None:
    assert revision(tmp_path) == "unknown"
