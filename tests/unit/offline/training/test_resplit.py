"""What training may see: the latest pass adds validation, the rehearsal hides what came later."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from offline.dataset.tables import Dataset, DatasetMeta
from offline.training.resplit import before_labels, with_validation
from services.common.domain import load_domain

DOMAIN = load_domain(Path(__file__).parents[4] / "config" / "live_courses.yaml")


def _dataset() -> Dataset:
    """Rows at times 0 to 9; train, validation, test; labels are mature up to time 4."""
    times = list(range(10))
    split = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    mature = {f"m.{name}": [time <= 4 for time in times] for name in DOMAIN.objectives}
    table = pa.table({"time_ms": times, "split": split, **mature})
    meta = DatasetMeta.model_construct(validation_start_ms=6, test_start_ms=8)
    return Dataset(Path(), meta, {}, table, table)


def test_the_latest_pass_reads_validation_and_never_the_test() -> None:
    later = with_validation(_dataset())
    assert later.examples["split"].to_pylist() == ["train"] * 8 + ["test"] * 2
    assert later.interactions["split"].to_pylist() == ["train"] * 8 + ["test"] * 2
    assert later.meta.validation_start_ms == 8


def test_the_rehearsal_learns_from_the_first_half_of_the_mature_rows() -> None:
    before = before_labels(DOMAIN, _dataset())
    expected = ["train"] * 2 + ["validation"] * 4 + ["test"] * 4
    assert before.examples["split"].to_pylist() == expected
    assert before.interactions["split"].to_pylist() == expected
    assert before.meta.validation_start_ms == 2
