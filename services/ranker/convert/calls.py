"""Between the wire and the core, for the calls around Rank.

What they have in common with Rank is checked as a request to Rank: limits, names and messages are
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from google.protobuf.message import Message

from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.actor import actor_key
from services.common.convert_limits import (
    MAX_BATCH_ACTORS,
    MAX_SCORED_ITEMS,
    require_actor,
    require_count,
    require_entity,
    require_id,
)
from services.common.errors import InvalidArgument, PodiumError
from services.common.status import code_number
from services.ranker.calls.answering import Repeatable
from services.ranker.convert.rank import (
    assignment_messages,
    degradation_messages,
    rank_response,
    seen_by_experiments,
    slate_message,
    timing_messages,
    traffic_class,
)
from services.ranker.types import (
    NOTHING_MORE,
    Call,
    RankCommand,
    RankResult,
    Removed,
    SeenByExperiments,
)

Checked = Callable[[ranker_pb2.RankRequest], RankCommand]
"""Checks a request to Rank."""


def repeatable(
    request: ranker_pb2.RankRequest | ranker_pb2.RankBatchRequest, caller: str
) -> Repeatable | None:
    """What makes a request a repetition of another; None without a key."""
    if not request.idempotency_key:
        return None
    key = require_id("idempotency_key", request.idempotency_key)
    return Repeatable(caller, key, _fingerprint(request))


def idempotency(key: Repeatable | None, kept: bool) -> ranker_pb2.Idempotency:
    """How an answer came about."""
    if key is None:
        return ranker_pb2.IDEMPOTENCY_UNSPECIFIED
    return ranker_pb2.IDEMPOTENCY_KEPT if kept else ranker_pb2.IDEMPOTENCY_RANKED


def batch_commands(request: ranker_pb2.RankBatchRequest, checked: Checked) -> list[RankCommand]:
    """One command an actor, in their order. Raises ``InvalidArgument`` and ``NotFound``."""
    require_count("actors", len(request.actors), 1, MAX_BATCH_ACTORS)
    actors = [
        require_actor(f"actors[{index}]", actor) for index, actor in enumerate(request.actors)
    ]
    # One user on two devices is ranked once: both would be under one rank_id.
    _require_distinct("actors", [actor_key(user, device) for user, device in actors])
    same = ranker_pb2.RankRequest(
        actor=request.actors[0],
        surface=request.surface,
        k=request.k if request.HasField("k") else None,
        context=request.context if request.HasField("context") else None,
        traffic_class=request.traffic_class,
        dry_run=request.dry_run,
        forced_variants=request.forced_variants,
        filter=request.filter if request.HasField("filter") else None,
    )
    command = checked(same)
    return [
        replace(command, user_id=user, device_id=device, seen=seen)
        for (user, device), seen in zip(actors, _seen(request), strict=True)
    ]


def _seen(request: ranker_pb2.RankBatchRequest) -> list[SeenByExperiments]:
    """What experiments see of each actor."""
    field, sent = "evaluation_contexts", request.evaluation_contexts
    if not sent:
        return [NOTHING_MORE] * len(request.actors)
    if len(sent) != len(request.actors):
        why = f"has {len(sent)}, must have none or {len(request.actors)}, one an actor"
        raise InvalidArgument.field(field, why)
    return [seen_by_experiments(f"{field}[{n}]", context) for n, context in enumerate(sent)]


def batch_response(
    results: Sequence[RankResult | PodiumError],
    refresh_token: Callable[[RankResult], str],
    how: ranker_pb2.Idempotency,
) -> ranker_pb2.RankBatchResponse:
    """The answers on the wire; a batch has no next pages."""
    return ranker_pb2.RankBatchResponse(
        results=[
            ranker_pb2.RankBatchResult(error=_call_error(result))
            if isinstance(result, PodiumError)
            else ranker_pb2.RankBatchResult(
                ranked=rank_response(result, ("", refresh_token(result)), how)
            )
            for result in results
        ]
    )


def refresh_command(request: ranker_pb2.RefreshRequest, checked: Checked) -> RankCommand:
    """The command before its token is read. Raises ``InvalidArgument`` and ``NotFound``."""
    return checked(
        ranker_pb2.RankRequest(
            actor=request.actor,
            surface=request.surface,
            context=request.context if request.HasField("context") else None,
            dry_run=request.dry_run,
            filter=request.filter if request.HasField("filter") else None,
        )
    )


def refresh_response(result: RankResult, refresh_token: str) -> ranker_pb2.RefreshResponse:
    """The answer on the wire."""
    return ranker_pb2.RefreshResponse(
        slate=slate_message(result),
        rank_id=result.rank_id,
        assignments=assignment_messages(result),
        bundle_version=result.bundle_version,
        degraded=degradation_messages(result),
        timings=timing_messages(result),
        traffic_class=traffic_class(result.traffic),
        refresh_token=refresh_token,
        parent_rank_id=result.parent_rank_id,
        removed=_removed(result.removed),
    )


def similar_command(
    request: ranker_pb2.SimilarRequest,
    checked: Checked,
    entity_of: Mapping[str, str],
    nobody: str,
) -> RankCommand:
    """The command. ``entity_of``: what each surface ranks; ``nobody``: a device id that no
    device has, for a request without an actor, of which nothing is written.

    Raises ``InvalidArgument`` and ``NotFound``.
    """
    known = request.HasField("actor")
    command = checked(
        ranker_pb2.RankRequest(
            actor=request.actor if known else common_pb2.Actor(device_id=nobody),
            surface=request.surface,
            k=request.k if request.HasField("k") else None,
            context=request.context if request.HasField("context") else None,
            traffic_class=request.traffic_class,
            dry_run=request.dry_run or not known,
            filter=request.filter if request.HasField("filter") else None,
        )
    )
    kind, item_id = require_entity("item", request.item)
    if kind != (wanted := entity_of[command.surface]):
        raise InvalidArgument.field(
            "item.type", f"is {kind!r}, must be {wanted!r}, what {command.surface!r} shows"
        )
    return replace(command, call=Call.SIMILAR, item_ids=(item_id,))


def similar_response(result: RankResult, *, named: bool) -> ranker_pb2.SimilarResponse:
    """The answer on the wire; ``named``: under its rank_id."""
    return ranker_pb2.SimilarResponse(
        slate=slate_message(result),
        rank_id=result.rank_id if named else "",
        bundle_version=result.bundle_version,
        degraded=degradation_messages(result),
        timings=timing_messages(result),
        traffic_class=traffic_class(result.traffic),
    )


def score_command(request: ranker_pb2.ScoreRequest, checked: Checked) -> RankCommand:
    """The command, of which nothing is written. Raises ``InvalidArgument`` and ``NotFound``."""
    command = checked(
        ranker_pb2.RankRequest(
            actor=request.actor,
            surface=request.surface,
            context=request.context if request.HasField("context") else None,
            traffic_class=request.traffic_class,
            forced_variants=request.forced_variants,
            dry_run=True,
        )
    )
    require_count("item_ids", len(request.item_ids), 1, MAX_SCORED_ITEMS)
    for index, item_id in enumerate(request.item_ids):
        require_id(f"item_ids[{index}]", item_id)
    _require_distinct("item_ids", request.item_ids)
    return replace(command, call=Call.SCORE, item_ids=tuple(request.item_ids))


def score_response(result: RankResult) -> ranker_pb2.ScoreResponse:
    """The answer on the wire."""
    return ranker_pb2.ScoreResponse(
        scored=slate_message(result, placed=False),
        removed=_removed(result.removed),
        assignments=assignment_messages(result),
        bundle_version=result.bundle_version,
        degraded=degradation_messages(result),
        timings=timing_messages(result),
        traffic_class=traffic_class(result.traffic),
    )


def _removed(removed: Sequence[Removed]) -> list[ranker_pb2.RemovedItem]:
    return [ranker_pb2.RemovedItem(id=id_, reason=reason) for id_, reason in removed]


def _call_error(error: PodiumError) -> ranker_pb2.CallError:
    return ranker_pb2.CallError(code=code_number(error), reason=error.reason, message=error.message)


def _require_distinct(field: str, values: Sequence[object]) -> None:
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise InvalidArgument.field(f"{field}[{index}]", "is there twice, must be there once")
        seen.add(value)


def _fingerprint(request: Message) -> bytes:
    return hashlib.blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()
