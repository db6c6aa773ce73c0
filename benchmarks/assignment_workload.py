"""Twenty experiments that three systems can run, and whom they decide for. Plain data, by seed.

Ten of the experiments share five layers, half of a layer each; conditions are over region, age,
plan and version of the app, as they are in the field: most experiments have one or two, some none.
"""

from __future__ import annotations

import random
from typing import Any

EXPERIMENTS = 20
SEED = 1

_REGIONS = ["US", "CA", "GB", "DE", "CN", "JP", "BR", "IN"]
_WEIGHTS = ([0.5, 0.5], [0.2, 0.3, 0.5], [0.25, 0.25, 0.25, 0.25])
_CONDITIONS: tuple[dict[str, Any], ...] = (
    {},
    {"region": {"$in": ["US", "CA", "GB", "DE"]}},
    {"age": {"$gte": 18}, "region": {"$nin": ["JP"]}},
    {"plan": "pro"},
    {},
    {"region": "US"},
    {"age": {"$gte": 25, "$lt": 50}},
    {"app": {"$vgte": "4.2.0"}},
    {"$or": [{"plan": "pro"}, {"region": {"$in": ["CN", "IN"]}}]},
    {"plan": {"$ne": "free"}},
)


def experiments() -> list[dict[str, Any]]:
    """key, salt, weights, condition (GrowthBook's form), and layer [name, start, end] or None."""
    found = []
    for number in range(EXPERIMENTS):
        half = 0.5 * (number // 2 % 2)
        found.append(
            {
                "key": f"experiment_{number:02}",
                "salt": f"salt_{number:02}",
                "weights": _WEIGHTS[number % len(_WEIGHTS)],
                "condition": _CONDITIONS[number % len(_CONDITIONS)],
                "layer": [f"layer_{number // 4}", half, half + 0.5] if number % 2 else None,
            }
        )
    return found


def users(count: int) -> list[dict[str, Any]]:
    """Attributes, the id among them."""
    draw = random.Random(SEED)
    return [
        {
            "id": f"user-{draw.randrange(10**8):08}",
            "region": draw.choice(_REGIONS),
            "age": draw.randrange(14, 70),
            "plan": draw.choice(["free", "plus", "pro"]),
            "app": f"{draw.randrange(3, 6)}.{draw.randrange(10)}.{draw.randrange(10)}",
        }
        for _ in range(count)
    ]


def ours() -> dict[str, Any]:
    """The content of an experiments file, by our default hash."""
    return {
        "layers": {f"layer_{n}": {"unit": "user", "salt": f"layer_{n}"} for n in range(5)},
        "experiments": {e["key"]: _experiment(e) for e in experiments()},
    }


def growthbook(hash_version: int) -> dict[str, Any]:
    """A payload of GrowthBook's SDK endpoint. A layer is a namespace."""
    return {"features": {e["key"]: _feature(e, hash_version) for e in experiments()}}


def flagd() -> dict[str, Any]:
    """flagd's flag definitions. A layer is a fraction of its own."""
    return {"flags": {e["key"]: _flag(e) for e in experiments()}}


def _experiment(spec: dict[str, Any]) -> dict[str, Any]:
    found = {
        "unit": "user",
        "salt": spec["salt"],
        "running": True,
        "revision": 1,
        "variants": {f"v{i}": {"weight": weight} for i, weight in enumerate(spec["weights"])},
    }
    if spec["condition"]:
        found["condition"] = spec["condition"]
    if spec["layer"]:
        name, start, end = spec["layer"]
        found["layer"] = {"name": name, "ranges": [[start, end]]}
    return found


def _feature(spec: dict[str, Any], hash_version: int) -> dict[str, Any]:
    variants = [f"v{i}" for i in range(len(spec["weights"]))]
    rule = {
        "key": spec["key"],
        "seed": spec["salt"],
        "hashAttribute": "id",
        "hashVersion": hash_version,
        "variations": variants,
        "weights": spec["weights"],
        "meta": [{"key": key} for key in variants],
    }
    if spec["condition"]:
        rule["condition"] = spec["condition"]
    if spec["layer"]:
        rule["namespace"] = spec["layer"]
    return {"defaultValue": "", "rules": [rule]}


def _flag(spec: dict[str, Any]) -> dict[str, Any]:
    weights = spec["weights"]
    arms = [[f"v{i}", round(100 * weight)] for i, weight in enumerate(weights)]
    chosen: Any = {"fractional": [{"cat": [spec["salt"], {"var": "targetingKey"}]}, *arms]}
    tests = [_logic(name, test) for name, test in spec["condition"].items()]
    if spec["layer"]:
        name, start, _ = spec["layer"]
        halves = [["first", 50], ["second", 50]]
        share = {"fractional": [{"cat": [name, {"var": "targetingKey"}]}, *halves]}
        tests.append({"==": [share, "second" if start else "first"]})
    if tests:
        chosen = {"if": [{"and": tests} if len(tests) > 1 else tests[0], chosen, "off"]}
    variants = {"off": "", **{f"v{i}": f"v{i}" for i in range(len(weights))}}
    return {
        "state": "ENABLED",
        "variants": variants,
        "defaultVariant": "off",
        "targeting": chosen,
    }


def _logic(name: str, test: Any) -> dict[str, Any]:
    """A condition in JSON logic."""
    if name == "$or":
        return {"or": [_logic(*next(iter(part.items()))) for part in test]}
    value = {"var": name}
    if not isinstance(test, dict):
        return {"==": [value, test]}
    parts = [_OPERATORS[operator](value, given) for operator, given in test.items()]
    return {"and": parts} if len(parts) > 1 else parts[0]


_OPERATORS: dict[str, Any] = {
    "$in": lambda value, given: {"in": [value, given]},
    "$nin": lambda value, given: {"!": [{"in": [value, given]}]},
    "$ne": lambda value, given: {"!=": [value, given]},
    "$gte": lambda value, given: {">=": [value, given]},
    "$lt": lambda value, given: {"<": [value, given]},
    "$vgte": lambda value, given: {"sem_ver": [value, ">=", given]},
}
