"""Publish, load, tamper, promote, roll back."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, DTypeLike, NDArray

from services.common.bundle.index import ItemIndex, recall_at_k
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.manifest import (
    FirstPassOutput,
    ManifestFeature,
    NamedCross,
    read_manifest,
)
from services.common.bundle.neighbours import NEIGHBOUR, neighbours_file
from services.common.bundle.store import BundleStore
from services.common.crosses import ListedCross
from services.common.domain import Domain, load_domain
from services.common.errors import BundleError, NotFound
from tests.support.tiny_bundle import make_tiny_bundle

LIVE_COURSES = Path("config/live_courses.yaml")
CATALOGUE = {
    "course": {
        f"c{i}": {"host_id": f"h{i % 3}", "category": f"g{i % 2}", "level": i, "price_minor": 100}
        for i in range(12)
    },
    "host": {f"h{i}": {"category": f"g{i % 2}"} for i in range(3)},
    "room": {},
    "video": {f"v{i}": {"course_id": f"c{i}", "host_id": "h0"} for i in range(4)},
}


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(LIVE_COURSES)


@pytest.fixture
def store(tmp_path: Path, domain: Domain) -> BundleStore:
    make_tiny_bundle(tmp_path, domain, CATALOGUE, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    return BundleStore(tmp_path)


def current_path(store: BundleStore) -> Path:
    version = store.current()
    assert version is not None
    return store.path(version)


def test_answers_agree_with_arithmetic_on_the_vectors(store: BundleStore) -> None:
    bundle = LoadedBundle.load(current_path(store), device="cpu")
    length = bundle.manifest.sequence.length
    items = np.zeros((2, length), np.int64)
    items[0, -2:] = bundle.lookup("course", ["c3", "c5"])
    surface = np.full(2, bundle.manifest.surface_index("courses"), np.int64)
    features = np.zeros((2, len(bundle.manifest.user_features)), np.float32)
    users = bundle.encode_users(items, np.zeros_like(items), features, surface)
    scores, rows = bundle.search("course", users, 20)
    exact = users @ bundle.item_vectors["course"].T
    assert scores.shape == rows.shape == (2, 20)
    assert np.array_equal(rows[:, :12], np.argsort(-exact, axis=1))
    assert (rows[:, 12:] == -1).all()
    assert np.isneginf(scores[:, 12:]).all()
    assert not np.allclose(users[0], users[1])


def test_a_manifest_from_before_a_field_keeps_its_digest(store: BundleStore) -> None:
    directory = current_path(store)
    old = BundleStore(directory.parent).manifest(directory.name)
    old = old.model_copy(update={"still_features": []}).sealed(old.version, old.files)
    assert b"still_features" not in old.to_bytes()
    (directory / "manifest.json").write_bytes(old.to_bytes())
    bundle = LoadedBundle.load(directory, device="cpu")
    assert bundle.manifest == old
    # Without a graph for it, nothing is computed once an item.
    features = np.zeros((3, len(old.item_features)), np.float32)
    assert bundle.item_parts(bundle.item_vectors["course"][:3], features).shape == (3, 0)


def test_a_digest_is_of_what_was_written_whatever_the_defaults_are_today(
    store: BundleStore,
) -> None:
    directory = current_path(store)
    cross = ListedCross(kind="listed", ids="recent_hosts", item="host_id")
    manifest = BundleStore(directory.parent).manifest(directory.name)
    named = manifest.model_copy(update={"crosses": [NamedCross(name="visits", cross=cross)]})
    manifest = named.sealed(manifest.version, manifest.files)
    # A setting with its default is not said: one more setting will change nothing.
    short = json.loads(manifest.to_bytes())
    assert short["crosses"][0]["cross"] == cross.model_dump(exclude_defaults=True)

    # Builds from before said all of them.
    long = short | {"crosses": [{"name": "visits", "cross": cross.model_dump()}], "digest": ""}
    text = json.dumps(long, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest != manifest.digest
    for digest_of, written in ((manifest.digest, short), (digest, long | {"digest": digest})):
        text = json.dumps(written, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        (directory / "manifest.json").write_text(text)
        found = read_manifest(directory)
        assert (found.digest, found.crosses) == (digest_of, manifest.crosses)
    (directory / "manifest.json").write_text(text.replace("recent_hosts", "recent_rooms"))
    with pytest.raises(BundleError, match="digest"):
        read_manifest(directory)


def test_a_first_pass_is_what_was_sealed_and_may_be_absent(
    store: BundleStore, domain: Domain, tmp_path: Path
) -> None:
    without = LoadedBundle.load(current_path(store), device="cpu")
    features = np.ones((3, len(without.manifest.item_features)), np.float32)
    assert b"first_pass" not in without.manifest.to_bytes()
    with pytest.raises(BundleError, match="no first pass"):
        without.item_logits(features, np.ones(3, np.int64))
    slopes = [0.5] * len(domain.objectives)
    made = tmp_path / "made"
    make_tiny_bundle(made, domain, CATALOGUE, first_pass={"courses": slopes, "rooms": slopes})
    directory = current_path(BundleStore(made))
    bundle = LoadedBundle.load(directory, device="cpu")
    assert bundle.manifest.first_pass is not None
    assert bundle.manifest.first_pass.slopes == {"courses": slopes, "rooms": slopes}
    assert bundle.item_logits(features, np.array([1, 1, 2])).shape == (3, len(slopes))
    # Slopes of fewer objectives, sealed all the same.
    fewer = bundle.manifest.model_copy(
        update={"first_pass": FirstPassOutput(slopes={"courses": slopes[1:]})}
    )
    (directory / "manifest.json").write_bytes(fewer.sealed(fewer.version, fewer.files).to_bytes())
    with pytest.raises(BundleError, match="slopes for surface courses"):
        LoadedBundle.load(directory, device="cpu")


def test_score_takes_each_item_with_its_owner(store: BundleStore) -> None:
    bundle = LoadedBundle.load(current_path(store), device="cpu")
    random = np.random.default_rng(1)
    users = random.normal(size=(2, bundle.dim)).astype(np.float32)
    items = bundle.item_vectors["course"][:3]
    owner = np.array([1, 0, 1], np.int64)
    user_features = np.ones((2, len(bundle.manifest.user_features)), np.float32)
    item_features = np.ones((3, len(bundle.manifest.item_features)), np.float32)
    position, surface = np.zeros(3, np.int64), np.array([1, 2], np.int64)
    together = bundle.score(
        user_vector=users,
        user_features=user_features,
        owner=owner,
        item_vector=items,
        item_features=item_features,
        position=position,
        surface=surface,
    )
    for row, user in enumerate(owner):
        alone = bundle.score(
            user_vector=users[user : user + 1],
            user_features=user_features[user : user + 1],
            owner=np.zeros(1, np.int64),
            item_vector=items[row : row + 1],
            item_features=item_features[row : row + 1],
            position=position[:1],
            surface=surface[user : user + 1],
        )
        np.testing.assert_allclose(together[row], alone[0], atol=1e-6)


def test_unknown_names_are_zero_and_an_empty_catalogue_finds_nothing(store: BundleStore) -> None:
    bundle = LoadedBundle.load(current_path(store), device="cpu")
    assert bundle.lookup("course", ["c0", "", "nobody"]).tolist() == [1, 0, 0]
    assert bundle.lookup_actions(["click", "sneeze"]).tolist() == [1, 0]
    assert bundle.manifest.surface_index("nowhere") == 0
    _, rows = bundle.search("room", np.zeros((1, bundle.dim), np.float32), 3)
    assert rows.tolist() == [[-1, -1, -1]]


def test_one_flipped_byte_in_any_file_is_caught(store: BundleStore) -> None:
    directory = current_path(store)
    for path in sorted(directory.iterdir()):
        content = path.read_bytes()
        for offset in {0, len(content) // 2, len(content) - 1}:
            damaged = bytearray(content)
            damaged[offset] ^= 1
            path.write_bytes(bytes(damaged))
            with pytest.raises(BundleError, match=path.name):
                LoadedBundle.load(directory, device="cpu")
        path.write_bytes(content)
    LoadedBundle.load(directory, device="cpu")


def resealed(store: BundleStore, name: str, content: bytes | None) -> Path:
    """A copy of the current bundle with one file replaced, or left out; its digests are right."""
    sound = current_path(store)
    with store.staging() as staging:
        shutil.copytree(sound, staging, dirs_exist_ok=True)
        (staging / name).unlink()
        if content is not None:
            (staging / name).write_bytes(content)
        manifest = store.manifest(sound.name).model_copy(update={"version": "resealed"})
        return store.path(store.publish(staging, manifest))


def npy(values: ArrayLike, dtype: DTypeLike = "<f4") -> bytes:
    """An array in NumPy's format."""
    file = io.BytesIO()
    np.save(file, np.asarray(values, dtype))
    return file.getvalue()


