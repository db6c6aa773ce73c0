"""Between the wire and the core: requests to Rank, and answers.

The limits of requests are enforced here; what is wrong names the field and the limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.convert_assignment import assignment_message
from services.common.convert_evaluation import (
    attributes_of,
    context_documents,
    context_units,
    document_messages,
)
from services.common.convert_limits import (
    MAX_K,
    MAX_NAME_BYTES,
    forced_variants,
    require_actor,
    require_attributes,
    require_context,
    require_count,
    require_id,
    require_range,
    require_text,
    require_traffic_class,
)
from services.common.domain_sources import MAX_CANDIDATE_IDS
from services.common.errors import InvalidArgument, NotFound
from services.ranker.convert.debug import debug_message
from services.ranker.convert.filter import caller_filter
from services.ranker.filters.tree import Expression
from services.ranker.types import (
    NOTHING_MORE,
    Circumstances,
    Degradation,
    Part,
    RankCommand,
    RankResult,
    Reason,
    SeenByExperiments,
    Traffic,
)

_TRAFFIC = {
    common_pb2.TRAFFIC_CLASS_UNSPECIFIED: Traffic.LIVE,
    common_pb2.TRAFFIC_CLASS_LIVE: Traffic.LIVE,
    common_pb2.TRAFFIC_CLASS_TEST: Traffic.TEST,
    common_pb2.TRAFFIC_CLASS_LOAD: Traffic.LOAD,
    common_pb2.TRAFFIC_CLASS_SHADOW: Traffic.SHADOW,
    common_pb2.TRAFFIC_CLASS_REPLAY: Traffic.REPLAY,
}


_TRAFFIC_CLASS = {
    Traffic.LIVE: common_pb2.TRAFFIC_CLASS_LIVE,
    Traffic.TEST: common_pb2.TRAFFIC_CLASS_TEST,
    Traffic.LOAD: common_pb2.TRAFFIC_CLASS_LOAD,
    Traffic.SHADOW: common_pb2.TRAFFIC_CLASS_SHADOW,
    Traffic.REPLAY: common_pb2.TRAFFIC_CLASS_REPLAY,
}


_PART = {
    Part.USER_FEATURES: ranker_pb2.Degradation.PART_USER_FEATURES,
    Part.CATALOGUE: ranker_pb2.Degradation.PART_CATALOGUE,
    Part.RETRIEVAL: ranker_pb2.Degradation.PART_RETRIEVAL,
    Part.SCORING: ranker_pb2.Degradation.PART_SCORING,
    Part.EXPERIMENTS: ranker_pb2.Degradation.PART_EXPERIMENTS,
}


_REASON = {
    Reason.UNAVAILABLE: ranker_pb2.Degradation.REASON_UNAVAILABLE,
    Reason.TIMEOUT: ranker_pb2.Degradation.REASON_TIMEOUT,
    Reason.STALE: ranker_pb2.Degradation.REASON_STALE,
    Reason.NON_FINITE: ranker_pb2.Degradation.REASON_NON_FINITE,
    Reason.UNKNOWN_VIEW: ranker_pb2.Degradation.REASON_UNKNOWN_VIEW,
    Reason.FAILED: ranker_pb2.Degradation.REASON_FAILED,
    Reason.REPLACED: ranker_pb2.Degradation.REASON_REPLACED,
    Reason.OVERLOADED: ranker_pb2.Degradation.REASON_OVERLOADED,
}


def rank_command(
    request: ranker_pb2.RankRequest,
    surfaces: Collection[str],
    filterable: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    takes_candidates: Collection[str] = (),
    deadline_s: float | None = None,
) -> RankCommand:
    """A checked request. ``filterable``: by surface, what a caller may filter by and what it holds;
    ``takes_candidates``: surfaces that have a source for candidate ids; ``deadline_s``: until when
    the caller waits, on the monotonic clock.

    Raises ``InvalidArgument``, or ``NotFound`` for an unknown surface.
    """
    surface = require_text("surface", request.surface, MAX_NAME_BYTES)
    if surface not in surfaces:
        raise NotFound(f"surface: {surface!r} is not declared", reason="UNKNOWN_SURFACE")
    user_id, device_id = require_actor("actor", request.actor)
    k = require_range("k", request.k, 1, MAX_K) if request.HasField("k") else None
    context = None
    if request.HasField("context"):
        context = require_context("context", request.context)
    candidate_ids: Sequence[str] = ()
    if request.candidate_ids:
        candidate_ids = _candidate_ids(request, surface, takes_candidates)
    wanted: Expression | None = None
    if request.HasField("filter"):
        wanted = caller_filter("filter", request.filter, filterable.get(surface, {}))
    if request.debug and request.idempotency_key:
        raise InvalidArgument.field("debug", "is not given together with an idempotency_key")
    return RankCommand(
        surface=surface,
        user_id=user_id,
        device_id=device_id,
        k=k,
        context=context,
        traffic=_TRAFFIC[require_traffic_class("traffic_class", request.traffic_class)],
        debug=request.debug,
        dry_run=request.dry_run,
        forced_variants=(
            forced_variants("forced_variants", request.forced_variants)
            if request.forced_variants
            else {}
        ),
        circumstances=Circumstances() if context is None else _circumstances(context),
        filter=wanted,
        filter_digest=_digest(request.filter) if wanted is not None else bytes(8),
        candidate_ids=candidate_ids,
        candidates_digest=_texts_digest(candidate_ids) if candidate_ids else bytes(8),
        seen=(
            seen_by_experiments("evaluation_context", request.evaluation_context)
            if request.HasField("evaluation_context")
            else NOTHING_MORE
        ),
        deadline_s=deadline_s,
    )


def _digest(message: Message) -> bytes:
    """8 bytes that stand for a message."""
    data = message.SerializeToString(deterministic=True)
    return hashlib.blake2b(data, digest_size=8).digest()


def _texts_digest(texts: Sequence[str]) -> bytes:
    """8 bytes that stand for some texts in their order."""
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()


def _circumstances(context: common_pb2.RequestContext) -> Circumstances:
    """What filters read of a checked context."""
    attributes = require_attributes("context.attributes", context.attributes)
    return Circumstances(context.locale, context.region, attributes)


def seen_by_experiments(field: str, sent: experiment_pb2.EvaluationContext) -> SeenByExperiments:
    """What experiments see beside actor and context. Raises ``InvalidArgument``."""
    return SeenByExperiments(
        context_units(field, sent),
        attributes_of(f"{field}.attributes", sent.attributes),
        context_documents(field, sent) or {},
    )


def _candidate_ids(
    request: ranker_pb2.RankRequest, surface: str, takes_candidates: Collection[str]
) -> Sequence[str]:
    field = "candidate_ids"
    if surface not in takes_candidates:
        raise InvalidArgument.field(field, f"surface {surface!r} has no source of kind caller")
    require_count(field, len(request.candidate_ids), 0, MAX_CANDIDATE_IDS)
    return [require_id(f"{field}[{n}]", id_) for n, id_ in enumerate(request.candidate_ids)]


def slate_message(result: RankResult, *, placed: bool = True) -> ranker_pb2.Slate:
    """The slate of an answer; ``placed``: with its positions."""
    return ranker_pb2.Slate(**_slate_fields(result, placed=placed))


def _slate_fields(result: RankResult, *, placed: bool) -> dict[str, Any]:
    """Fields of a slate: a message that is put into another is encoded and decoded on the way."""
    slate, first = result.slate, result.first_position
    return {
        "entity_type": slate.entity_type,
        "ids": slate.ids,
        "selling_course_ids": slate.selling_course_ids,
        "sources": slate.sources,
        "values": slate.values.tolist(),
        "objectives": slate.objectives,
        "predictions": slate.predictions.ravel().tolist(),
        "positions": range(first, first + len(slate.ids)) if placed else (),
        "prices_minor": result.prices_minor,
        "interleaving_teams": slate.teams,
    }


def assignment_messages(result: RankResult) -> list[common_pb2.Assignment]:
    """The variants of an answer."""
    return [assignment_message(assigned) for assigned in result.assignments]


def degradation_messages(result: RankResult) -> list[ranker_pb2.Degradation]:
    """The parts that an answer does without."""
    return [_degradation(degradation) for degradation in result.degraded]


def timing_messages(result: RankResult) -> list[ranker_pb2.StageTiming]:
    """How long the stages of an answer took."""
    return [
        ranker_pb2.StageTiming(stage=stage, duration_us=duration_us)
        for stage, duration_us in result.timings
    ]


def traffic_class(traffic: Traffic) -> common_pb2.TrafficClass:
    """The class of traffic on the wire."""
    return _TRAFFIC_CLASS[traffic]


def rank_response(
    result: RankResult,
    tokens: tuple[str, str] = ("", ""),
    idempotency: ranker_pb2.Idempotency = ranker_pb2.IDEMPOTENCY_UNSPECIFIED,
) -> ranker_pb2.RankResponse:
    """The answer on the wire. ``tokens``: of the next page, and to refresh."""
    next_page_token, refresh_token = tokens
    return ranker_pb2.RankResponse(
        slate=_slate_fields(result, placed=True),
        rank_id=result.rank_id,
        assignments=assignment_messages(result),
        bundle_version=result.bundle_version,
        degraded=degradation_messages(result),
        timings=[{"stage": stage, "duration_us": us} for stage, us in result.timings],
        traffic_class=traffic_class(result.traffic),
        next_page_token=next_page_token,
        refresh_token=refresh_token,
        parent_rank_id=result.parent_rank_id,
        idempotency=idempotency,
        debug=None if result.explain is None else debug_message(result.explain()),
        sticky_changes=document_messages(change.document for change in result.sticky),
    )


def _degradation(degradation: Degradation) -> ranker_pb2.Degradation:
    return ranker_pb2.Degradation(
        part=_PART[degradation.part],
        reason=_REASON[degradation.reason],
        name=degradation.name,
        age_ms=degradation.age_ms,
    )
