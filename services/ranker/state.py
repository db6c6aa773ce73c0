"""The bundles and the catalogue in force, as one reference that requests read.

A new bundle or a catalogue change yields a new ``ServingState`` beside the old one; setting the
reference is the whole swap. A micro-batch keeps the states it began with.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from services.common.errors import Unavailable
from services.ranker.arrays import Int32Array
from services.ranker.bundles.routing import Routes
from services.ranker.calls.prices import Prices
from services.ranker.catalogue.carried import CarriedTables
from services.ranker.catalogue.table import EntityTable
from services.ranker.filters.tree import Expression
from services.ranker.narrowing import Narrowing
from services.ranker.plan import (
    BundleSpec,
    ItemMatrix,
    SurfacePlan,
    item_matrix,
    surface_plan,
)
from services.ranker.ports import Model
from services.ranker.scoring.first_pass import bind_first_pass
from services.ranker.sources.base import Histories
from services.ranker.sources.breaker import Breaker
from services.ranker.types import Reason


@dataclass(frozen=True)
class Tables:
    """The installed catalogue: a table an entity type.

    ``replica`` is what keeps it up to date, ``epoch`` counts the snapshots it took: only tables of
    one epoch share slots. ``number`` is that of the last change. ``stale`` says why the catalogue
    must not be trusted to be fresh, None while it may; ``age_ms`` how far it is behind the clock.
    """

    replica: object
    epoch: int
    number: int
    by_entity: Mapping[str, EntityTable]
    stale: Callable[[], Reason | None]
    age_ms: Callable[[], int]


@dataclass(frozen=True)
class ServingState:
    """Everything a micro-batch reads. ``carried``: the tables that plans are made of. ``scratch``
    int32, as long as the longest table, ``breaker``, which a bundle's states share, and
    ``narrowing`` belong to the one thread that ranks."""

    model: Model
    spec: BundleSpec
    tables: Tables
    items: Mapping[str, ItemMatrix]
    plans: Mapping[str, SurfacePlan]
    scratch: Int32Array
    prices: Prices
    breaker: Breaker
    narrowing: Narrowing
    carried: CarriedTables

    def plan_of(self, surface: str, wanted: Expression | None) -> SurfacePlan:
        """The plan of a surface, of the items that pass a caller's filter where there is one."""
        plan = self.plans[surface]
        return plan if wanted is None else self.narrowing.of(plan, wanted)


def prepare(
    model: Model,
    spec: BundleSpec,
    tables: Tables,
    before: ServingState | None,
    *,
    exact_rows: int,
    now_ms: int,
) -> ServingState:
    """The state of a bundle over a catalogue. What ``before`` has of the same two is reused."""
    same = before if before is not None and _same_items(before, model, tables) else None
    carried = CarriedTables(spec.carries, tables.by_entity, None if same is None else same.carried)
    items: dict[str, ItemMatrix] = {}
    for entity, table in carried.by_entity.items():
        if entity not in spec.towers:
            continue
        known, since = None, 0
        if same is not None:
            known, since = same.items[entity], same.tables.number
        items[entity] = item_matrix(model, spec, table, known, since)
    named = None
    if spec.sequence_entity in items:
        named = carried.by_entity[spec.sequence_entity]
    histories = None if named is None else Histories(named, items[spec.sequence_entity].vectors)
    plans = {
        name: surface_plan(
            spec,
            surface,
            carried.by_entity[surface.entity],
            items[surface.entity],
            histories=histories,
            before=None if same is None else same.plans[name],
            first_pass=bind_first_pass(
                model,
                surface.scored,
                spec.slopes.get(name),
                spec.surface_index.get(name, 0),
                carried.by_entity[surface.entity],
                items[surface.entity].features,
                None if same is None else same.plans[name].first_pass,
                0 if same is None else same.tables.number,
            ),
            exact_rows=exact_rows,
            now_ms=now_ms,
        )
        for name, surface in spec.surfaces.items()
    }
    stands = same is not None and all(
        same.tables.by_entity.get(entity) is table for entity, table in tables.by_entity.items()
    )
    prices = same.prices if same is not None and stands else Prices(tables.by_entity)
    longest = max((len(table) for table in tables.by_entity.values()), default=0)
    breaker = before.breaker if before is not None and before.model is model else Breaker()
    scratch = np.zeros(longest, np.int32)
    narrowing = Narrowing(spec, exact_rows, tables.number, None if same is None else same.narrowing)
    return ServingState(
        model, spec, tables, items, plans, scratch, prices, breaker, narrowing, carried
    )


def _same_items(before: ServingState, model: Model, tables: Tables) -> bool:
    return (
        before.model is model
        and before.tables.replica is tables.replica
        and before.tables.epoch == tables.epoch
    )


