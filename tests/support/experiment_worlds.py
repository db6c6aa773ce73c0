"""Random definitions of experiments, and random visitors, by seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from services.common.assign.assign import Definitions
from services.common.assign.canonical import hashed
from services.common.assign.checks import errors_of
from services.common.assign.definitions import ExperimentsFile, definitions_in

PAST, FUTURE = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
_ALPHABETS = ("abcdefghij0123456789-", "用户é😀ß", "0123456789", "aZ _.:/'\"\\")


@dataclass(frozen=True)
class Visitor:
    """Who calls. ``attributes`` are texts, numbers, truths and lists of texts."""

    user_id: str
    device_id: str
    locale: str
    region: str
    attributes: dict[str, Any]


def file_of(draw: Random, count: int = 10) -> dict[str, Any]:
    """The content of an experiments file with all kinds of experiments, flags among them."""
    keys = [f"e{number}" for number in range(count)]
    quarters = [[0, 0.25], [0.25, 0.5], [0.5, 0.75], [0.75, 1]]
    draw.shuffle(quarters)
    experiments = {}
    for number, key in enumerate(keys):
        experiment = _experiment(draw, key)
        if draw.random() < 0.3 and quarters and experiment["unit"] == "user":
            experiment["layer"] = {"name": "home", "ranges": [quarters.pop()]}
        if number and draw.random() < 0.2:
            needed = {"value": draw.choice(["a", {"$ne": "a"}, {"$exists": True}])}
            experiment["prerequisites"] = [{"id": draw.choice(keys[:number]), "condition": needed}]
        experiments[key] = experiment
    experiments["of_hosts"] = {
        **_frame(draw, "of_hosts"),
        "unit": "host",
        "variants": {"a": {"weight": 0.5}, "b": {"weight": 0.5, "value_factor": 1.2}},
    }
    found: dict[str, Any] = {
        "layers": {"home": {"unit": "user", "salt": f"home_{draw.random()}"}},
        "experiments": experiments,
        "flags": {"flag": _flag(draw, "in_flag")},
        "saved_groups": {"pilots": ["US", "7", 7]},
        "aliases": {"id": "user"},
        "from_features": ["tier"],
    }
    if draw.random() < 0.5:
        found["holdout"] = {"salt": f"holdout_{draw.random()}", "share": 0.2}
    return found


def definitions_of_file(content: dict[str, Any]) -> Definitions:
    """The same, as the services have it; fails where the content is not accepted."""
    definitions = hashed(definitions_in(ExperimentsFile.model_validate(content)))
    assert not list(errors_of(definitions))
    return definitions


def visitor(draw: Random) -> Visitor:
    """Anybody, with ids in any characters."""
    user_id = _text(draw, 1, 24) if draw.random() < 0.9 else ""
    device_id = _text(draw, 1, 24) if not user_id or draw.random() < 0.5 else ""
    values: dict[str, Any] = {
        "plan": draw.choice(["pro", "free", "", "PRO"]),
        "age": draw.choice([17, 18, 40, 123.0, 0.5, -1, 10**15]),
        "new": draw.random() < 0.5,
        "tags": draw.choice([[], ["a"], ["a", "b"]]),
        "app": draw.choice(["4.2.0", "4.10.1", "v3", "not one"]),
        "tier": draw.choice(["gold", "silver"]),
        "id": draw.choice(["u1", 7]),
    }
    kept = {name: value for name, value in values.items() if draw.random() < 0.5}
    return Visitor(
        user_id, device_id, draw.choice(["en", ""]), draw.choice(["US", "CA", "DE", ""]), kept
    )


def _text(draw: Random, low: int, high: int) -> str:
    return "".join(draw.choices(draw.choice(_ALPHABETS), k=draw.randint(low, high)))


def _frame(draw: Random, key: str) -> dict[str, Any]:
    return {"salt": f"{key}_{draw.random()}", "running": draw.random() < 0.9, "revision": 1}


def _experiment(draw: Random, key: str) -> dict[str, Any]:
    hash_ = draw.choice(["xxh3", "xxh3", "fnv1", "fnv2"])
    found: dict[str, Any] = {
        **_frame(draw, key),
        "unit": draw.choice(["user", "user", "user", "device"]),
        "hash": hash_,
        "variants": _variants(draw),
    }
    options: dict[str, Any] = {
        "coverage": draw.choice([0.0, 0.3, 1.0]),
        "condition": draw.choice(_CONDITIONS),
        "killed": draw.random() < 0.2,
        "holdout": draw.random() < 0.5,
        "start": draw.choice([PAST, FUTURE]),
        "ramp": [{"at": PAST, "coverage": 0.5}, {"at": FUTURE, "coverage": 1.0}],
        "sticky": {"fallback_unit": "device"},
        "namespace": ["shared", 0.2, draw.choice([0.4, 0.9])],
        "filters": [{"salt": "f", "ranges": [[0.1, 0.8]], "unit": "user", "hash": hash_}],
        "other_unit": "host",
    }
    return found | {name: value for name, value in options.items() if draw.random() < 0.2}


def _variants(draw: Random) -> dict[str, Any]:
    shares = [draw.randint(0, 4) for _ in range(draw.randint(0, 3))] + [draw.randint(1, 4)]
    return {"abcd"[i]: {"weight": share / sum(shares)} for i, share in enumerate(shares)}


def _flag(draw: Random, key: str) -> dict[str, Any]:
    experiment = {**_experiment(draw, key), "key": key, "unit": "id", "hash": "fnv2"}
    experiment.pop("other_unit", None)
    for number, variant in enumerate(experiment["variants"].values()):
        variant["value"] = number
    forcing = {"condition": draw.choice(_CONDITIONS), "value": -1, "id": "forced"}
    if draw.random() < 0.5:
        forcing["rollout"] = {"unit": "id", "salt": "r", "hash": "fnv1", "coverage": 0.5}
    rules = [forcing, {"experiment": experiment}]
    draw.shuffle(rules)
    return {"default": -2, "rules": rules}


_CONDITIONS: tuple[dict[str, Any], ...] = (
    {"plan": "pro"},
    {"plan": {"$ini": ["Pro"]}, "region": {"$ne": "DE"}},
    {"age": {"$gte": 18, "$lt": 100}},
    {"age": 123},
    {"new": True},
    {"new": {"$exists": False}},
    {"tags": {"$elemMatch": {"$eq": "b"}}},
    {"tags": ["a", "b"]},
    {"app": {"$vgte": "4.2.0"}},
    {"app": {"$regex": "^4\\."}},
    {"region": {"$inGroup": "pilots"}},
    {"$or": [{"plan": "free"}, {"region": "CA"}, {"locale": "en"}]},
    {"$not": {"tier": "gold"}},
    {"id": {"$in": ["u1", 7]}},
)
