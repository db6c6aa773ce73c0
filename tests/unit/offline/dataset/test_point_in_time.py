"""Point-in-time features against the brute-force oracle, on random definitions and logs."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.dataset_checks import (
    assert_probes_equal_the_oracle,
    assert_totals_beyond_64_bits_are_those_served,
)
from tests.support.event_streams import random_log, small_domain


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_equals_the_oracle_at_every_probe(seed: int) -> None:
    random = Random(seed)
    domain = small_domain(random)
    log = random_log(random, random.choice([5, 60, 150]))
    assert_probes_equal_the_oracle(random, domain, log)


def test_totals_beyond_64_bits_are_those_served_online(tmp_path: Path) -> None:
    assert_totals_beyond_64_bits_are_those_served(tmp_path)
