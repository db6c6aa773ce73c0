"""The acceptance rule over worlds, and the oracle's reading of the truth."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import worlds
from benchmarks.worlds import NO_SIGNAL, SETTINGS, Run, TruthOracle, run_world, show, summarise
from offline.simulator.parameters import WorldParameters
from tests.unit.offline.evaluation.worlds import small_fold

FAMILIES = {"popularity": "popularity (all events)", "item-kNN": "item-kNN (cosine)"}


def made_up(gain: float, seed: int) -> Run:
    """A world in which what is shipped has ``gain`` over kNN, which has 0.05 over popularity."""
    rng = np.random.default_rng(seed)
    knn = rng.random(300) * 0.4
    noise = rng.normal(0.0, 0.02, 300)
    values = {
        "shipped": knn + gain + noise,
        "item-kNN (cosine)": knn,
        "popularity (all events)": knn - 0.05,
        "oracle 0": knn + 0.1,
        "oracle 0.5": knn + 0.2,
        "oracle 1": knn,
        "oracle 2": knn - 0.1,
    }
    return Run(values, FAMILIES, {})


def test_a_gain_in_every_world_is_accepted_and_its_lack_is_not() -> None:
    better = summarise("default", [made_up(0.03, seed) for seed in range(5)])
    assert better.accepted
    assert better.differences["item-kNN"].mean == pytest.approx(0.03, abs=0.003)
    assert better.to_oracle.mean == pytest.approx(-0.17, abs=0.003)
    assert better.users == 1500
    level = summarise("default", [made_up(0.0, seed) for seed in range(5)])
    assert not level.accepted
    worse = summarise("default", [made_up(-0.03, seed) for seed in range(5)])
    assert not worse.accepted


def test_without_personal_signal_a_tie_is_accepted_and_a_loss_is_not() -> None:
    tie = summarise(NO_SIGNAL, [made_up(0.0, seed) for seed in range(5)])
    assert tie.accepted
    assert not summarise(NO_SIGNAL, [made_up(-0.03, seed) for seed in range(5)]).accepted
    assert not replace(tie, setting="default").accepted


def test_gains_that_hold_in_some_worlds_only_are_not_accepted() -> None:
    gains = (0.04, -0.03, 0.05, -0.02, 0.03)
    row = summarise("default", [made_up(gain, seed) for seed, gain in enumerate(gains)])
    assert row.differences["item-kNN"].mean > 0
    assert not row.accepted


def test_every_setting_is_a_world_that_can_be_simulated() -> None:
    for changed in SETTINGS.values():
        WorldParameters(end_ms=worlds.END_MS, seed=1, **changed)


def test_the_table_shows_every_family_and_the_oracle() -> None:
    console = Console(width=200, record=True, quiet=False)
    show(console, [summarise("default", [made_up(0.03, seed) for seed in range(2)])])
    text = console.export_text()
    for expected in ("popularity", "item-kNN", "less oracle", "default", "yes"):
        assert expected in text


def test_the_oracle_reads_the_appeal_of_the_cut_by_name(tmp_path: Path) -> None:
    (tmp_path / "cuts.json").write_text(
        json.dumps(
            {
                "cuts": [{"week": 1, "time_ms": 1_000}, {"week": 2, "time_ms": 2_000}],
                "users": ["user1", "user0"],
                "courses": ["item1", "item0", "item2"],
            }
        )
    )
    np.save(tmp_path / "cut_001_appeal.npy", np.array([[1, 2], [3, 4]], dtype=np.float32))
    np.save(tmp_path / "cut_002_appeal.npy", np.full((2, 3), 9, dtype=np.float32))
    fold = small_fold(3, [[0, 0, 0], []], ages_days=[7, 7, 0])
    asked = np.array([0, 1])
    appeal = TruthOracle(tmp_path, fold, cut_ms=1_100, sales_weight=0.0)
    # Columns in the fold's order; item2 came after the cut.
    assert appeal.score(asked).tolist() == [[4, 3, -np.inf], [2, 1, -np.inf]]
    # Item 0 sold twice a week ago and once now: 0.5 + 0.5 + 1.
    selling = TruthOracle(tmp_path, fold, cut_ms=1_100, sales_weight=2.0)
    assert selling.score(asked)[:, 0] == pytest.approx(np.array([4, 2]) + 2 * np.log(3))
    assert selling.score(asked)[:, 1].tolist() == [3, 1]


def test_a_finished_world_is_not_repeated(tmp_path: Path) -> None:
    kept = {"values": {"shipped": [0.5, 0.25]}, "families": FAMILIES, "seconds": {"train": 1.0}}
    (tmp_path / "result.json").write_text(json.dumps(kept))
    run = run_world("default", 1, tmp_path, lambda stage: pytest.fail(f"{stage} was repeated"))
    assert run.values["shipped"].tolist() == [0.5, 0.25]
    assert run.families == FAMILIES
