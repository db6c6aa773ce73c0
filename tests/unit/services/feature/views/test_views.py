"""Views as documents: what is registered, what a store must hold, and that values stay the same."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from offline.dataset.columns import ColumnSchema, compact
from offline.dataset.log_tables import open_tables
from offline.dataset.point_in_time import point_in_time
from services.common.domain import Domain, load_domain
from services.common.errors import FailedPrecondition, NotFound
from services.common.event_log import read_log
from services.feature.applying.apply import Applier
from services.feature.definitions import compile_views
from services.feature.rows.rows import Row, RowReader, decoded, row_readers
from services.feature.states.entity_plan import compile_plans
from services.feature.store.embedded import EmbeddedStore
from services.feature.views.documents import ViewDocument, covers, documents_of, merged, view_reader
from services.feature.views.registry import (
    ViewRegistry,
    current_store,
    read_definitions,
    write_definitions,
)
from tests.support.event_streams import START_MS, random_log, small_domain, write_log
from tests.support.feature_streams import domain_with
from tests.support.more_features import LIVE_COURSES

KEYS = {
    "user": [f"u{n}" for n in range(4)],
    "course": [f"c{n}" for n in range(4)],
    "room": [f"r{n}" for n in range(4)],
}
CLICKS = {"kind": "count", "entities": ["course"], "events": ["click"], "window": "1h"}


def halves(random: Random) -> tuple[Domain, Domain]:
    """Two definitions of one domain, each with some of its features."""
    domain = small_domain(random)
    names = list(domain.features)
    parts = []
    for _ in range(2):
        chosen = {n: domain.features[n] for n in names if random.random() < 0.7}
        parts.append(domain.model_copy(update={"features": chosen or domain.features}))
    return parts[0], parts[1]


def applied(
    directory: Path, domain: Domain, log_dir: Path, random: Random, *, stops: bool
) -> EmbeddedStore:
    """A store that holds the log; with ``stops`` it was filled by one applier after the other."""
    log = list(read_log(log_dir))
    store = EmbeddedStore(directory)
    applier = Applier(domain, store, lambda: START_MS)
    at = applier.prepare(log_dir)
    while at < len(log):
        size = random.randint(1, 40) if stops else len(log)
        part = log[at : at + size]
        applier.apply(part)
        at += len(part)
        if stops and random.random() < 0.3:
            applier = Applier(domain, store, lambda: START_MS)
            assert applier.prepare(log_dir) == at
            with store.read() as view:
                at = view.position()
    return store


def rows(store: EmbeddedStore, reader: RowReader, t_ms: int) -> list[Row]:
    entity = reader.view.entity
    with store.read() as view:
        return [
            reader.row(decoded(view.state(entity, key)), t_ms, identity=key, times=True)
            for key in KEYS[entity]
        ]


def _agree(offline: object, served: object) -> bool:
    """Equal; floats to 1e-6."""
    if isinstance(served, float):
        return bool(offline == pytest.approx(served, rel=1e-6))
    return offline == (list(served) if isinstance(served, tuple) else served)


@pytest.mark.parametrize("seed", range(4))
def test_backfilled_values_are_those_of_a_fresh_store_and_of_the_offline_tables(
    seed: int, tmp_path: Path
) -> None:
    random = Random(seed)
    old, new = halves(random)
    log = random_log(random, 150)
    state = merged(old.name, [new, *documents_of(old), *documents_of(new)])
    log_dir = write_log(tmp_path / "log", log)
    together = applied(tmp_path / "both", state.as_domain(), log_dir, random, stops=True)
    plans = compile_plans(state.as_domain())
    t_ms = max(r.event.event_time.ToMilliseconds() for r in log) + random.randrange(60_000)
    for number, domain in enumerate((old, new)):
        alone = applied(tmp_path / f"alone-{number}", domain, log_dir, random, stops=False)
        columns = compact(log_dir, tmp_path / f"columns-{number}", ColumnSchema.of(domain))
        with open_tables(columns) as tables:
            for document in documents_of(domain):
                reader = view_reader(document, plans)
                found = rows(together, reader, t_ms)
                assert found == rows(alone, row_readers(domain)[document.entity], t_ms)
                probes = [
                    {"id": k, "time_ms": t_ms, "arrival": len(log)} for k in KEYS[document.entity]
                ]
                table = point_in_time(domain, tables, document.entity, pa.Table.from_pylist(probes))
                names = [column.name for column in reader.columns]
                for row, offline in zip(found, table.to_pylist(), strict=True):
                    for name, value in zip(names, row.values, strict=True):
                        assert _agree(offline[name], value), name
        alone.close()
    together.close()


def test_a_document_says_all_that_its_view_needs() -> None:
    domain = load_domain(LIVE_COURSES)
    state = merged(domain.name, [domain])
    plans = compile_plans(state.as_domain())
    views = compile_views(domain)
    for document in documents_of(domain):
        again = ViewDocument.model_validate_json(document.model_dump_json())
        assert again == document
        assert view_reader(again, plans).view == views[document.entity].__class__(
            document.entity,
            document.name,
            document.hash,
            view_reader(again, plans).view.features,
        )
        assert document.feature_names() == [f.name for f in views[document.entity].features]


def test_what_a_store_covers() -> None:
    one = domain_with({"clicks": CLICKS})
    state = merged(one.name, [one])
    shown = domain_with(
        {
            "clicks": CLICKS,
            "title": {"kind": "attribute", "entities": ["course"]},
            "rate": {**CLICKS, "kind": "rate", "per": "1m"},
            "double": {"kind": "expression", "entities": ["course"], "formula": "clicks * 2"},
        }
    )
    longer = domain_with({"clicks": {**CLICKS, "window": "1d"}})
    assert covers(state, [shown, *documents_of(shown)])
    assert not covers(state, documents_of(longer))
    both = merged(one.name, [one, longer, *documents_of(shown)])
    assert covers(both, [one, longer, shown])
    assert merged(one.name, [longer, *documents_of(shown), one]) == both


def test_what_cannot_be_side_by_side_is_refused() -> None:
    old = domain_with(
        {"title": {"kind": "attribute", "entities": ["course"], "attribute": "price_minor"}}
    )
    attributes = {**old.entities["course"].attributes, "price_minor": "float"}
    course = old.entities["course"].model_copy(update={"attributes": attributes})
    new = old.model_copy(update={"entities": {**old.entities, "course": course}})
    with pytest.raises(FailedPrecondition, match=r"entities.course.attributes.price_minor"):
        merged(old.name, [new, *documents_of(old)])
    paired = old.entities["room"].model_copy(update={"derived_from": {"course": "title"}})
    other = old.model_copy(update={"entities": {**old.entities, "room": paired}})
    with pytest.raises(FailedPrecondition, match=r"entities.room.derived_from"):
        merged(old.name, [old, other])


def test_the_registry_keeps_views(tmp_path: Path) -> None:
    registry = ViewRegistry(tmp_path / "views")
    assert registry.documents() == []
    before = registry.fingerprint()
    documents = documents_of(load_domain(LIVE_COURSES))
    assert registry.register(documents) == documents
    assert registry.register(documents) == []
    assert registry.fingerprint() != before
    assert {d.hash for d in registry.documents()} == {d.hash for d in documents}
    chosen = documents[0]
    assert registry.find(chosen.hash[:12]) == chosen
    with pytest.raises(NotFound):
        registry.find("")
    registry.retire(chosen)
    with pytest.raises(NotFound):
        registry.find(chosen.hash)
    assert (registry.build(), registry.ask_for_new_store(), registry.build()) == (0, 1, 1)
    (registry.directory / "bad.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match=r"bad.json"):
        registry.documents()


def test_a_store_says_what_it_is_filled_for(tmp_path: Path) -> None:
    domain = load_domain(LIVE_COURSES)
    state = merged(domain.name, [domain])
    write_definitions(tmp_path / "store", state)
    assert read_definitions(tmp_path / "store") == state


def test_a_name_of_a_store_that_is_no_text_names_none(tmp_path: Path) -> None:
    (tmp_path / "current").write_bytes(b"\xff\xfe\0")
    assert current_store(tmp_path) is None
