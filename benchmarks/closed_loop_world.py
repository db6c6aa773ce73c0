"""A simulated world with bundles trained on its log, and the features that follow from its events.

The features are the feature service's own: its applying and its lookup over a store in a temporary
folder, told the simulated time. The bundles are those of ``podium train`` and ``podium bundle``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from offline.dataset.build import build_dataset
from offline.dataset.tables import Dataset, load_dataset
from offline.progress import Progress, no_progress
from offline.publish.publish import publish
from offline.simulator.parameters import WorldParameters
from offline.simulator.simulate import simulate
from offline.simulator.world import World
from offline.training.train import train
from podium.event.v1 import event_pb2
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import Domain
from services.common.event_log import LogReader
from services.feature.applying.apply import Applier
from services.feature.convert.features import entity_rows, feature_block
from services.feature.rows.lookup import FeatureLookup, Lookup
from services.feature.rows.rows import row_readers
from services.feature.states.codec import decode_state
from services.feature.store.embedded import EmbeddedStore
from services.ranker.catalogue.table import EntityTable
from services.ranker.convert.features import feature_rows
from services.ranker.feature_rows import FeatureRows, View
from services.ranker.state import Tables

SHIPPED, UNPOSITIONED = "shipped", "trained without positions"
_STEP = "closed-loop"


@dataclass(frozen=True)
class PreparedWorld:
    """A world as it stands at the end of its log, that log, and a bundle by the way it was trained.

    The last week of the log, the test split, is in no bundle.
    """

    domain: Domain
    world: World
    log: Path
    bundles: dict[str, LoadedBundle]

    def copy_of_world(self) -> World:
        """The world to go on with, alone."""
        return copy.deepcopy(self.world)


def prepare_world(
    domain: Domain,
    parameters: WorldParameters,
    directory: Path,
    *,
    trained: Sequence[str] = (SHIPPED, UNPOSITIONED),
    progress: Progress = no_progress,
) -> PreparedWorld:
    """Simulates and trains in an empty ``directory``."""
    log = directory / "log"
    log.mkdir(parents=True)
    # Raw ids: people are found again in the world.
    found = simulate(
        parameters, log, name_ids=str, config_hash=domain.config_hash, progress=progress
    )
    build_dataset(domain, log, directory / "dataset", progress=progress)
    dataset = load_dataset(directory / "dataset")
    store = BundleStore(directory / "bundles")
    bundles = {}
    for number, way in enumerate(trained):
        of = dataset if way == SHIPPED else without_positions(dataset)
        models = train(domain, of, seed=0, threads=1)
        published = publish(
            domain,
            models,
            dataset.meta,
            store,
            seed=number,
            created_at=datetime.now(UTC),
            git_revision="",
        )
        path = store.path(published.manifest.version)
        bundles[way] = LoadedBundle.load(path, threads=1, device="cpu")
    return PreparedWorld(domain, found.world, log, bundles)


def without_positions(dataset: Dataset) -> Dataset:
    """The dataset with no word of where an item was shown."""
    examples = dataset.examples
    at = examples.schema.get_field_index("position")
    nothing = pa.nulls(len(examples), examples.schema.field(at).type)
    return replace(dataset, examples=examples.set_column(at, "position", nothing))


class OnlineFeatures:
    """What the feature service would answer at ``now_ms``, of the log and what was added to it.

    It is the ranker's port for user rows. Use as a context manager.
    """

    def __init__(self, domain: Domain, log: Path, directory: Path, now_ms: int) -> None:
        self.now_ms = now_ms
        self._store = EmbeddedStore(directory)
        self._applier = Applier(domain, self._store, lambda: self.now_ms)
        self._readers = row_readers(domain)
        self._lookup = FeatureLookup(self._store, lambda: self.now_ms)
        self._lookup.serve(list(self._readers.values()))
        self._position = self._applier.prepare(log)
        reader = LogReader(log, self._position)
        while records := reader.read(self._applier.batch_records):
            self._applier.apply(records, self._position, reader.next_arrival)
            self._position = reader.next_arrival

    def __enter__(self) -> OnlineFeatures:
        return self

    def __exit__(self, *exception: object) -> None:
        self._store.close()

    def clock_ms(self) -> int:
        """The simulated time."""
        return self.now_ms

    def add(self, events: Sequence[event_pb2.Event]) -> None:
        """Applies what happened; ``now_ms`` must not lie before it."""
        records: list[tuple[int, bytes]] = []
        for event in events:
            logged = event_pb2.LoggedEvent(
                event=event, arrival=self._position + len(records), producer=_STEP
            )
            logged.arrival_time.CopyFrom(event.event_time)
            logged.sequence = logged.arrival
            records.append((logged.arrival, logged.SerializeToString(deterministic=True)))
        if records:
            self._applier.apply(records)
            self._position += len(records)

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> _Rows:
        """The rows of users as they stand."""
        del timeout_s, sticky_ids
        served = self._lookup.view("user", view.name, view.hash)
        found: Lookup = self._lookup.read(served, ids)
        block = feature_block(served.reader.view, found.rows)
        return _Rows(feature_rows(ids, block, found.position, found.t_ms))

    def catalogue(self, entity: str) -> FeatureRows:
        """Rows of everything of an entity type that is in the catalogue now."""
        reader = self._readers[entity]
        ids, rows = [], []
        with self._store.read() as view:
            for identity, data in view.states(entity):
                state = reader.visible(decode_state(data), self.now_ms)
                if state.in_catalogue:
                    ids.append(identity)
                    rows.append(reader.row(state, self.now_ms))
        return feature_rows(ids, entity_rows(reader.view, ids, rows).block)


class Catalogue:
    """The ranker's catalogue of one entity type, kept up to date by hand."""

    def __init__(self, entity: str, view: View) -> None:
        self._replica = object()
        self._table = EntityTable.empty(entity, view)
        self._number = 0

    def take(self, rows: FeatureRows) -> Tables:
        """The catalogue with exactly these rows in it."""
        table, held = self._table, set(rows.ids)
        gone = [id_ for id_ in table.ids if table.has(id_) and id_ not in held]
        self._number += 1
        self._table = table.changed([rows], gone, self._number)
        tables = {table.entity: self._table}
        return Tables(self._replica, 1, self._number, tables, lambda: None, lambda: 0)


@dataclass(frozen=True)
class _Rows:
    """Rows that are there already."""

    rows: FeatureRows

    def ready(self, longest_s: float) -> bool:
        del longest_s
        return True

    def result(self) -> FeatureRows:
        return self.rows
