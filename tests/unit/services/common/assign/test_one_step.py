"""What decides plain experiments in one step decides as the whole of the rules does."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from services.common.assign.assign import (
    EVALUATOR_VERSION,
    Context,
    StickyDocument,
    evaluate,
    units_of,
)
from tests.support.experiment_worlds import definitions_of_file, file_of, visitor

GOLDEN = Path(__file__).parents[4] / "golden" / "assignments_v1.json"


@pytest.mark.parametrize("sticky", [None, {}])
def test_forcing_one_experiment_leaves_the_others_as_they_are(
    sticky: dict[str, StickyDocument] | None,
) -> None:
    # Where anything is forced nothing is decided in one step.
    plain = 0
    for seed in range(8):
        draw = Random(1_000 + seed)
        definitions = definitions_of_file(file_of(draw))
        for _ in range(20):
            who = visitor(draw)
            units = units_of(who.user_id, who.device_id)
            attributes = {"region": who.region, "locale": who.locale, **who.attributes}
            context = Context(units, attributes, sticky=sticky, now_ms=1_800_000_000_000)
            forcing = Context(units, attributes, {"of_hosts": "a"}, sticky, context.now_ms)
            one_step, in_full = (
                {a.experiment_key: a for a in evaluate(definitions, asked).assignments}
                for asked in (context, forcing)
            )
            assert in_full.pop("of_hosts").variant_key == "a"
            one_step.pop("of_hosts", None)
            assert one_step == in_full
            plain += len(one_step)
    assert plain > 500


def test_assignments_are_frozen() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["evaluator_version"] == EVALUATOR_VERSION
    definitions = definitions_of_file(golden["file"])
    for row in golden["rows"]:
        context = Context(row["units"], row["attributes"], now_ms=row["now_ms"])
        found = evaluate(definitions, context).assignments
        told = [[a[0], a[1], a[2].name, a[3], a[4], a[6]] for a in found]
        assert told == row["assignments"], row["units"]
