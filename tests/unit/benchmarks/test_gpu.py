"""What ``benchmarks.gpu`` does where there is no GPU, and how it counts the time of kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import kernel_s, missing
from services.common.bundle.index import gpus
from services.common.bundle.loaded import providers


@pytest.mark.skipif(gpus() > 0, reason="FAISS has a GPU")
def test_it_says_why_there_is_no_gpu(tmp_path: Path) -> None:
    assert missing(tmp_path) == "there is no card"
    (tmp_path / "nvidia0").touch()
    has_cuda = len(providers("auto")) > 1
    assert bool(missing(tmp_path)) != has_cuda


def test_kernels_of_a_batch_are_one_search_and_runs_of_two() -> None:
    models = {
        "score": {"500": {"kernel_ms": 1.0}, "1000": {"kernel_ms": 1.5}},
        "search": {"1": {"ms": 0.5}, "8": {"ms": 2.0}},
    }
    assert kernel_s(models, 1) == pytest.approx(0.0015)
    assert kernel_s(models, 8) == pytest.approx((4 * 1.5 + 2.0) / 8 / 1000)
