"""A captured request's command as what JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.ranker.filters.tree import And, Compare, Expression, In, Not, Operator, Or
from services.ranker.types import Call, Circumstances, Following, RankCommand, Traffic


def command_text(command: RankCommand) -> dict[str, Any]:
    """What ranking reads of a command; its user and device are as they stand there."""
    said = command.circumstances
    return {
        "call": command.call.name,
        "surface": command.surface,
        "user": command.user_id,
        "device": command.device_id,
        "k": command.k,
        "traffic": command.traffic.name,
        "forced_variants": dict(command.forced_variants),
        "locale": said.locale,
        "region": said.region,
        "attributes": dict(said.attributes),
        "filter": None if command.filter is None else _tree(command.filter),
        "seed": command.seed,
        "following": None if command.following is None else _following(command.following),
        "candidate_ids": list(command.candidate_ids),
    }


def command_of(text: Mapping[str, Any]) -> RankCommand:
    """The command again. Raises ``KeyError``, ``TypeError`` and ``ValueError`` for anything
    else."""
    following, wanted = text["following"], text["filter"]
    return RankCommand(
        surface=text["surface"],
        user_id=text["user"],
        device_id=text["device"],
        k=text["k"],
        traffic=Traffic[text["traffic"]],
        forced_variants=text["forced_variants"],
        circumstances=Circumstances(text["locale"], text["region"], text["attributes"]),
        filter=None if wanted is None else _expression(wanted),
        call=Call[text["call"]],
        seed=text["seed"],
        following=None if following is None else _followed(following),
        candidate_ids=text["candidate_ids"],
    )


def _following(following: Following) -> dict[str, Any]:
    return {
        "parent_rank_id": following.parent_rank_id,
        "page": following.page,
        "first_position": following.first_position,
        "items": following.items.tolist(),
        "bundle": following.bundle.hex(),
        "variants": sorted(variant.hex() for variant in following.variants),
        "session_seed": following.session_seed,
    }


def _followed(text: Mapping[str, Any]) -> Following:
    return Following(
        parent_rank_id=text["parent_rank_id"],
        page=text["page"],
        first_position=text["first_position"],
        items=np.array(text["items"], np.uint64),
        bundle=bytes.fromhex(text["bundle"]),
        variants=frozenset(bytes.fromhex(variant) for variant in text["variants"]),
        session_seed=text.get("session_seed"),
    )


def _tree(expression: Expression) -> list[Any]:
    match expression:
        case And(parts):
            return ["and", *map(_tree, parts)]
        case Or(parts):
            return ["or", *map(_tree, parts)]
        case Not(part):
            return ["not", _tree(part)]
        case Compare(field, compared, value):
            return ["compare", field, compared.name, value]
        case In(field, values):
            return ["in", field, *sorted(values)]


def _expression(tree: list[Any]) -> Expression:
    kind, *rest = tree
    match kind:
        case "and":
            return And(tuple(map(_expression, rest)))
        case "or":
            return Or(tuple(map(_expression, rest)))
        case "not":
            return Not(_expression(rest[0]))
        case "compare":
            return Compare(rest[0], Operator[rest[1]], rest[2])
        case "in":
            return In(rest[0], frozenset(rest[1:]))
        case _:
            raise ValueError(f"{kind!r} is no kind of filter")
