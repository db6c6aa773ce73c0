"""The watch hub: what is looked at when, versions and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import Event
from services.feature.applying.apply import Applier
from services.feature.definitions import compile_views
from services.feature.rows.rows import Row, row_readers
from services.feature.store.embedded import EmbeddedStore
from services.feature.watch.changes import Refresh, Update
from services.feature.watch.hub import LOOKS_A_REFRESH, MOVING_INTERVAL_S, EntityHub
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
    {
        "clicks": {"kind": "count", "entities": ["course"], "events": ["click"], "window": "1m"},
        "live": {"kind": "attribute", "entities": ["room"], "ttl": "90s"},
    }
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
            changed.key[1]: (str(changed.row.values[title]), int(str(changed.row.values[clicks])))
            if changed.row
            else None
            for changed in self.hub.changes(("course",), since, 1_000).rows
        }

    def listed(self, entity: str) -> list[str]:
        return [identity for (_, identity), _ in self.hub.snapshot((entity,))]


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


def test_moving_features_are_gathered_and_told_once_an_interval(world: World) -> None:
    world.course("a", "One")
    world.refresh()
    world.click("b")
    world.clock_ms += 10
    world.click("c")

    assert world.refresh() == {}
    world.clock_ms += int(MOVING_INTERVAL_S * 1_000)
    assert world.refresh() == {"c": ("One", 2)}


def test_the_watermark_stands_where_a_gathered_change_is_not_told_yet(world: World) -> None:
    world.course("a", "One")
    world.refresh()
    world.clock_ms += 100
    before_ms = world.hub.refresh().as_of_ms
    assert before_ms == world.clock_ms
    world.click("b")
    world.clock_ms += 100
    found = world.hub.refresh()

    assert (found.updates, found.as_of_ms) == ([], before_ms)
    assert found.due_s <= world.clock_ms / 1000 + MOVING_INTERVAL_S
    world.clock_ms += int(MOVING_INTERVAL_S * 1_000)
    found = world.hub.refresh()
    assert (len(found.updates), found.as_of_ms) == (1, world.clock_ms)


def test_an_urgent_change_takes_the_gathered_ones_of_its_entity_along(world: World) -> None:
    world.course("a", "One")
    world.refresh()
    world.click("b")
    assert world.refresh() == {}
    world.course("c", "Two")
    assert world.refresh() == {"c": ("Two", 1)}

    world.clock_ms += int(MOVING_INTERVAL_S * 1_000)
    assert world.refresh() == {}


def test_many_moving_entities_are_looked_at_in_parts_and_told_together(world: World) -> None:
    count = LOOKS_A_REFRESH + 10
    world.log(
        *(upsert_event(f"c{n}", world.clock_ms, f"course:c{n}", title="x") for n in range(count))
    )
    world.refresh()
    world.clock_ms += int(MOVING_INTERVAL_S * 1_000)
    world.log(
        *(
            interaction(f"k{n}", "click", world.clock_ms, "ann", f"course:c{n}")
            for n in range(count)
        )
    )

    first = world.hub.refresh()
    world.hub.install(first)
    assert (first.updates, first.more) == ([], True)
    # What is urgent does not wait for the rest.
    world.log(upsert_event("now", world.clock_ms, "course:c0", title="now"))
    second = world.hub.refresh()
    assert (len(second.updates), second.more) == (count, False)
    assert second.updates[0].identity == "c0"


def test_a_window_that_hops_is_told_though_nothing_happened(world: World) -> None:
    world.course("a", "One")
    world.click("b")
    world.clock_ms += 1_000
    assert world.refresh() == {"c": ("One", 1)}

    told = {}
    for second in range(2, 70):
        world.clock_ms += 1_000
        if found := world.refresh():
            told[second] = found

    # A window of a minute starts up to 5 s early; what moves is told within an interval.
    ((second, found),) = told.items()
    assert 60 < second <= 65 + MOVING_INTERVAL_S
    assert found == {"c": ("One", 0)}


def test_a_window_hops_behind_an_event_that_was_ahead_of_the_clock(world: World) -> None:
    world.course("a", "One")
    world.log(interaction("b", "click", world.clock_ms + 3_000, "ann", "course:c"))
    told = []
    for _ in range(75):
        told.append(world.refresh().get("c"))
        world.clock_ms += 1_000

    # No event came after it: what is stored still has it wait.
    assert [found for found in told if found] == [("One", 0), ("One", 1), ("One", 0)]


def test_only_described_entities_are_listed(world: World) -> None:
    world.click("a")
    world.log(room_event("r", "room_started", world.clock_ms, "r1", course="c"))

    world.refresh()

    assert world.listed("course") == []
    assert world.listed("room") == ["r1"]


def test_a_withdrawn_entity_is_gone_until_it_is_described_again(world: World) -> None:
    world.course("a", "One")
    world.refresh()
    world.clock_ms += 1
    world.log(withdrawal_event("b", world.clock_ms, "course:c"))
    assert world.refresh() == {"c": None}
    assert world.listed("course") == []

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


def test_changes_come_in_parts_as_large_as_asked_for(world: World) -> None:
    for name in ("c1", "c2", "c3"):
        world.log(upsert_event(name, world.clock_ms, f"course:{name}", title="x"))
    world.refresh()

    first = world.hub.changes(("course",), 0, 2)
    rest = world.hub.changes(("course",), first.reached, 2)

    assert [changed.key[1] for changed in (*first.rows, *rest.rows)] == ["c1", "c2", "c3"]
    assert (first.reached, rest.reached) == (2, 3)
    assert world.hub.changes(("room",), 0, 2) == ([], 3)


def test_entities_that_are_gone_are_forgotten_in_time_and_tokens_from_before_with_them(
    tmp_path: Path,
) -> None:
    store = EmbeddedStore(tmp_path / "store")
    hub = EntityHub(store, row_readers(DOMAIN), lambda: START_MS, kept_tombstones=2)
    row = Row((), b"")
    for number in range(10):
        hub.install(_installed(Update("course", f"c{number}", row)))
        hub.install(_installed(Update("course", f"c{number}", None)))

    gone = hub.changes(("course",), 0, 100).rows

    assert len(gone) <= 4
    assert [changed.key[1] for changed in gone] == [f"c{n}" for n in range(10 - len(gone), 10)]
    views = [VIEWS["course"]]
    assert hub.resume(views, hub.token(views, 0)) is None
    assert hub.resume(views, hub.token(views, hub.version - 1)) == hub.version - 1
    store.close()


def _installed(*updates: Update) -> Refresh:
    return Refresh(list(updates), 0, START_MS)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("click", "describe", "withdraw")), st.integers(0, 2)),
        st.tuples(st.just("start"), st.integers(0, 1)),
        st.tuples(st.just("end"), st.integers(0, 1)),
        st.tuples(st.just("later"), st.integers(1, 100_000)),
        st.tuples(st.just("wait"), st.sampled_from((10, 700, 2_100, 30_000, 95_000))),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@example(steps=[("start", 0), ("wait", 10), ("start", 0), *[("wait", 30_000)] * 3])
@given(steps=STEPS)
def test_rows_kept_by_looking_are_those_of_a_catalogue_read_anew(
    steps: list[tuple[str, int]],
) -> None:
    with TemporaryDirectory() as directory, closing(EmbeddedStore(Path(directory))) as store:
        world = World(store, Path(directory) / "log")
        for number, (kind, what) in enumerate(steps):
            name, now_ms = f"e{number}", world.clock_ms
            match kind:
                case "click":
                    world.log(interaction(name, "click", now_ms, "ann", f"course:c{what}"))
                case "describe":
                    world.log(upsert_event(name, now_ms, f"course:c{what}", title=name))
                case "later":
                    world.log(upsert_event(name, now_ms + what, "course:c0", title=name))
                case "withdraw":
                    world.log(withdrawal_event(name, now_ms, f"course:c{what}"))
                case "start" | "end":
                    event = f"room_{kind}ed"
                    course = "c" if kind == "start" else ""
                    world.log(room_event(name, event, now_ms, f"r{what}", course=course))
                case _:
                    world.clock_ms += what
            world.refresh()
        world.clock_ms += int(MOVING_INTERVAL_S * 1_000)
        world.refresh()
        kept = world.hub
        world.hub = world.new_hub()
        for entity in ("course", "room"):
            assert sorted(kept.snapshot((entity,))) == sorted(world.hub.snapshot((entity,)))


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