IDS = json.dumps([f"c{i}" for i in range(12)]).encode()
VECTORS = np.ones((12, 8))
MALFORMED = [
    ("vocabulary.json", b"[]"),
    ("vocabulary.json", b'{"course": "c0"}'),
    ("vocabulary.json", b'{"course": [["c0"]]}'),
    ("vocabulary.json", b"[" * 100_000),
    ("vocabulary.json", None),
    ("ids_course.json", b"3"),
    ("ids_course.json", b'{"c0": 1}'),
    ("ids_course.json", b'"c0c1c2c3c4c5"'),
    ("ids_course.json", IDS.replace(b'"c0"', b"0")),
    ("ids_course.json", b"\xff"),
    ("ids_course.json", None),
    ("vectors_course.npy", b""),
    ("vectors_course.npy", b"junk"),
    ("vectors_course.npy", b"PK\x03\x04junk"),
    ("vectors_course.npy", npy(VECTORS)[:-1]),
    ("vectors_course.npy", npy(VECTORS).replace(b"{'descr'", b"{{{{{{{{")),
    ("vectors_course.npy", npy(VECTORS, "object")),
    ("vectors_course.npy", npy(VECTORS, "<f8")),
    ("vectors_course.npy", npy(VECTORS, ">f4")),
    ("vectors_course.npy", npy(VECTORS[:, :7])),
    ("vectors_course.npy", npy(VECTORS[:11])),
    ("vectors_course.npy", npy(VECTORS.ravel())),
    ("vectors_course.npy", npy(np.float32(1))),
    ("vectors_course.npy", npy(np.where(np.eye(12, 8) > 0, np.nan, 1))),
    ("vectors_course.npy", npy(np.where(np.eye(12, 8) > 0, np.inf, 1))),
    ("vectors_course.npy", None),
    ("index_course.faiss", b"junk"),
    ("index_course.faiss", None),
    ("ranker.onnx", b"junk"),
    ("ranker.onnx", None),
]


