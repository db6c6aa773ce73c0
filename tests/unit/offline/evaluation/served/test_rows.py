"""The rows that offline ranking is given, against those that the feature service answers."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.closed_loop_world import OnlineFeatures
from offline.dataset.columns import compact
from offline.dataset.log_tables import open_tables
from offline.dataset.schema import ColumnSchema
from offline.evaluation.served.rows import KnownRows, part
from services.feature.definitions import compile_views
from services.ranker.feature_rows import View, ViewColumn
from services.ranker.in_process import feature_rows
from tests.support.dataset_checks import few_features_and_events
from tests.support.event_streams import SPAN_MS, START_MS, write_log

PEOPLE = ["ann", "bob", "nobody"]


def test_the_ranker_is_given_what_the_feature_service_answers(tmp_path: Path) -> None:
    domain, log = few_features_and_events()
    write_log(tmp_path / "log", log)
    columns = compact(tmp_path / "log", tmp_path / "columns", ColumnSchema.of(domain))
    now_ms, arrival = START_MS + SPAN_MS + 5_000, columns.state.next_arrival
    entities = ["course", "room"]
    with (
        OnlineFeatures(domain, tmp_path / "log", tmp_path / "store", now_ms) as features,
        open_tables(columns) as tables,
    ):
        known = KnownRows(domain, columns, tables)
        early, late = known.catalogues(entities, [(START_MS - 10_000, 0), (now_ms, arrival)])
        assert not any(len(rows.ids) for rows in early.values())
        points = np.full(len(PEOPLE), now_ms), np.full(len(PEOPLE), arrival)
        found = {**late, "user": known.users(PEOPLE, *points)}
        for entity, compiled in compile_views(domain).items():
            view = View(
                compiled.name,
                compiled.hash,
                tuple(ViewColumn(f.name, f.dtype, f.default) for f in compiled.features),
            )
            if entity == "user":
                served = features.start(view, PEOPLE, 1.0).result()
            else:
                served = features.catalogue(entity)
            rows = feature_rows(found[entity], view)
            place = {id_: row for row, id_ in enumerate(rows.ids)}
            assert sorted(place) == sorted(served.ids)
            order = [place[id_] for id_ in served.ids]
            assert rows.floats[order] == pytest.approx(served.floats, rel=1e-6, abs=1e-6)
            assert np.array_equal(rows.ints[order], served.ints)
            for at, row in enumerate(order):
                # Of whom nothing is known the service says so for every value.
                if served.ids[at] != "nobody":
                    there = rows.statuses[row] == 1
                    assert np.array_equal(there, served.statuses[at] == 1), served.ids[at]
                for name in view.of("list"):
                    assert [*rows.strings_of(row, name)] == [*served.strings_of(at, name)]
                for name in view.of("string"):
                    assert rows.text_of(row, name) == served.text_of(at, name)
        some = part(found["user"], 1, 3)
        assert list(some.ids) == PEOPLE[1:]