@dataclass(frozen=True)
class InForce:
    """The bundles that serve and who is answered by which; states by version."""

    routes: Routes
    states: Mapping[str, ServingState]

    @property
    def live(self) -> ServingState:
        """That of the live bundle."""
        return self.states[self.routes.live]


class Serving:
    """Holds the states of the loaded bundles, brings them up to date and says which serve."""

    def __init__(self, *, exact_rows: int) -> None:
        self._exact_rows = exact_rows
        self._in_force: InForce | None = None
        self._states: dict[str, ServingState] = {}
        self._broken: dict[str, Exception] = {}
        self._latest: dict[str, Callable[[], Tables]] = {}
        self._replacing = threading.Lock()
        self._ready = threading.Event()

    def current(self) -> ServingState:
        """The live state. Raises ``Unavailable`` before there is one."""
        return self.in_force().live

    def in_force(self) -> InForce:
        """What serves. Raises ``Unavailable`` before there is anything."""
        in_force = self._in_force
        if in_force is None:
            raise Unavailable("no bundle and catalogue are loaded yet", reason="NOT_READY")
        return in_force

    @property
    def version(self) -> str | None:
        """Version of the live bundle."""
        in_force = self._in_force
        return None if in_force is None else in_force.routes.live

    def loaded(self) -> dict[str, ServingState]:
        """The states of all loaded bundles, those that do not serve among them."""
        with self._replacing:
            return dict(self._states)

    def install_tables(self, tables: Tables) -> None:
        """Takes a catalogue change into force for the bundles that serve and read it, the live one
        first; one that does not serve catches up when it does.

        Tables of a replica that no bundle reads are left out: they belong to one on its way in. A
        bundle that can't take the change stays behind, and is ``broken`` until it takes one; what
        the live one raised is raised once the others have it.
        """
        with self._replacing:
            raised: Exception | None = None
            serving = () if self._in_force is None else self._in_force.routes.versions()
            for version in sorted(serving, key=lambda version: version != self.version):
                state = self._states[version]
                if state.tables.replica is not tables.replica:
                    continue
                try:
                    self._catch_up(version, tables)
                except Exception as error:
                    raised = error if version == self.version else raised
                    continue
                self._publish()
            if raised is not None:
                raise raised

    def broken(self) -> dict[str, Exception]:
        """Loaded bundles that could not take the last change of the catalogue, and why."""
        with self._replacing:
            return dict(self._broken)

    def load(
        self,
        model: Model,
        spec: BundleSpec,
        latest: Callable[[], Tables],
        warm: Callable[[ServingState], None],
    ) -> None:
        """Prepares a bundle over the latest catalogue and warms it; ``serve`` puts it into force.

        Encoding the catalogue happens outside the lock; what changed meanwhile is added within.
        """
        early = self._prepared(model, spec, latest(), None)
        warm(early)
        with self._replacing:
            self._broken.pop(spec.version, None)
            self._latest[spec.version] = latest
            self._states[spec.version] = self._prepared(model, spec, latest(), early)

    def serve(self, routes: Routes) -> None:
        """Puts loaded bundles into force, over the latest catalogue.

        A bundle that can't take it is ``broken``. Where it serves already, or nothing does, it
        stays behind; else nothing changes, and what it raised is raised.
        """
        with self._replacing:
            for version in routes.versions():
                tables = self._latest[version]()
                if tables.number == self._states[version].tables.number:
                    continue
                try:
                    self._catch_up(version, tables)
                except Exception:
                    if self._in_force is not None and version not in self._in_force.states:
                        raise
            self._publish(routes)
        self._ready.set()

    def unload(self, version: str) -> None:
        """Drops a bundle that does not serve; micro-batches that began with it end with it."""
        with self._replacing:
            self._states.pop(version, None)
            self._latest.pop(version, None)
            self._broken.pop(version, None)

    def wait_ready(self, timeout_s: float) -> bool:
        """Waits for the first live state; whether there is one."""
        return self._ready.wait(timeout_s)

    def _catch_up(self, version: str, tables: Tables) -> None:
        state = self._states[version]
        try:
            self._states[version] = self._prepared(state.model, state.spec, tables, state)
        except Exception as error:
            self._broken[version] = error
            raise
        self._broken.pop(version, None)

    def _publish(self, routes: Routes | None = None) -> None:
        if routes is None:
            if self._in_force is None:
                return
            routes = self._in_force.routes
        states = {version: self._states[version] for version in routes.versions()}
        self._in_force = InForce(routes, states)

    def _prepared(
        self, model: Model, spec: BundleSpec, tables: Tables, before: ServingState | None
    ) -> ServingState:
        now_ms = time.time_ns() // 1_000_000
        return prepare(model, spec, tables, before, exact_rows=self._exact_rows, now_ms=now_ms)
