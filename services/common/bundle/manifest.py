"""What a bundle says about itself: ``manifest.json``, canonical JSON with its own digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from services.common.crosses import Cross
from services.common.errors import BundleError, Unreadable

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
USER_TOWER_FILE = "user_tower.onnx"
ITEM_TOWER_FILE = "item_tower.onnx"
RANKER_FILE = "ranker.onnx"
FIRST_LAYER_FILE = "item_first_layer.onnx"
FIRST_PASS_FILE = "first_pass.onnx"  # noqa: S105 - a file, no password
VOCABULARY_FILE = "vocabulary.json"


_ADDED_LATER = frozenset({"still_features", "carried_features", "crosses", "first_pass"})
"""Fields that are left out while they are empty."""


def index_file(entity: str) -> str:
    """FAISS index of an entity type."""
    return f"index_{entity}.faiss"


def ids_file(entity: str) -> str:
    """Ids of an entity type in index order: a JSON list."""
    return f"ids_{entity}.json"


def vectors_file(entity: str) -> str:
    """Item vectors in index order: float32 ``[rows, dim]`` in NumPy's format."""
    return f"vectors_{entity}.npy"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingWindow(_Strict):
    """Event times (epoch milliseconds, inclusive) and the log position the examples end at."""

    start_ms: int
    end_ms: int
    log_position: int


class ManifestFeature(_Strict):
    """One column of a feature view. ``default`` stands for a value that is absent."""

    name: str
    dtype: str
    default: str | int | float | list[str] | list[float]


class ManifestView(_Strict):
    """The feature view a bundle was trained on, known by name and hash."""

    name: str
    hash: str
    features: list[ManifestFeature]


class SequenceInput(_Strict):
    """The history the user tower reads.

    ``items`` and ``actions`` are list features of the user; ``vocabulary`` is the one item ids are
    looked up in; an action's index is its place in ``action_names`` plus one, 0 being unknown.
    """

    items: str
    actions: str
    entity: str
    vocabulary: str
    length: int
    action_names: list[str]


class Tower(_Strict):
    """Attributes an entity type gives the item tower: vocabulary to attribute ("id" its own id)."""

    fields: dict[str, str]
    numeric: list[str]


class NamedCross(_Strict):
    """One column of the ranker's cross features."""

    name: str
    cross: Cross


class FirstPassOutput(_Strict):
    """The first pass over many candidates; ``FIRST_PASS_FILE`` gives its items' logits.

    ``slopes``: by surface, what <user, item> is multiplied by for each objective, in their order;
    surfaces that are not named have no first pass. See ``services.common.first_pass``.
    """

    slopes: dict[str, list[FiniteFloat]]


class ObjectiveOutput(_Strict):
    """One column of the ranker's answer, and its default weight in the value."""

    name: str
    weight: float


class IndexEntry(_Strict):
    """The index of one entity type. ``kind``: exact ("flat") or inverted lists ("ivf")."""

    kind: Literal["flat", "ivf"]
    rows: int
    file: str
    ids_file: str


class FileEntry(_Strict):
    """A file of the bundle."""

    sha256: str
    bytes: int


class Manifest(_Strict):
    """Everything a reader must know before it opens another file of the bundle.

    Indices of surfaces, entity types, actions and vocabulary values are their place in the list
    plus one; 0 is unknown. ``tower_fields`` (vocabularies) and ``tower_numeric`` (attributes) are
    the columns of the item tower's inputs; ``user_features`` and ``item_features`` those of the
    ranker's, bound by ``feature_order_hash``. ``still_features``: those of the item that move only
    with the catalogue; ``FIRST_LAYER_FILE``, where the bundle has it, reads no others. ``metrics``
    are the validation figures by name. ``carried_features``, by entity type: item features that
    it carried of another item in training; to the models what it carries beside is not there.
    ``crosses``: the columns of ``cross_features``, in this order. ``first_pass`` is None of a
    bundle without one.
    """

    format_version: int = FORMAT_VERSION
    version: str = ""
    created_at: str
    git_revision: str
    domain: str
    domain_hash: str
    seed: int
    training_window: TrainingWindow
    feature_views: dict[str, ManifestView]
    sequence: SequenceInput
    user_features: list[str]
    item_features: list[str]
    still_features: list[str] = []
    carried_features: dict[str, list[str]] = {}
    crosses: list[NamedCross] = []
    first_pass: FirstPassOutput | None = None
    feature_order_hash: str
    tower_fields: list[str]
    tower_numeric: list[str]
    towers: dict[str, Tower]
    entity_types: list[str]
    surfaces: list[str]
    objectives: list[ObjectiveOutput]
    dim: int
    indexes: dict[str, IndexEntry]
    files: dict[str, FileEntry] = {}
    metrics: dict[str, float] = {}
    digest: str = ""

    def surface_index(self, surface: str) -> int:
        """Index of a surface in the models' inputs; 0 when the bundle does not know it."""
        return self.surfaces.index(surface) + 1 if surface in self.surfaces else 0

    def entity_index(self, entity: str) -> int:
        """Index of an entity type in the item tower's input; 0 when the bundle does not know it."""
        return self.entity_types.index(entity) + 1 if entity in self.entity_types else 0

    def sealed(self, version: str, files: Mapping[str, FileEntry]) -> Manifest:
        """A copy with version, files and digest filled in."""
        open_copy = self.model_copy(update={"version": version, "files": dict(files), "digest": ""})
        return open_copy.model_copy(update={"digest": _digest(_content(open_copy))})

    def to_bytes(self) -> bytes:
        """Canonical JSON, UTF-8: equal content gives equal bytes."""
        return _bytes_of(_content(self))


def feature_order_hash(
    user_features: Sequence[str], item_features: Sequence[str], tower_columns: Sequence[str]
) -> str:
    """SHA-256 over names and order of every column the models read."""
    columns = [list(user_features), list(item_features), list(tower_columns)]
    return hashlib.sha256(json.dumps(columns, ensure_ascii=False).encode()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Reads and checks ``directory/manifest.json``.

    Raises ``BundleError`` naming the file when it is missing, malformed, of another format, or
    not byte for byte what was sealed.
    """
    path = directory / MANIFEST_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable.of(error, path) from error
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: not a bundle manifest: {field}: {first['msg']}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format {manifest.format_version} is not supported, {FORMAT_VERSION} is"
        )
    # What was written counts, not what this build would write: a default that was added since, or
    # is no longer written, changes no digest.
    written = json.loads(content)
    if _bytes_of(written) != content or _digest(written) != manifest.digest:
        raise BundleError(f"{path}: corrupt: its digest does not match its content")
    return manifest


def _content(manifest: Manifest) -> dict[str, Any]:
    content = manifest.model_dump(mode="json")
    # Equal content has equal bytes, whether the build that wrote it knew of these or not.
    content = {name: v for name, v in content.items() if v or name not in _ADDED_LATER}
    if "crosses" in content:
        content["crosses"] = [
            named.model_dump(mode="json", exclude_defaults=True) for named in manifest.crosses
        ]
    return content


def _bytes_of(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False)
    return text.encode() + b"\n"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_bytes_of({**content, "digest": ""})).hexdigest()
