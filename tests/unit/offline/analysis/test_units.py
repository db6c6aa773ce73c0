"""Units and their outcomes from the log, against a brute-force count."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from offline.analysis.plan import AnalysisPlan, plan_of
from offline.analysis.units import exposed
from offline.analysis.units.build import unit_table
from offline.analysis.units.table import PARTS_OF_WINDOW, UnitTable
from offline.dataset.columns import compact
from offline.dataset.schema import ColumnSchema
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.assign.definitions import load_experiments
from services.common.domain import Domain, load_domain
from services.common.errors import FailedPrecondition
from tests.support.analysed_log import EXPERIMENTS, write_sold_log
from tests.support.analysis_oracle import (
    Happened,
    Row,
    counted,
    credits_of,
    day_start_ms,
    happened,
    position_at,
    rows_of,
    share_of_slice,
    value_of,
)
from tests.support.analysis_streams import (
    SPAN_MS,
    START_MS,
    analysed_domain,
    experiment,
    random_log,
)
from tests.support.event_streams import write_log

ROOT = Path(__file__).parents[4]
DESIGNS = ("user", "host", "within_hosts", "slice", "within_slices", "two_sided", "interleaved")
BURNT = ("burnt_slice", "burnt_within_slices")


@pytest.fixture(scope="module")
def domain() -> Domain:
    return analysed_domain()


def _table(
    tmp_path: Path,
    log: list[LoggedEvent],
    plan: AnalysisPlan,
    domain: Domain,
    as_of_ms: int | None = None,
) -> UnitTable:
    columns = compact(write_log(tmp_path / "log", log), tmp_path / "out", ColumnSchema.of(domain))
    return unit_table(columns, plan, as_of_ms=as_of_ms)


@pytest.mark.parametrize(
    ("design", "seed"), [("user", 2), *((design, 1) for design in (*DESIGNS, *BURNT))]
)
def test_all_numbers_are_those_of_a_count_by_hand(
    tmp_path: Path, domain: Domain, design: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed == 2:
        monkeypatch.setattr(exposed, "EXPOSURES_AT_ONCE", 4)
    random = Random(f"{design} {seed}")
    log = random_log(random, design)
    plan = plan_of(experiment(design), "e", domain)
    as_of_ms = START_MS + random.choice((SPAN_MS, SPAN_MS * 2 // 3))
    table = _table(tmp_path, log, plan, domain, as_of_ms)

    position = position_at(log, as_of_ms)
    events = happened(log, position)
    rows, left_out, exposures = rows_of(events, plan)
    assert (table.position, table.as_of_ms) == (position, as_of_ms)
    assert table.exposures == len(exposures)
    assert table.excluded == left_out
    revisions = {h.event.exposure.assignment.revision for h in exposures}
    assert table.revisions == tuple(sorted(revisions))
    assert len(rows) > 2
    if plan.timed:
        assert {row.settled_ms > 0 for row in rows} == {True, False}
    assert table.exposed_ms.tolist() == [row.exposed_ms for row in rows]
    assert [table.variants[v] for v in table.variant] == [row.variant for row in rows]
    for metric in plan.metrics.values():
        _check_metric(table, events, plan, rows, metric.name)
    _check_slopes(table, events, plan, rows)
    _check_covariates(table, events, plan, rows)
    _check_segments(table, events, rows)
    _check_overlaps(table, events, rows)
    if plan.cluster is not None:
        groups = sorted({row.group or "" for row in rows})
        assert table.cluster is not None
        assert table.cluster.tolist() == [groups.index(row.group or "") for row in rows]
        people = sorted({_named(row) for row in rows})
        assert table.unit.tolist() == [people.index(_named(row)) for row in rows]
    assert [credit.variant for credit in table.credits] == list(plan.interleaved)
    for credit in table.credits:
        mine = [index for index, row in enumerate(rows) if row.variant == credit.variant]
        assert credit.unit.tolist() == mine
        for index, earned in zip(mine, credit.earned["revenue"], strict=True):
            expected = credits_of(events, plan, rows[index], plan.metrics["revenue"])
            if not table.metrics["revenue"].mature[index]:
                expected = {}
            assert earned.tolist() == [expected.get(team, 0.0) for team in credit.teams]
    if plan.other_unit:
        assert table.other_variant is not None
        assert [table.variants[v] for v in table.other_variant] == [row.other for row in rows]


def test_before_anybody_was_exposed_there_are_no_rows(tmp_path: Path, domain: Domain) -> None:
    log = [logged for logged in random_log(Random(1), "user") if logged.event.type != "exposure"]
    table = _table(tmp_path, log, plan_of(experiment("user"), "e", domain), domain)
    assert (table.rows, table.exposures, table.excluded, table.revisions) == (0, 0, {}, ())
    assert all(not daily.day_ms.size for daily in table.daily.values())
    assert table.as_of_ms == max(h.arrival_time.ToMilliseconds() for h in log if _counts(h))


def test_exposures_after_the_conclusion_are_none(tmp_path: Path) -> None:
    domain = load_domain(ROOT / "config" / "live_courses.yaml")
    (tmp_path / "e.yaml").write_text(EXPERIMENTS, encoding="utf-8")
    definitions = load_experiments(tmp_path / "e.yaml", domain)
    plan = plan_of(definitions, "prices", domain)
    log = write_sold_log(tmp_path / "log", users=60)
    columns = compact(log, tmp_path / "out", ColumnSchema.of(domain))
    exposed_ms = unit_table(columns, plan).exposed_ms
    concluded_ms = int(np.median(exposed_ms))
    concluded = plan_of(definitions, "prices", domain, concluded_ms=concluded_ms)
    before = exposed_ms[exposed_ms < concluded_ms]
    assert 0 < len(before) < 60
    assert unit_table(columns, concluded).exposed_ms.tolist() == before.tolist()


def test_a_log_without_events_is_told(tmp_path: Path, domain: Domain) -> None:
    with pytest.raises(FailedPrecondition, match="no event that counts") as caught:
        _table(tmp_path, [], plan_of(experiment("user"), "e", domain), domain)
    assert caught.value.reason == "EMPTY_LOG"


def _counts(logged: LoggedEvent) -> bool:
    event = logged.event
    ends = event.HasField("alias") or event.HasField("erasure")
    return not (logged.duplicate or logged.too_late or event.traffic_class or ends)


def _named(row: Row) -> str:
    person = row.person
    if person is None:
        return row.group or ""
    return f"{person[0]}\x1f{person[1]}" if person[1] else person[0]


def _check_metric(
    table: UnitTable, events: list[Happened], plan: AnalysisPlan, rows: list[Row], name: str
) -> None:
    metric, found = plan.metrics[name], table.metrics[name]
    daily, zone = table.daily[name], plan.report_time_zone
    expected: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    for index, row in enumerate(rows):
        ends_ms = row.exposed_ms + metric.maturity_ms
        assert found.mature[index] == (ends_ms <= table.as_of_ms)
        values = []
        for part in ("numerator", "denominator"):
            what = getattr(metric, part)
            if what is None and plan.timed:
                share = share_of_slice(plan, metric, row) if found.mature[index] else 0.0
                assert found.denominator is not None
                assert found.denominator[index] == pytest.approx(share)
                values.append(share)
                continue
            if what is None:
                assert found.denominator is None
                continue
            did = counted(events, plan, row, what, metric)
            value = value_of(metric, did, row.exposed_ms, part) if found.mature[index] else 0.0
            assert getattr(found, part)[index] == value, (name, part, row)
            values.append(value)
        if found.mature[index]:
            cell = (day_start_ms(ends_ms, zone), int(table.variant[index]))
            expected.setdefault(cell, []).append(tuple(values))
    assert found.immature == sum(not mature for mature in found.mature)
    for place, day in enumerate(daily.day_ms.tolist()):
        for arm in range(len(table.variants)):
            parts = [v for (at, a), vs in expected.items() if at <= day and a == arm for v in vs]
            assert daily.units[place, arm] == len(parts)
            if parts:
                summed = np.array(parts).sum(axis=0)
                np.testing.assert_allclose(daily.sums[place, arm], summed)
                np.testing.assert_allclose(
                    daily.products[place, arm], np.array(parts).T @ np.array(parts)
                )
    assert {day for day, _ in expected} <= set(daily.day_ms.tolist())


def _check_covariates(
    table: UnitTable, events: list[Happened], plan: AnalysisPlan, rows: list[Row]
) -> None:
    for covariate in plan.covariates:
        metric = covariate.metric
        for index, row in enumerate(rows):
            bounds = (row.first.ms - covariate.window_ms, row.first.ms)
            for part in ("numerator", "denominator"):
                what = getattr(metric, part)
                if what is None:
                    continue
                name = f"{covariate.name}.{part}" if metric.denominator else covariate.name
                did = counted(events, plan, row, what, metric, bounds)
                value = value_of(metric, did, row.first.ms - metric.window_ms, part)
                assert table.covariates[name][index] == value


def _check_slopes(
    table: UnitTable, events: list[Happened], plan: AnalysisPlan, rows: list[Row]
) -> None:
    metric = plan.metrics[plan.primary]
    for index, row in enumerate(rows):
        by_part = np.zeros(PARTS_OF_WINDOW)
        for did, value in counted(events, plan, row, metric.numerator, metric):
            age_ms = did.ms - row.exposed_ms
            if age_ms < metric.window_ms and table.metrics[plan.primary].mature[index]:
                by_part[age_ms * PARTS_OF_WINDOW // metric.window_ms] += value
        expected = np.polyfit(np.arange(PARTS_OF_WINDOW), by_part, 1)[0]
        assert table.slopes[index] == pytest.approx(expected, abs=1e-9)


def _check_segments(table: UnitTable, events: list[Happened], rows: list[Row]) -> None:
    for index, row in enumerate(rows):
        assert row.exposure is not None
        region = row.exposure.event.attributes["region"].string_value
        assert table.segments["region"][index] == region
        if "tier" not in table.segments:
            continue
        told = [
            h
            for h in events
            if h.event.type == "profile"
            and h.person == row.person is not None
            and h.ms <= row.first.ms
            and h.arrival < row.first.arrival
        ]
        told.sort(key=lambda h: (h.ms, h.arrival))
        # What was told of a device counts for its user from then on that it is theirs.
        if row.person and not row.person[0].startswith("device:") and _of_a_device(told):
            continue
        said = told[-1].event.profile.attributes["segment"].string_value if told else ""
        assert table.segments["tier"][index] == said


def _of_a_device(told: list[Happened]) -> bool:
    return any(not h.event.actor.user_id for h in told)


def _check_overlaps(table: UnitTable, events: list[Happened], rows: list[Row]) -> None:
    for index, row in enumerate(rows):
        met = [
            (h.ms, h.arrival, h.event.exposure.assignment.variant_key)
            for h in events
            if h.event.type == "exposure"
            and h.event.exposure.assignment.experiment_key == "f"
            and h.event.exposure.assignment.variant_key
            and row.person is not None
            and h.person == row.person
        ]
        expected = min(met)[2] if met else None
        if "f" not in table.overlaps:
            assert expected is None
            continue
        code = table.overlaps["f"][index]
        assert (table.overlap_variants["f"][code] if code >= 0 else None) == expected
