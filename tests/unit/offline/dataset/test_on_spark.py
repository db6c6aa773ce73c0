"""The same expressions on PySpark in local mode, against the same oracles, on small input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.dataset.build import build_dataset
from offline.dataset.log_tables import OpenTables
from offline.dataset.spark import Spark, open_on_spark, spark_session
from offline.dataset.tables import load_dataset
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from tests.support.dataset_checks import (
    assert_dataset_equals_the_oracle,
    assert_probes_equal_the_oracle,
    assert_totals_beyond_64_bits_are_those_served,
    few_features_and_events,
)
from tests.support.event_streams import random_log, small_domain
from tests.support.every_kind import every_kind, refunded_stream, told_stream
from tests.support.feature_streams import START_MS
from tests.support.feature_worlds import KEYS, worlds
from tests.support.known_features import assert_offline_agrees
from tests.support.world_points import few_examples, points
from tests.support.world_streams import world_streams

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HAS_PYSPARK = find_spec("pyspark") is not None
HAS_JAVA = shutil.which("java") is not None or "JAVA_HOME" in os.environ
SMALL = {
    "spark.master": "local[1]",
    "spark.default.parallelism": "1",
    "spark.sql.shuffle.partitions": "1",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Compiling a query takes longer than running it over so few rows.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # PySpark warns of the pandas it was not tried with; only Arrow passes here.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not HAS_PYSPARK, reason="PySpark is not installed: make test-spark"),
    pytest.mark.skipif(not HAS_JAVA, reason="Spark needs Java 17 or 21, and no java was found"),
]


@pytest.fixture(scope="module")
def session() -> Iterator[SparkSession]:
    with spark_session(SMALL) as session:
        yield session


@pytest.fixture
def open_log(session: SparkSession) -> OpenTables:
    return partial(open_on_spark, session)


def test_every_kind_agrees_with_the_oracle(open_log: OpenTables, tmp_path: Path) -> None:
    log = told_stream()
    at = [(START_MS + 46_000, 12), (START_MS + 400_000, len(log))]
    keys = [("user", "ann"), ("course", "c2"), ("category", "art"), ("user_category", "3:annart")]
    assert_offline_agrees(every_kind(), log, keys, at, tmp_path, open_log)


@pytest.mark.at_length
@few_examples
@given(seed=st.integers(0, 2**32))
def test_random_probes_equal_the_oracle(open_log: OpenTables, seed: int) -> None:
    random = Random(seed)
    domain = small_domain(random)
    assert_probes_equal_the_oracle(random, domain, random_log(random, 40), open_log)


# The first example is the simplest there is.
@pytest.mark.at_length
@settings(few_examples, max_examples=2)
@given(domain=worlds(), log=world_streams(most=30), data=st.data())
def test_random_definitions_agree_with_the_oracle_on_random_streams(
    open_log: OpenTables, domain: Domain, log: list[LoggedEvent], data: st.DataObject
) -> None:
    at = data.draw(points(log, most=2))
    # Every entity type is a query of its own, and those are slow to compile.
    keys = [key for key in KEYS if key[0] in ("user", "course")]
    with TemporaryDirectory() as directory:
        assert_offline_agrees(domain, log, keys, at, Path(directory), open_log)


def test_refunds_alone_or_together_agree(open_log: OpenTables, tmp_path: Path) -> None:
    log = refunded_stream()
    at = [(START_MS + 9_250, 12), (START_MS + 20_000, len(log))]
    assert_offline_agrees(every_kind(), log, [("course", "c0")], at, tmp_path, open_log)


def test_totals_beyond_64_bits_are_those_served_online(
    open_log: OpenTables, tmp_path: Path
) -> None:
    assert_totals_beyond_64_bits_are_those_served(tmp_path, open_log)


def test_a_dataset_equals_the_oracle_and_the_one_built_embedded(
    open_log: OpenTables, tmp_path: Path
) -> None:
    domain, log = few_features_and_events()
    found = assert_dataset_equals_the_oracle(domain, log, tmp_path / "spark", open_log)
    log_dir, embedded = tmp_path / "spark" / "log", tmp_path / "embedded"
    assert found.meta == build_dataset(domain, log_dir, embedded, leak_sample=5)
    expected = load_dataset(embedded)
    assert found.examples.equals(expected.examples)
    assert found.interactions.equals(expected.interactions)
    assert found.catalogue == expected.catalogue


def test_integers_come_back_exactly(session: SparkSession, tmp_path: Path) -> None:
    numbers = pa.table({"number": pa.array([2**62 + 1, None, -(2**53) - 1], pa.int64())})
    engine = Spark(session, tmp_path)
    table = engine.imported(numbers, "numbers")
    assert engine.read(table)["number"].to_pylist() == numbers["number"].to_pylist()
    ordered = table.order_by(table.number.desc())
    batches = list(engine.batches(ordered, 2))
    assert [batch.num_rows for batch in batches] == [2, 1]
    read = pa.Table.from_batches(batches)["number"].to_pylist()
    assert read == [2**62 + 1, -(2**53) - 1, None]


def test_the_session_is_in_utc(session: SparkSession) -> None:
    assert session.conf.get("spark.sql.session.timeZone") == "UTC"


def test_the_command_says_what_is_missing_without_java(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "dataset", "--engine", "spark"]
    folders = ["--log", str(tmp_path), "--out", str(tmp_path / "out")]
    nowhere = {**os.environ, "JAVA_HOME": str(tmp_path)}
    ended = subprocess.run(
        [*command, *folders], env=nowhere, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "error: Spark did not start: it needs Java 17 or 21" in ended.stderr
    assert "Traceback" not in ended.stderr
