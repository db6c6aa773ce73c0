"""What the services log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from services.common.telemetry import configure_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    written = io.StringIO()
    configure_logging("feature", "INFO", written)
    yield written
    root.handlers[:] = before
    root.setLevel(level)


def test_a_caller_that_has_gone_is_no_error(stream: io.StringIO) -> None:
    grpc_logger = logging.getLogger("grpc._cython.cygrpc")
    grpc_logger.error("ExecuteBatchError raised in core by servicer method [/podium.x/Watch]")
    grpc_logger.error("Unexpected [ValueError] raised by servicer method [/podium.x/Watch]")

    (line,) = stream.getvalue().splitlines()
    assert "ValueError" in line
