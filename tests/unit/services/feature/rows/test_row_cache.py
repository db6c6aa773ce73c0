"""A kept row is the row that would be computed."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.feature.applying.apply import Applier
from services.feature.definitions import compile_views
from services.feature.rows.lookup import FeatureLookup
from services.feature.rows.row_cache import RowCache
from services.feature.rows.rows import Row, row_readers
from services.feature.states.codec import decode_state
from services.feature.store.embedded import EmbeddedStore
from tests.support.feature_streams import (
    START_MS,
    domain_with,
    domains,
    interaction,
    logged,
    purchase_event,
    streams,
    upsert_event,
)
from tests.support.served_rows import as_served, served_rows

KEYS = [("user", "ann"), ("user", "bob"), ("course", "c1"), ("course", "c2"), ("room", "r1")]
STEPS_MS = (0, 1, 999, 4_000, 5_000, 60_000, 299_999, 3_600_000, 86_400_000, -1, -70_000)
EXTRA = {
    "fresh_title": {
        "kind": "attribute",
        "entities": ["course"],
        "attribute": "title",
        "ttl": "5m",
    },
    "fresh_clicks": {
        "kind": "last_n",
        "entities": ["user"],
        "events": ["click"],
        "of": "course",
        "limit": 3,
        "ttl": "1m",
    },
    "clicked": {"kind": "recency", "entities": ["user", "course"], "events": ["click"]},
    "clicks": {"kind": "count", "entities": ["course"], "events": ["click"], "window": "1m"},
    "cooling": {
        "kind": "expression",
        "entities": ["course"],
        "formula": "clicks / (1 + clicked)",
    },
}


def fresh(domain: Domain, store: EmbeddedStore, entity: str, key: str, t_ms: int) -> Row:
    with store.read() as view:
        data = view.state(entity, key)
    state = decode_state(data) if data is not None else None
    return row_readers(domain)[entity].row(state, t_ms, identity=key, times=True)


def check(domain: Domain, store: EmbeddedStore, lookup: FeatureLookup, t_ms: int) -> None:
    for entity, key in KEYS:
        view = compile_views(domain)[entity]
        served = lookup.view(entity, view.name, view.hash)
        (found,) = served_rows(view, lookup.read(served, [key]))
        expected = as_served(view, fresh(domain, store, entity, key, t_ms))
        assert found == expected, (entity, key, t_ms)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(domain=domains(), log=streams(), data=st.data())
def test_a_kept_row_is_what_a_fresh_read_gives(
    domain: Domain, log: list[LoggedEvent], data: st.DataObject
) -> None:
    now_ms = START_MS
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore(Path(directory))
        try:
            lookup = FeatureLookup(store, lambda: now_ms)
            lookup.serve(list(row_readers(domain).values()))
            applier = Applier(domain, store, lambda: START_MS)
            applier.prepare(Path(directory))
            half = len(log) // 2
            for batch in (log[:half], log[half:]):
                applier.apply([(r.arrival, r.SerializeToString()) for r in batch])
                now_ms = max(r.arrival_time.ToMilliseconds() for r in batch)
                for step_ms in data.draw(st.lists(st.sampled_from(STEPS_MS), max_size=6)):
                    now_ms += step_ms
                    check(domain, store, lookup, now_ms)
        finally:
            store.close()


# One at a time: what is never still keeps a whole row from being kept.
@pytest.mark.parametrize(
    "names",
    [["fresh_title"], ["fresh_clicks"], ["clicked"], ["clicks"], ["clicked", "clicks", "cooling"]],
    ids=" ".join,
)
def test_what_moves_by_itself_is_not_kept_too_long(tmp_path: Path, names: list[str]) -> None:
    domain = domain_with({name: EXTRA[name] for name in names})
    events = [
        upsert_event("u", START_MS, "course:c1", title="One"),
        interaction("e1", "click", START_MS + 1_000, "ann", "course:c1"),
        interaction("e2", "click", START_MS + 30_000, "ann", "course:c1"),
    ]
    log = [logged(n, event, START_MS + 30_000) for n, event in enumerate(events)]
    now_ms = START_MS
    store = EmbeddedStore(tmp_path)
    applier = Applier(domain, store, lambda: START_MS)
    applier.prepare(tmp_path)
    applier.apply([(r.arrival, r.SerializeToString()) for r in log])
    lookup = FeatureLookup(store, lambda: now_ms)
    lookup.serve(list(row_readers(domain).values()))
    for now_ms in range(START_MS + 30_000, START_MS + 400_000, 1_000):
        check(domain, store, lookup, now_ms)
    store.close()


@pytest.mark.parametrize(
    ("feature", "inside", "outside"),
    [
        ({"kind": "count", "events": ["purchase"]}, 1, 0),
        ({"kind": "sum", "events": ["purchase"], "value": "amount_minor"}, 500, 0),
        ({"kind": "max", "events": ["purchase"], "value": "amount_minor", "default": 7}, 500, 7),
        ({"kind": "last", "events": ["purchase"], "value": "amount_minor"}, 500, 0),
        ({"kind": "distinct", "events": ["purchase"], "of": "user", "cap": 5}, 1, 0),
    ],
)
def test_a_kept_row_ends_with_its_window_whatever_the_kind(
    tmp_path: Path, feature: dict[str, object], inside: int, outside: int
) -> None:
    domain = domain_with({"found": {**feature, "entities": ["course"], "window": "1h"}})
    store = EmbeddedStore(tmp_path)
    applier = Applier(domain, store, lambda: START_MS)
    applier.prepare(tmp_path)
    event = purchase_event("e", START_MS, 500, "ann", "course:c1")
    applier.apply([(0, logged(0, event, START_MS).SerializeToString())])
    now_ms = START_MS
    lookup = FeatureLookup(store, lambda: now_ms)
    lookup.serve([row_readers(domain)["course"]])
    view = compile_views(domain)["course"]
    served = lookup.view("course", view.name, view.hash)
    for at_ms, expected in (
        (START_MS, inside),
        (START_MS + 3_600_000, inside),
        (START_MS + 3_900_000, outside),
    ):
        now_ms = at_ms
        assert served_rows(view, lookup.read(served, ["c1"]))[0]["found"].value == expected
    store.close()


def test_a_lookup_gives_up_when_more_rows_must_be_computed_than_it_may(tmp_path: Path) -> None:
    domain = domain_with({})
    store = EmbeddedStore(tmp_path)
    applier = Applier(domain, store, lambda: START_MS)
    applier.prepare(tmp_path)
    events = [upsert_event(f"u{n}", START_MS, f"course:c{n}", title="One") for n in range(4)]
    log = [logged(n, event, START_MS) for n, event in enumerate(events)]
    applier.apply([(r.arrival, r.SerializeToString()) for r in log])
    lookup = FeatureLookup(store, lambda: START_MS)
    lookup.serve([row_readers(domain)["course"]])
    view = compile_views(domain)["course"]
    served = lookup.view("course", view.name, view.hash)
    keys = ["c0", "c1", "c2", "unknown"]
    assert asyncio.run(lookup.read_soon(served, keys, compute_at_most=2)) is None
    # What it did compute is kept.
    found = asyncio.run(lookup.read_soon(served, keys, compute_at_most=1))
    assert found == lookup.read(served, keys)
    store.close()


def test_a_row_is_computed_anew_when_something_leaves_a_window(tmp_path: Path) -> None:
    clicks = {"kind": "count", "entities": ["course"], "events": ["click"], "window": "1h"}
    domain = domain_with({"clicks": clicks})
    reader = row_readers(domain)["course"]
    store = EmbeddedStore(tmp_path)
    applier = Applier(domain, store, lambda: START_MS)
    applier.prepare(tmp_path)
    hop_ms = 300_000
    start_ms = START_MS // hop_ms * hop_ms
    event = interaction("e", "click", start_ms, "ann", "course:c1")
    applier.apply([(0, logged(0, event, start_ms).SerializeToString())])
    with store.read() as view:
        data = view.state("course", "c1")
    store.close()
    assert data is not None
    state, computed = decode_state(data), 0
    cache: RowCache[Row] = RowCache(reader, kept_rows=2)
    column = [found.name for found in reader.columns].index("clicks")

    def read(key: str, t_ms: int) -> object:
        nonlocal computed
        row = cache.kept(key, data, t_ms)
        if row is None:
            row = reader.row(state, t_ms, times=True)
            computed += 1
            cache.keep(key, data, t_ms, state, row)
        return row.values[column]

    # The window starts elsewhere each hop; the event leaves it with the first after an hour.
    leaves_ms = start_ms + hop_ms + 3_600_000
    for t_ms in (start_ms, start_ms + 1, start_ms + hop_ms, leaves_ms - 1):
        assert read("c1", t_ms) == 1
    assert computed == 1
    for t_ms in (leaves_ms, leaves_ms + hop_ms):
        assert read("c1", t_ms) == 0
    assert computed == 2
    # Beyond what is kept, the oldest are forgotten.
    for key in ("c2", "c3", "c4", "c5", "c1"):
        read(key, leaves_ms)
    assert computed == 7
