"""Another system's share of ``benchmarks.assignment``, in its own environment.

    python assignment_peer.py growthbook|flagd DEFINITIONS USERS SECONDS

The files are JSON. Prints one JSON line: CPU time an experiment in microseconds (the best pass),
and the share of decisions that gave a variant.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Decide = Callable[[dict[str, Any]], int]
"""Decides all experiments for a user; how many gave a variant."""


def growthbook(payload: dict[str, Any]) -> Decide:
    """The SDK: one instance, attributes set for each user, as a server would that keeps it."""
    from growthbook import GrowthBook

    book = GrowthBook(features=payload["features"])
    keys = list(payload["features"])

    def decide(user: dict[str, Any]) -> int:
        book.set_attributes(user)
        return sum(book.eval_feature(key).source == "experiment" for key in keys)

    return decide


def flagd(definitions: dict[str, Any]) -> Decide:
    """flagd's evaluation in process, without the SDK around it."""
    from openfeature.contrib.tools.flagd.core import FlagdCore
    from openfeature.evaluation_context import EvaluationContext

    core = FlagdCore()
    core.set_flags(definitions)
    keys = list(definitions["flags"])

    def decide(user: dict[str, Any]) -> int:
        context = EvaluationContext(user["id"], user)
        return sum(core.resolve_string_value(key, "", context).variant != "off" for key in keys)

    return decide


def passes(
    decide: Decide, users: list[dict[str, Any]], seconds: float
) -> Iterator[tuple[float, int]]:
    """Passes over the users for that much CPU time, one at least."""
    end_s = time.process_time() + seconds
    while True:
        started_s = time.process_time()
        given = sum(map(decide, users))
        yield time.process_time() - started_s, given
        if time.process_time() > end_s:
            return


def measured(
    decide: Decide, users: list[dict[str, Any]], experiments: int, seconds: float
) -> dict[str, float]:
    """The best pass."""
    found = list(passes(decide, users, seconds))
    decisions = len(users) * experiments
    return {
        "us_per_experiment": min(found)[0] / decisions * 1e6,
        "share": found[0][1] / decisions,
    }


def main(system: str, definitions_file: str, users_file: str, seconds: float) -> None:
    """Measures one system."""
    definitions = json.loads(Path(definitions_file).read_text(encoding="utf-8"))
    users = json.loads(Path(users_file).read_text(encoding="utf-8"))
    decide = {"growthbook": growthbook, "flagd": flagd}[system](definitions)
    (named,) = definitions.values()
    print(json.dumps(measured(decide, users, len(named), seconds)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
