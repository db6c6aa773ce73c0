"""A few of the kills of ``make chaos``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kills import run

DOMAIN_FILE = Path(__file__).parents[2] / "config" / "live_courses.yaml"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_dozen_kills_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    assert run(tmp_path, 12, 20_261_122, DOMAIN_FILE) > 12