@pytest.mark.parametrize(("name", "content"), MALFORMED)
def test_a_sealed_but_malformed_file_is_named(
    store: BundleStore, name: str, content: bytes | None
) -> None:
    directory = resealed(store, name, content)
    assert store.verify(directory.name).version == "resealed"
    with pytest.raises(BundleError, match=name):
        LoadedBundle.load(directory, device="cpu")


def test_vectors_are_what_was_sealed(store: BundleStore) -> None:
    bundle = LoadedBundle.load(resealed(store, "vectors_course.npy", npy(VECTORS)), device="cpu")
    assert bundle.item_vectors["course"].dtype == np.float32
    assert np.array_equal(bundle.item_vectors["course"], VECTORS)


def neighbours(rows: int = 12, row: int = 1, similarity: float = 0.5) -> NDArray[np.void]:
    """Each of ``rows`` items has one neighbour."""
    found = np.empty((rows, 2), NEIGHBOUR)
    found["row"], found["similarity"] = (row, -1), (similarity, 0)
    return found


def with_neighbours(store: BundleStore, content: bytes) -> Path:
    """A copy of the current bundle with neighbours of courses; its digests are right."""
    sound = current_path(store)
    with store.staging() as staging:
        shutil.copytree(sound, staging, dirs_exist_ok=True)
        (staging / neighbours_file("course")).write_bytes(content)
        manifest = store.manifest(sound.name).model_copy(update={"version": "neighbours"})
        return store.path(store.publish(staging, manifest))


def test_neighbours_are_what_was_sealed_and_may_be_absent(store: BundleStore) -> None:
    assert LoadedBundle.load(current_path(store), device="cpu").neighbours == {}
    directory = with_neighbours(store, npy(neighbours(), NEIGHBOUR))
    found = LoadedBundle.load(directory, device="cpu").neighbours
    assert found.keys() == {"course"}
    assert np.array_equal(found["course"], neighbours())


