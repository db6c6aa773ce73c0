"""What a reader is told beside results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offline.analysis.conclude.conclude import conclude
from offline.analysis.model import Report
from offline.analysis.plan import AnalysisPlan
from tests.unit.offline.analysis.conclude.worlds import World, plan, planned


def _report(of: AnalysisPlan, world: World) -> Report:
    return conclude(of, world.table(of), definitions_hash="0123abcd")


def test_several_secondary_metrics_are_several_comparisons() -> None:
    names = ("revenue", "watch_time", "buys", "clicks")
    of = plan(metrics={name: planned(name) for name in names}, segments={})
    codes = [
        [warned.code for warned in _report(replace(of, secondary=names[2:end]), World()).warnings]
        for end in (3, 4)
    ]
    assert ["several_comparisons" in each for each in codes] == [False, True]


def test_what_is_left_out_is_told() -> None:
    of = plan(unit="host", cluster="host", design="cluster")
    table = World(clusters=12).table(of)
    table = replace(
        table, excluded={"forced": 3, "crossover": 20, "unknown_variant": 1}, revisions=(3, 5)
    )
    report = conclude(of, table, definitions_hash="", lost_exposures=4)
    assert {"forced", "unknown_variant", "revisions", "few_clusters"} <= {
        warned.code for warned in report.warnings
    }
    noticed = {(f.check, f.subject) for f in report.health if f.level == "notice"}
    assert ("exposures", "lost") in noticed
    assert any(f.subject == "crossover" and f.level == "alarm" for f in report.health)


def test_few_hosts_of_an_arm_are_told_whatever_the_arms_of_their_viewers_are() -> None:
    of = plan(other_unit="host", cluster="host", design="two_sided", covariates=())
    for hosts, told in ((12, ["An arm has 6 hosts alone"]), (40, [])):
        report = _report(of, World(clusters=hosts))
        few = [warned.text for warned in report.warnings if warned.code == "few_clusters"]
        assert [text.partition(":")[0] for text in few] == told


def test_a_method_that_was_measured_to_be_off_is_told() -> None:
    # Six hosts an arm: sequences of so few end more than twice as wide as one look's interval.
    of = plan(unit="host", cluster="host", design="cluster", method="always_valid", segments={})
    report = conclude(of, World(clusters=12).table(of), definitions_hash="")
    told = [warned.text for warned in report.warnings if warned.code == "measured_validity"]
    assert len(told) == 1
    assert "clustered_sequence" in told[0]
    many = conclude(of, World(clusters=120).table(of), definitions_hash="")
    assert "measured_validity" not in [warned.code for warned in many.warnings]


def test_segments_without_a_comparison_are_named() -> None:
    of = plan(unit="host", cluster="host", design="cluster")
    table = World(clusters=30).table(of)
    assert table.cluster is not None
    # All of one host are in a region of their own, and nothing is known of what they did before.
    region, before = table.segments["region"].copy(), table.covariates["spend_before"].copy()
    region[table.cluster == 3] = "MO"
    before[region == "US"] = 7.0
    region[:4] = "rare"
    table = replace(table, segments={"region": region}, covariates={"spend_before": before})
    report = conclude(of, table, definitions_hash="")
    texts = [warned.text for warned in report.warnings if warned.code == "segments"]
    assert texts == [
        "Not compared by itself: region MO and region rare (fewer than 10 units in an arm)."
    ]
    assert report.primary is not None
    # A covariate that is the same for all of a segment adjusts nothing there.
    methods = {s.value for s in report.primary.effects[0].segments}
    assert methods == {"CN", "US", ""}


def test_only_so_many_segments_are_named() -> None:
    of = plan()
    table = World().table(of)
    region = np.array([f"r{number}" for number in range(table.rows)], dtype=object)
    report = conclude(of, replace(table, segments={"region": region}), definitions_hash="")
    texts = [warned.text for warned in report.warnings if warned.code == "segments"]
    assert len(texts) == 2
    assert "region r0, region r1, region r10, region r100, region r101 and 15" in " ".join(texts)
    assert "only the 20 largest of a segment are compared" in " ".join(texts)


def test_of_hosts_as_rows_nothing_is_told_that_was_measured_of_viewers() -> None:
    of = plan(unit="host", design="cluster", covariates=(), segments={})
    report = conclude(of, World(units=12).table(of), definitions_hash="")
    assert report.primary is not None
    assert report.primary.effects[0].method == "welch"
    assert "measured_validity" not in [warned.code for warned in report.warnings]
