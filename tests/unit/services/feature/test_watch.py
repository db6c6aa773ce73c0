"""The watch hub: what is looked at when, versions and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from podium.event.v1.event_pb2 import Event
from services.feature.apply import Applier
from services.feature.definitions import compile_views
from services.feature.rows import row_readers
from services.feature.store.embedded import EmbeddedStore
from services.feature.watch import MOVING_INTERVAL_S, SWEEP_S, EntityHub
from tests.support.feature_streams import (
    START_MS,
    domain_with,
    interaction,
    logged,
    room_event,
    upsert_event,
    withdrawal_event,
)

DOMAIN = domain_with(
    {"clicks": {"kind": "count", "entities": ["course"], "events": ["click"], "window": "1m"}}
)
VIEWS = compile_views(DOMAIN)
Seen = dict[str, tuple[str, int] | None]


@dataclass
class World:
    """A store, its applier, a hub over it, and the clock of all three."""

    store: EmbeddedStore
    log_dir: Path
    clock_ms: int = START_MS

    def __post_init__(self) -> None:
        self._applier = Applier(DOMAIN, self.store, self.now_ms)
        self._applier.prepare(self.log_dir)
        self._arrival = 0
        self.hub = self.new_hub()

    def now_ms(self) -> int:
        return self.clock_ms

    def new_hub(self) -> EntityHub:
        hub = EntityHub(self.store, row_readers(DOMAIN), self.now_ms, lambda: self.clock_ms / 1000)
        hub.install(hub.load())
        return hub

    def log(self, *events: Event) -> None:
        records = []
        for event in events:
            record = logged(self._arrival, event, self.clock_ms).SerializeToString()
            records.append((self._arrival, record))
            self._arrival += 1
        self._applier.apply(records)

    def click(self, name: str) -> None:
        self.log(interaction(name, "click", self.clock_ms, "ann", "course:c"))

    def course(self, name: str, title: str) -> None:
        self.log(upsert_event(name, self.clock_ms, "course:c", title=title))

    def refresh(self) -> Seen:
        """(title, clicks) of the courses that changed; None for one gone."""
        since = self.hub.version
        self.hub.install(self.hub.refresh())
        return self.seen(since)

    def seen(self, since: int) -> Seen:
        names = [column.name for column in row_readers(DOMAIN)["course"].columns]
        title, clicks = names.index("title"), names.index("clicks")
        return {
            identity: (str(row.values[title]), int(str(row.values[clicks]))) if row else None
            for identity, row in self.hub.changes("course", since)
        }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = EmbeddedStore(tmp_path / "store")
    yield World(store, tmp_path / "log")
    store.close()


def test_a_described_entity_is_looked_at_at_once(world: World) -> None:
    world.course("a", "One")
    assert world.refresh() == {"c": ("One", 0)}
    world.course("b", "Two")
    assert world.refresh() == {"c": ("Two", 0)}
    assert world.refresh() == {}


def test_moving_features_are_looked_at_once_an_interval(world: World) -> None:
    world.course("a", "One")
    world.refresh()
    world.click("b")
    world.clock_ms += 10
    world.click("c")

    assert world.refresh() == {}
    world.clock_ms += int(MOVING_INTERVAL_S * 1_000)
    assert world.refresh() == {"c": ("One", 2)}


def test_the_sweep_finds_windows_that_decayed(world: World) -> None:
    world.course("a", "One")
    world.click("b")
    world.clock_ms += 1_000
    assert world.refresh() == {"c": ("One", 1)}

    world.clock_ms += 66_000 + int(SWEEP_S * 1_000)

    assert world.refresh() == {"c": ("One", 0)}


def test_only_described_entities_are_listed(world: World) -> None:
    world.click("a")
    world.log(room_event("r", "room_started", world.clock_ms, "r1", course="c"))

    world.refresh()

    assert world.hub.snapshot("course") == []
    assert [identity for identity, _ in world.hub.snapshot("room")] == ["r1"]


def test_a_withdrawn_entity_is_gone_until_it_is_described_again(world: World) -> None:
    world.course("a", "One")
    world.refresh()
    world.clock_ms += 1
    world.log(withdrawal_event("b", world.clock_ms, "course:c"))
    assert world.refresh() == {"c": None}
    assert world.hub.snapshot("course") == []

    world.clock_ms += 1
    world.course("c", "Back")
    assert world.refresh() == {"c": ("Back", 0)}


def test_changes_come_from_any_version_on(world: World) -> None:
    for name in ("c1", "c2", "c3"):
        world.log(upsert_event(name, world.clock_ms, f"course:{name}", title="x"))
        world.refresh()
    world.log(upsert_event("again", world.clock_ms, "course:c1", title="y"))
    world.refresh()

    assert world.seen(0) == {"c2": ("x", 0), "c3": ("x", 0), "c1": ("y", 0)}
    assert world.seen(2) == {"c3": ("x", 0), "c1": ("y", 0)}
    assert world.seen(4) == {}


def test_changes_that_were_dropped_unseen_cause_a_full_look(world: World) -> None:
    world.course("a", "One")
    world.refresh()
    world.course("b", "Two")
    with world.store.write() as transaction:
        transaction.add_changes([("room", "other", False)], keep=1)

    assert world.refresh() == {"c": ("Two", 0)}


def test_tokens_are_only_good_for_their_hub_and_views(world: World) -> None:
    course, room = VIEWS["course"], VIEWS["room"]
    world.course("a", "One")
    world.refresh()
    token = world.hub.token([course], 1)

    assert world.hub.resume([course], token) == 1
    assert world.hub.resume([course, room], token) is None
    assert world.hub.resume([course], token[:-1]) is None
    assert world.hub.resume([course], world.hub.token([course], 99)) is None
    assert world.new_hub().resume([course], token) is None
    both = world.hub.token([course, room], 1)
    assert world.hub.resume([room, course], both) == 1
