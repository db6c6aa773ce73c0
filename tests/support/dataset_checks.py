"""What the tables of a dataset must say, on whichever engine."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest

from offline.dataset.build import build_dataset
from offline.dataset.columns import compact
from offline.dataset.log_tables import OpenTables, open_tables
from offline.dataset.point_in_time import point_in_time
from offline.dataset.schema import ColumnSchema
from offline.dataset.tables import (
    Dataset,
    cross_items,
    cross_lists,
    cross_values,
    load_dataset,
    numeric_names,
    vocabulary_names,
)
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.feature.applying.apply import Applier
from services.feature.definitions import MAX_TOTAL
from services.feature.rows.rows import decoded, row_readers
from services.feature.store.embedded import EmbeddedStore
from tests.support.dataset_oracle import MAX_ARRIVAL, ExampleOracle
from tests.support.event_streams import (
    SPAN_MS,
    START_MS,
    random_log,
    small_domain,
    write_log,
)
from tests.support.feature_oracle import Oracle
from tests.support.feature_streams import domain_with, logged, purchase_event, refund_event


def few_features_and_events() -> tuple[Domain, list[LoggedEvent]]:
    """A small world, for what does not hang on the number of features."""
    random = Random(11)
    domain = small_domain(random)
    features = {n: f for n, f in domain.features.items() if not n.endswith(("_1", "_2"))}
    inputs = {
        field: [name for name in getattr(domain.model, field) if name in features]
        for field in ("user_features", "item_features")
    }
    model = domain.model.model_copy(update=inputs)
    domain = domain.model_copy(update={"features": features, "model": model})
    return domain, random_log(random, 80)


def assert_dataset_equals_the_oracle(
    domain: Domain, log: list[LoggedEvent], directory: Path, open_log: OpenTables = open_tables
) -> Dataset:
    """A dataset of ``log``, every row of which is what the oracle says."""
    out = directory / "out"
    log_dir = write_log(directory / "log", log)
    build_dataset(domain, log_dir, out, open_log=open_log, leak_sample=5)
    dataset = load_dataset(out)
    oracle = ExampleOracle(domain, log)
    expected = oracle.examples()
    found = dataset.examples.to_pylist()
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row == wanted
    assert dataset.examples.column_names == documented_columns(domain)
    assert dataset.meta.rows["examples"] == len(expected)
    assert dataset.meta.leak_check.differing_values == 0
    end = Oracle(domain, log, 2**60, MAX_ARRIVAL)
    for entity, table in dataset.catalogue.items():
        for row in table.to_pylist():
            attributes = end.attributes(entity, row["id"])
            assert row["withdrawn"] == end.is_withdrawn(entity, row["id"])
            for name in domain.entities[entity].attributes:
                assert row[name] == pytest.approx(attributes.get(name))
    return dataset


def documented_columns(domain: Domain) -> list[str]:
    return [
        *("example_id", "rank_id", "user", "time_ms", "arrival", "surface"),
        *("entity_type", "entity_id", "position", "recent_items", "recent_actions"),
        *(f"u.{name}" for name in domain.model.user_features),
        *(f"l.{name}" for name in cross_lists(domain)),
        *(f"v.{name}" for name in cross_values(domain)),
        *(f"i.{name}" for name in domain.model.item_features),
        *(f"f.{name}" for name in vocabulary_names(domain)),
        *(f"n.{name}" for name in numeric_names(domain)),
        *(f"k.{name}" for name in cross_items(domain)),
        *(f"y.{name}" for name in domain.objectives),
        *(f"m.{name}" for name in domain.objectives),
        "split",
    ]


PROBES = {
    "user": ["ann", "bob", "device:phone", "nobody"],
    "course": ["c0", "c1", "c2", "c9"],
    "room": ["r0", "r1"],
}


def assert_probes_equal_the_oracle(
    random: Random, domain: Domain, log: list[LoggedEvent], open_log: OpenTables = open_tables
) -> None:
    """Features of random probes are what the oracle says."""
    with TemporaryDirectory() as directory:
        log_dir = write_log(Path(directory) / "log", log)
        columns = compact(log_dir, Path(directory) / "columns", ColumnSchema.of(domain))
        with open_log(columns) as tables:
            for entity, identities in PROBES.items():
                rows = [_probe(random, identities, len(log)) for _ in range(25)]
                rows.append(rows[0])
                probes = pa.Table.from_pylist(rows)
                found = point_in_time(domain, tables, entity, probes).to_pylist()
                assert len(found) == len(rows)
                for probe, row in zip(rows, found, strict=True):
                    expected = Oracle(domain, log, probe["time_ms"], probe["arrival"]).features(
                        entity, probe["id"]
                    )
                    assert list(row) == ["id", "time_ms", "arrival", *expected]
                    for name, value in expected.items():
                        wanted = value.value
                        if isinstance(wanted, float):
                            wanted = float(np.float32(wanted))
                        assert row[name] == wanted, (entity, name, probe)


def _probe(random: Random, identities: list[str], arrivals: int) -> dict[str, str | int]:
    return {
        "id": random.choice(identities),
        "time_ms": START_MS + random.randrange(-1_000, SPAN_MS + 5_000, 500),
        "arrival": random.randrange(arrivals + 2),
    }


PURCHASES = {"entities": ["user"], "events": ["purchase"]}
SPEND = domain_with(
    {
        "bought": {"kind": "count", "window": "1d", **PURCHASES},
        "spent": {"kind": "sum", "value": "amount_minor", "window": "1d", **PURCHASES},
        "spent_lately": {"kind": "sum", "value": "amount_minor", "window": "1m", **PURCHASES},
    }
)


def assert_totals_beyond_64_bits_are_those_served(
    directory: Path, open_log: OpenTables = open_tables
) -> None:
    """Totals of amounts that 64 bits do not hold are what the feature service says."""
    log = largest_purchases_and_their_refunds()
    probe_ms = START_MS + 150_000
    online = [served_after(directory / f"{n}", log[:n], probe_ms) for n in range(1, len(log) + 1)]
    columns = compact(
        write_log(directory / "log", log), directory / "columns", ColumnSchema.of(SPEND)
    )
    probes = pa.Table.from_pylist(
        [{"id": "ann", "time_ms": probe_ms, "arrival": n} for n in range(1, len(log) + 1)]
    )
    with open_log(columns) as tables:
        offline = point_in_time(SPEND, tables, "user", probes, features=list(online[0]))
    assert offline.select(list(online[0])).to_pylist() == online
    assert [row["spent"] for row in online] == [MAX_TOTAL] * 7 + [20]
    assert [row["spent_lately"] for row in online] == [0, *[MAX_TOTAL] * 5, 10, 10]


def largest_purchases_and_their_refunds() -> list[LoggedEvent]:
    """Purchases of the largest amount, the last of them late, then refunds of all but 5 each."""
    seconds = (25, 125, 145, 75)
    bought = [
        purchase_event(f"p{s}", START_MS + s * 1_000, MAX_TOTAL, "ann", "course:c1")
        for s in seconds
    ]
    refunds = [
        refund_event(f"r{n}", START_MS + 147_000, MAX_TOTAL - 5, purchase)
        for n, purchase in enumerate(bought)
    ]
    return [logged(n, event, START_MS + 147_000) for n, event in enumerate([*bought, *refunds])]


def served_after(
    directory: Path, log: list[LoggedEvent], t_ms: int
) -> dict[str, int | float | str | tuple[str, ...]]:
    """Ann's totals as the feature service serves them at ``t_ms``, once it has applied ``log``."""
    store = EmbeddedStore(directory)
    applier = Applier(SPEND, store, lambda: START_MS)
    applier.prepare(directory)
    applier.apply([(r.arrival, r.SerializeToString()) for r in log])
    reader = row_readers(SPEND)["user"]
    with store.read() as view:
        row = reader.row(decoded(view.state("user", "ann")), t_ms)
    store.close()
    named = {c.name: value for c, value in zip(reader.columns, row.values, strict=True)}
    return {name: named[name] for name in ("bought", "spent", "spent_lately")}
