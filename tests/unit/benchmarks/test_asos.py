"""benchmarks.asos: when an experiment stops, and what its last look says of that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.asos import Course, courses, main, stop
from offline.analysis.statistics.over_time import over_time

LOOKS = 20


def course(seed: int, shifts: list[float]) -> Course:
    """Units of twenty looks, treatment shifted by one number for each half."""
    random = np.random.default_rng(seed)
    came = np.repeat(np.arange(LOOKS), 100)
    shift = np.repeat(shifts, len(came) // len(shifts))
    control, treatment = random.normal(0, 1, len(came)), random.normal(shift, 1)
    return Course(over_time(control, came, LOOKS), over_time(treatment, came, LOOKS))


def test_verdicts() -> None:
    def judged(*treatments: Course, peeking: bool = False) -> str:
        return stop(treatments, alpha=0.05, peeking=peeking).verdict

    assert judged(course(1, [0.3])) == "right"
    assert judged(course(2, [0.0])) == "not early"
    assert judged(course(3, [0.5, -1.5])) == "wrong"
    assert judged(course(4, [0.5, -0.5])) == "unconfirmed"
    # One of several treatments is enough.
    assert judged(course(2, [0.0]), course(1, [0.4])) == "right"
    assert judged(course(1, [0.3]), peeking=True) == "right"
    early = stop([course(1, [0.5])], alpha=0.05, peeking=False)
    assert 0 < early.share < 0.5


def test_courses_come_from_the_file_and_looks_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = course(5, [0.3])
    rows = [
        {
            "experiment_id": "a",
            "variant_id": 1,
            "metric_id": metric,
            "time_since_start": float(look),
            "count_c": float(one.control.units[look]),
            "count_t": float(one.treatment.units[look]),
            "mean_c": float(one.control.mean[look]),
            "mean_t": float(one.treatment.mean[look]),
            "variance_c": float(one.control.variance[look] * one.control.units[look]),
            # An arm without a variance tells nothing.
            "variance_t": None
            if look == 0
            else float(one.treatment.variance[look] * one.treatment.units[look]),
        }
        for metric in (1, 2, 3, 4)
        for look in reversed(range(LOOKS))
    ]
    path = tmp_path / "experiments.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    (read,) = courses(path, 1)["a"]
    assert read.control.mean == pytest.approx(one.control.mean)
    assert read.treatment.variance[1:] == pytest.approx(one.treatment.variance[1:])
    assert read.treatment.variance[0] == 0.0
    assert stop([read], alpha=0.05, peeking=False) == stop([one], alpha=0.05, peeking=False)
    main([str(path)])
    assert '"early": 1' in capsys.readouterr().out
