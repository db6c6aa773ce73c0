"""The dataset on disk: what ``podium dataset`` writes and training and evaluation read.

A dataset is a directory::

    meta.json                     DatasetMeta
    catalogue/<entity>.parquet    one row an entity, as of the end of the log, ordered by id
        id string, withdrawn bool, first_time_ms int64 (epoch ms of its first catalogue event),
        then the declared attributes (string, int64, float32, bool, list<string> or list<float>;
        null where never set)
    interactions.parquet          what users did with the sequence entity, by user, time, arrival
        user string, time_ms int64, arrival int64, action string (event type), item string
        (id of the sequence entity), surface string, target_type string, target_id string
        (the event's subject), split string
    examples.parquet              what the ranker learns from, by time, arrival
        example_id int64 (0, 1, …), rank_id string, user string, time_ms int64, arrival int64
        (the as-of point: events up to time_ms and before arrival are known), surface string,
        entity_type string, entity_id string, position int32 (null without impressions),
        recent_items list<string>, recent_actions list<string> (oldest first),
        u.<feature> float32, i.<feature> float32, f.<vocabulary> string, n.<numeric> float32,
        l.<list> list<string>, v.<values> list<float32> and k.<feature> string: what the cross
        features join, of the user and of the item,
        y.<objective> int8 (0 or 1), m.<objective> bool (mature: the label can't change any more;
        in training and validation rows, couldn't once the test period of a time split began),
        split string ("train", "validation" or "test")

Where the log has impressions an example is one impression; otherwise it is one event that some
objective counts, with its own point in time just before it. Users are pseudonyms (actor keys), as
the event names them; what is said of them (``recent_…``, ``u.…``) is theirs as known at the point.
Of actors that were erased there is nothing.
A feature that an item's entity type lacks holds the feature's default.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from services.common.crosses import ListedCross
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, NotFound
from services.feature.definitions import USER_ENTITY

FORMAT_VERSION = 1
META_FILE = "meta.json"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ViewReference(_Record):
    """A feature view by name and content hash."""

    name: str
    hash: str


class LeakCheck(_Record):
    """Result of recomputing sampled examples from the log cut at their own as-of point."""

    sampled: int
    compared_values: int
    differing_values: int


class DatasetMeta(_Record):
    """What a dataset was made from, and what it holds.

    ``log_position``: arrival after the last record read. ``start_ms``/``end_ms``: first and last
    event time that counts (epoch ms, inclusive; 0 for an empty log). ``validation_start_ms`` and
    ``test_start_ms`` are set for a split by time. ``rows``: rows by table name, also those of
    ``examples.<split>`` and ``interactions.<split>``.
    """

    format_version: int
    domain: str
    config_hash: str
    log_position: int
    start_ms: int
    end_ms: int
    validation_start_ms: int | None
    test_start_ms: int | None
    rows: dict[str, int]
    feature_views: dict[str, ViewReference]
    leak_check: LeakCheck


@dataclass(frozen=True)
class Dataset:
    """A loaded dataset; the module says what the tables hold."""

    directory: Path
    meta: DatasetMeta
    catalogue: dict[str, pa.Table]
    interactions: pa.Table
    examples: pa.Table


def vocabulary_names(domain: Domain) -> tuple[str, ...]:
    """Vocabularies of all item towers, in order of first appearance over the entities."""
    towers = (entity.tower for entity in domain.entities.values() if entity.tower)
    return tuple(dict.fromkeys(name for tower in towers for name in tower.fields))


def numeric_names(domain: Domain) -> tuple[str, ...]:
    """Numeric tower inputs of all entities, in order of first appearance."""
    towers = (entity.tower for entity in domain.entities.values() if entity.tower)
    return tuple(dict.fromkeys(name for tower in towers for name in tower.numeric))


def cross_lists(domain: Domain) -> tuple[str, ...]:
    """Lists of the user that cross features read."""
    return tuple(dict.fromkeys(cross.ids for cross in _listed_crosses(domain)))


def cross_values(domain: Domain) -> tuple[str, ...]:
    """Numbers of the user's pairs that cross features read."""
    named = (cross.values for cross in _listed_crosses(domain) if cross.values is not None)
    return tuple(dict.fromkeys(named))


def cross_items(domain: Domain) -> tuple[str, ...]:
    """Texts of the item that cross features read."""
    return tuple(dict.fromkeys(cross.item for cross in _listed_crosses(domain)))


def _listed_crosses(domain: Domain) -> list[ListedCross]:
    return [c for c in domain.model.crosses.values() if isinstance(c, ListedCross)]


def described_entities(domain: Domain) -> tuple[str, ...]:
    """Entity types that the catalogue describes: all that declare attributes or a tower, but users,
    who are in no catalogue."""
    described = (name for name, e in domain.entities.items() if e.attributes or e.tower)
    return tuple(name for name in described if name != USER_ENTITY)


def load_meta(directory: Path) -> DatasetMeta:
    """Reads ``meta.json``. Raises ``NotFound``, or ``FailedPrecondition`` where it is not valid."""
    path = directory / META_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"{directory} holds no dataset: {path} cannot be read") from error
    try:
        meta = DatasetMeta.model_validate_json(text)
    except ValidationError as error:
        raise FailedPrecondition(f"{path} does not describe a dataset") from error
    if meta.format_version != FORMAT_VERSION:
        raise FailedPrecondition(
            f"{path} has format {meta.format_version}; this version reads {FORMAT_VERSION}"
        )
    return meta


def load_dataset(directory: Path) -> Dataset:
    """Reads a whole dataset into memory.

    Raises ``NotFound`` when there is none or a table is missing, ``FailedPrecondition`` when it
    is of another format.
    """
    meta = load_meta(directory)
    return Dataset(
        directory,
        meta,
        {entity: read_catalogue(directory, entity) for entity in _listed_entities(meta)},
        _read(directory / "interactions.parquet"),
        _read(directory / "examples.parquet"),
    )


def read_catalogue(directory: Path, entity: str) -> pa.Table:
    """Catalogue of one entity type, as of the end of the log. Raises ``NotFound``."""
    return _read(directory / "catalogue" / f"{entity}.parquet")


def _listed_entities(meta: DatasetMeta) -> list[str]:
    prefix = "catalogue."
    return [name.removeprefix(prefix) for name in meta.rows if name.startswith(prefix)]


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise NotFound(f"the dataset lacks {path}", reason="DATASET_NOT_FOUND")
    return pq.read_table(path)
