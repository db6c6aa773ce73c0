"""One key that everybody hits, and keys without number: what is kept stays small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.domain import Domain
from services.feature.applying.apply import Applier
from services.feature.rows.rows import decoded, row_readers
from services.feature.states.key_state import KeyState
from services.feature.store.embedded import EmbeddedStore
from tests.support.alias_streams import pairs_domain
from tests.support.feature_streams import (
    START_MS,
    domain_with,
    interaction,
    purchase_event,
    refund_event,
)

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
COURSES = {"entities": ["course"], "events": ["click"]}
CROWDED = domain_with(
    {
        **{
            f"clicks_{window}": {"kind": "count", **COURSES, "window": window}
            for window in ("1m", "5m", "1h", "1d", "7d", "30d")
        },
        "visitors": {"kind": "distinct", **COURSES, "of": "user", "window": "1d", "cap": 1_000},
        "since": {"kind": "recency", **COURSES},
    }
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path / "store")
    yield store
    store.close()


class Applying:
    """An applier and the position it has come to."""

    def __init__(self, domain: Domain, store: EmbeddedStore, log_dir: Path) -> None:
        self._applier = Applier(domain, store, lambda: START_MS + DAY_MS)
        self._applier.prepare(log_dir)
        self._readers = row_readers(domain)
        self._store = store
        self._position = 0

    def apply(self, events: list[Event]) -> None:
        """Applies events that arrived together."""
        records = []
        for arrival, event in enumerate(events, self._position):
            logged = LoggedEvent(event=event, arrival=arrival)
            logged.arrival_time.FromMilliseconds(START_MS + DAY_MS)
            records.append((arrival, logged.SerializeToString()))
        self._applier.apply(records)
        self._position += len(records)

    def state_bytes(self, entity: str, identity: str) -> int:
        """Size of a state as it is stored."""
        with self._store.read() as view:
            return len(view.state(entity, identity) or b"")

    def row(self, entity: str, identity: str) -> dict[str, object]:
        """Values by feature a day after the start."""
        reader = self._readers[entity]
        with self._store.read() as view:

            def read(entity: str, identity: str) -> KeyState | None:
                return decoded(view.state(entity, identity))

            state = read(entity, identity)
            found = reader.row(state, START_MS + DAY_MS, identity=identity, read=read)
        return {c.name: v for c, v in zip(reader.columns, found.values, strict=True)}


def test_a_hot_key_grows_with_time_not_with_events(store: EmbeddedStore, tmp_path: Path) -> None:
    applying = Applying(CROWDED, store, tmp_path)
    sizes = []
    for turn in range(2):
        applying.apply(
            [
                interaction(
                    f"{turn}-{n}", "click", START_MS + n * DAY_MS // 10_000, "ann", "course:hot"
                )
                for n in range(10_000)
            ]
        )
        sizes.append(applying.state_bytes("course", "hot"))
    row = applying.row("course", "hot")
    assert row["clicks_7d"] == 20_000
    assert row["visitors"] == 1
    assert sizes[1] <= 1.1 * sizes[0] <= 20_000


@pytest.mark.slow
def test_a_hundred_thousand_visitors_are_counted_up_to_the_cap(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    applying = Applying(CROWDED, store, tmp_path)
    step, sizes = 25_000, []
    for start in range(0, 100_000, step):
        applying.apply(
            [
                interaction(
                    f"e{n}", "click", START_MS + HOUR_MS + n // 100, f"user{n}", "course:hot"
                )
                for n in range(start, start + step)
            ]
        )
        sizes.append(applying.state_bytes("course", "hot"))
    row = applying.row("course", "hot")
    assert row["visitors"] == 1_000
    assert row["clicks_1d"] == 100_000
    # At most twice the cap is kept, in a list of ids and times.
    assert max(sizes) < 2 * 1_000 * 40


def test_a_user_with_pairs_without_number_shows_the_latest(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    applying = Applying(pairs_domain(), store, tmp_path)
    count = 8_000
    applying.apply(
        [
            interaction(f"e{n}", "click", START_MS + DAY_MS - count + n, "ann", f"course:c{n}")
            for n in range(count)
        ]
    )
    row = applying.row("user", "ann")
    assert row["liked"] == (f"c{count - 1}", f"c{count - 2}")
    assert row["courses"] == 2
    assert row["count"] == count
    assert applying.state_bytes("user", "ann") < 10_000


def test_refunds_that_all_name_one_purchase_are_entered_one_by_one(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    """As from a producer that does not know the purchase: each must not look at all before it."""
    domain = domain_with(
        {"bought": {"kind": "count", "entities": ["user"], "events": ["purchase"], "window": "7d"}}
    )
    applying, count = Applying(domain, store, tmp_path), 10_000
    bought = purchase_event("bought", START_MS + HOUR_MS, count, "ann")
    events = [refund_event(f"r{n}", START_MS + 2 * HOUR_MS + n, 1, bought) for n in range(count)]
    applying.apply([bought, *events[:-1]])
    assert applying.row("user", "ann")["bought"] == 1
    applying.apply(events[-1:])
    assert applying.row("user", "ann")["bought"] == 0


def test_durations_below_zero_and_times_ahead_in_a_bulk_log_stay_what_they_are(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    """Ingest refuses both; a log that was written in bulk may hold them."""
    watched = {"entities": ["course"], "events": ["watch"], "value": "duration_ms", "window": "7d"}
    domain = domain_with(
        {"watched": {"kind": "sum", **watched}, "least": {"kind": "min", **watched}}
    )
    events = [
        interaction(f"w{n}", "watch", START_MS + HOUR_MS, "ann", "course:c") for n in range(3)
    ]
    for event, duration_ms in zip(events, (-5_000, 2_000, 7_000), strict=True):
        event.attributes["duration_ms"].int_value = duration_ms
    ahead = interaction("ahead", "watch", START_MS + 900 * DAY_MS, "ann", "course:c")
    ahead.attributes["duration_ms"].int_value = 1_000_000
    applying = Applying(domain, store, tmp_path)
    applying.apply([*events, ahead])
    row = applying.row("course", "c")
    assert (row["watched"], row["least"]) == (4_000, -5_000)
