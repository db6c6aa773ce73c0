"""Spark's edges that need neither PySpark nor Java; ``test_on_spark`` has the rest."""

from __future__ import annotations

import sys

import pytest

from offline.dataset.spark import spark_session
from services.common.errors import FailedPrecondition


def test_a_missing_pyspark_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyspark", "pyspark.errors", "pyspark.sql"):
        monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(FailedPrecondition, match=r"podium\[spark\]") as caught,
        spark_session({}),
    ):
        pass
    assert caught.value.reason == "SPARK_MISSING"
