"""The acceptance rule over users, and what is kept and not looked at twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import mooccubex
from benchmarks.mooccubex import DOMAIN_FILE, Workspace, report, show, summary
from services.common.domain import load_domain

USERS = 2_000


def keep_test(workspace: Workspace, seed: int, gain: float) -> None:
    """Figures by user of a seed in which what is shipped hits ``gain`` more often than SASRec."""
    rng = np.random.default_rng(seed)
    directory = workspace.of_seed(seed)
    directory.mkdir(parents=True)
    hits = (rng.random(USERS) < 0.3).astype(float)
    better = np.maximum(hits, (rng.random(USERS) < gain / 0.7).astype(float))
    names = ("hr@10", "ndcg@10", "mrr", "recall@500")
    arrays = {
        f"{system} {name}": values
        for system, values in (("shipped", better), ("retrieval", better), ("SASRec", hits))
        for name in names
    }
    arrays["metrics"] = np.array(names)
    np.savez(directory / "test.npz", **arrays)
    trained = {"cpu_minutes": 14.9, "epochs": 5.0, "validation_hr@10": 0.3}
    for name in ("ours", "sasrec"):
        (directory / f"{name}.json").write_text(json.dumps(trained), encoding="utf-8")


def test_a_gain_is_accepted_by_its_lower_bound(tmp_path: Path) -> None:
    workspace, domain = Workspace(tmp_path), load_domain(DOMAIN_FILE)
    for seed, gain in ((0, 0.04), (1, 0.006)):
        keep_test(workspace, seed, gain)
    # Neither log nor dataset nor model is there: what was found once is read, not made again.
    large, small = (report(workspace, domain, seed, lambda *_: None) for seed in (0, 1))
    assert large.gains["hr@10"].mean == pytest.approx(0.04, abs=0.01)
    assert large.gains["hr@10"].low >= 0.005
    assert large.accepted
    assert small.gains["hr@10"].mean > 0
    assert not small.accepted
    console = Console(width=120, record=True)
    show(console, [large, small])
    text = console.export_text()
    assert "2,000 users" in text
    assert text.count("not accepted") == 1
    line = json.loads(summary([large, small]))
    assert line["seed_0"]["accepted"] is True
    assert line["seed_1"]["figures"]["SASRec"]["hr@10"][0] == pytest.approx(0.3, abs=0.05)


def test_without_the_data_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(tmp_path / "none"), "--workspace", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", ["mooccubex", *arguments])
    mooccubex.main()
    told = capsys.readouterr().out
    assert "There is no MOOCCubeX in" in told
    assert "--data" in told
    assert not (tmp_path / "work").exists()
