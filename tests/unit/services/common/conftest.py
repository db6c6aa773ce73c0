"""Fixtures of the spool's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.spool import Spool
from tests.support.spooling import Sink, open_spool


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path)
    yield opened
    opened.close()
