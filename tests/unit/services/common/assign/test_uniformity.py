"""Every hash spreads units evenly, whatever their ids look like, and two salts split them each in
its own way; so do layers, the holdout and the two sides of an experiment."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from services.common.assign.assign import (
    Common,
    Definitions,
    Experiment,
    Holdout,
    Layer,
    Reason,
    Variant,
    assign,
)
from services.common.assign.hashing import Hashes

COUNT = 4_000
# Of a chi-square with 99 degrees of freedom (100 cells) 160 is beyond the 99.99th percentile.
CELLS, LIMIT = 100, 160.0


def _unit_ids() -> dict[str, list[str]]:
    draw, numbers = Random(1), range(COUNT)
    return {
        "counted": [f"user-{n}" for n in numbers],
        "numbers": [str(10**6 + n) for n in numbers],
        "random": [str(uuid.UUID(int=draw.getrandbits(128))) for _ in numbers],
        "long, the same up to the end": ["x" * 59 + f"{n:05}" for n in numbers],
        "the same from the start on": [f"{n:05}-and-so-on" for n in numbers],
        "three letters": [
            chr(97 + n % 26) + chr(97 + n // 26 % 26) + chr(97 + n // 676) for n in numbers
        ],
        "not ASCII": [f"用户{n}" for n in numbers],
    }


IDS = _unit_ids()
HASHES = ("xxh3", "fnv1", "fnv2")


def _chi_square(counts: Sequence[int], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in counts)


def _buckets(hash_name: str, salt: str, ids: Sequence[str]) -> list[float]:
    bucket_of = Hashes().bucketing(hash_name, salt)
    assert bucket_of is not None
    return [bucket_of(unit_id) for unit_id in ids]


def _dependence(one: Sequence[float], other: Sequence[float]) -> float:
    """Chi-square of ten times ten cells."""
    cells = [0] * CELLS
    for first, second in zip(one, other, strict=True):
        cells[int(first * 10) * 10 + int(second * 10)] += 1
    return _chi_square(cells, len(one) / CELLS)


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
@pytest.mark.parametrize("hash_name", HASHES)
def test_buckets_are_even_and_salts_independent(hash_name: str, ids: Sequence[str]) -> None:
    layout = _buckets(hash_name, "layout", ids)
    cells = [0] * CELLS
    for bucket in layout:
        cells[int(bucket * CELLS)] += 1
    assert _chi_square(cells, COUNT / CELLS) < LIMIT
    assert _dependence(layout, _buckets(hash_name, "price", ids)) < LIMIT


@pytest.mark.parametrize("hash_name", ["xxh3", "fnv2"])
def test_salts_that_differ_in_a_digit_are_independent(hash_name: str) -> None:
    for ids in (IDS["counted"], IDS["random"]):
        one, other = (_buckets(hash_name, salt, ids) for salt in ("salt_1", "salt_2"))
        assert _dependence(one, other) < LIMIT


def test_version_1_of_growthbooks_hash_does_not_tell_such_salts_apart() -> None:
    # The salt comes last, and one more round does not spread what differs in a bit or two. That is
    # what it is; docs/experiments.md says so.
    one, other = (_buckets("fnv1", salt, IDS["random"]) for salt in ("salt_1", "salt_2"))
    assert _dependence(one, other) > 1_000


def test_layers_the_holdout_and_both_sides_are_independent() -> None:
    halves = (Variant("a", 0.5), Variant("b", 0.5))
    experiments = {
        "apart": Experiment("apart", "user", "s1", halves, other_unit="host"),
        "in_one": Experiment("in_one", "user", "s2", halves, layer="l", layer_ranges=((0, 0.5),)),
        "in_two": Experiment("in_two", "user", "s3", halves, layer="l", layer_ranges=((0.5, 1),)),
        "whole": Experiment("whole", "user", "s4", halves, layer="m", layer_ranges=((0, 0.5),)),
    }
    for experiment in ("apart", "whole"):
        experiments[experiment] = Experiment(**{**vars(experiments[experiment]), "holdout": False})
    definitions = Definitions(
        experiments,
        "hash",
        layers={"l": Layer("l", "user", "layer_l"), "m": Layer("m", "user", "layer_m")},
        common=Common(holdout=Holdout("held_out", 0.5)),
    )
    cells: Counter[tuple[object, ...]] = Counter()
    for unit_id in IDS["counted"]:
        found = {
            a.experiment_key: a for a in assign(definitions, {"user": unit_id, "host": unit_id})
        }
        one, two = found["in_one"], found["in_two"]
        # One experiment of a layer, or none of them for who is held out.
        held_out = one.reason is Reason.HOLDOUT
        assert (two.reason is Reason.HOLDOUT) == held_out
        assert bool(one.variant_key) + bool(two.variant_key) == (not held_out)
        viewer, host = found["apart"].variant_key, found["apart"].other_variant_key
        in_layer_m = found["whole"].reason is Reason.SPLIT
        within = one.variant_key or two.variant_key or "a"
        cells[held_out, bool(one.variant_key), within, viewer, host, in_layer_m] += 1
    # Two kinds held out or not: 2 x 2 x 2 (layer, arm) and 1 (held out, as many as both), times 8.
    counts = [n for key, n in cells.items() if not key[0]]
    held = [n for key, n in cells.items() if key[0]]
    assert (len(counts), len(held)) == (32, 8)
    # 31 and 7 degrees of freedom: 68 and 30 are beyond the 99.99th percentiles.
    assert _chi_square(counts, COUNT / 2 / 32) < 68
    assert _chi_square(held, COUNT / 2 / 8) < 30