@pytest.mark.parametrize(
    "content",
    [
        b"junk",
        npy(np.zeros((12, 2))),
        npy(neighbours(rows=11), NEIGHBOUR),
        npy(neighbours()[:, 0], NEIGHBOUR),
        npy(neighbours(row=12), NEIGHBOUR),
        npy(neighbours(row=-2), NEIGHBOUR),
        npy(neighbours(similarity=float("nan")), NEIGHBOUR),
        npy(neighbours(similarity=-0.1), NEIGHBOUR),
    ],
)
def test_malformed_neighbours_are_named(store: BundleStore, content: bytes) -> None:
    directory = with_neighbours(store, content)
    with pytest.raises(BundleError, match=r"neighbours_course\.npy: "):
        LoadedBundle.load(directory, device="cpu")


def test_a_history_of_negative_length_is_refused(store: BundleStore) -> None:
    sound = current_path(store)
    manifest = store.manifest(sound.name)
    sequence = manifest.sequence.model_copy(update={"length": -1})
    wrong = manifest.model_copy(update={"sequence": sequence, "version": "wrong"})
    with store.staging() as staging:
        shutil.copytree(sound, staging, dirs_exist_ok=True)
        directory = store.path(store.publish(staging, wrong))
    with pytest.raises(BundleError, match="wrong: a graph refuses"):
        LoadedBundle.load(directory, device="cpu")


def test_a_missing_file_is_named(store: BundleStore) -> None:
    directory = current_path(store)
    (directory / "ranker.onnx").unlink()
    with pytest.raises(BundleError, match=r"ranker\.onnx: missing"):
        LoadedBundle.load(directory, device="cpu")


def test_promote_and_roll_back(store: BundleStore, domain: Domain) -> None:
    first = store.current()
    assert first is not None
    with pytest.raises(NotFound):
        store.rollback()
    second = make_tiny_bundle(store.directory, domain, CATALOGUE, seed=1, promote=False)
    assert store.current() == first
    assert store.versions() == [first, second]
    store.promote(second)
    promoted = (store.directory / "current").stat()
    store.promote(second)
    again = (store.directory / "current").stat()
    assert (again.st_ino, again.st_mtime_ns) != (promoted.st_ino, promoted.st_mtime_ns)
    assert store.history() == (first, second)
    assert store.current() == second
    assert store.rollback() == first
    assert store.current() == first
    assert store.history() == (first,)


def test_a_corrupt_bundle_is_not_promoted(store: BundleStore, domain: Domain) -> None:
    first = store.current()
    second = make_tiny_bundle(store.directory, domain, CATALOGUE, seed=1, promote=False)
    with (store.path(second) / "ranker.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"ranker\.onnx"):
        store.promote(second)
    assert store.current() == first


def test_a_damaged_current_file_is_an_error_and_no_guess(store: BundleStore) -> None:
    (store.directory / "current").write_text("20250101T000000Z-00000000\n")
    with pytest.raises(BundleError, match="current"):
        store.current()


def test_versions_of_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        BundleStore(tmp_path / "absent").versions()


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)

    def stop() -> None:
        with store.staging() as staging:
            (staging / "ranker.onnx").write_bytes(b"half")
            raise RuntimeError("training stopped")

    with pytest.raises(RuntimeError, match="training stopped"):
        stop()
    assert store.versions() == []
    assert store.current() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_index_finds_what_an_exact_scan_finds(kind: str) -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(20, 16))
    vectors = (
        centres[random.integers(20, size=3000)] + random.normal(size=(3000, 16)) * 0.2
    ).astype(np.float32)
    queries = vectors[:40]
    index = ItemIndex.build(vectors, kind="ivf" if kind == "ivf" else "flat")
    assert index.kind == kind
    recall = recall_at_k(index, vectors, queries, 20)
    assert recall == 1.0 if kind == "flat" else recall > 0.9
    shuffled = ItemIndex.build(vectors[::-1], kind="flat")
    assert recall_at_k(shuffled, vectors, queries, 20) < 0.2


def test_a_view_may_have_vectors() -> None:
    feature = ManifestFeature(name="taste", dtype="vector", default=[0.0, 0.5])
    assert ManifestFeature.model_validate_json(feature.model_dump_json()) == feature
