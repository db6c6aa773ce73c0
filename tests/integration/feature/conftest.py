"""A feature service over the domain that ships, one a module; some modules have their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.feature_server import FeatureClient, RunningService, running_service

DOMAIN_FILE = Path(__file__).parents[3] / "config" / "live_courses.yaml"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(DOMAIN_FILE, tmp_path_factory.mktemp("feature")) as service:
        yield service


@pytest.fixture(scope="module")
def client(running: RunningService) -> FeatureClient:
    return running.client
