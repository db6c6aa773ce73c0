"""Between the wire and the core: requests, answers, feature blocks, watch messages, events.

The limits of requests are enforced here; what is wrong names the field and the limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.convert_assignment import assignment_message
from services.common.convert_feature_block import block_columns
from services.common.convert_limits import (
    MAX_K,
    MAX_NAME_BYTES,
    MAX_SERVED_FEATURES_BYTES,
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
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.ids import event_id_of
from services.ranker.catalogue.replica import (
    Delta,
    Heartbeat,
    Reset,
    SnapshotChunk,
    SnapshotEnd,
    WatchMessage,
)
from services.ranker.convert_filter import caller_filter
from services.ranker.filters.tree import Expression
from services.ranker.types import (
    Circumstances,
    Degradation,
    Drawn,
    FeatureRows,
    Part,
    Placement,
    RankCommand,
    RankResult,
    Reason,
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
_PLACEMENT = {
    Placement.VALUE: event_pb2.SlateServed.PLACEMENT_VALUE,
    Placement.DRAWN: event_pb2.SlateServed.PLACEMENT_DRAWN,
    Placement.PIN: event_pb2.SlateServed.PLACEMENT_PIN,
    Placement.NEW_ITEM: event_pb2.SlateServed.PLACEMENT_NEW_ITEM,
    Placement.FLOOR: event_pb2.SlateServed.PLACEMENT_FLOOR,
}


def rank_command(
    request: ranker_pb2.RankRequest,
    surfaces: Collection[str],
    filterable: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    takes_candidates: Collection[str] = (),
) -> RankCommand:
    """A checked request. ``filterable``: by surface, what a caller may filter by and what it holds;
    ``takes_candidates``: surfaces that have a source for candidate ids.

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
    wanted: Expression | None = None
    if request.HasField("filter"):
        wanted = caller_filter("filter", request.filter, filterable.get(surface, {}))
    return RankCommand(
        surface=surface,
        user_id=user_id,
        device_id=device_id,
        k=k,
        context=context,
        traffic=_TRAFFIC[require_traffic_class("traffic_class", request.traffic_class)],
        dry_run=request.dry_run,
        forced_variants=(
            forced_variants("forced_variants", request.forced_variants)
            if request.forced_variants
            else {}
        ),
        circumstances=Circumstances() if context is None else _circumstances(context),
        filter=wanted,
        filter_digest=_digest(request.filter) if wanted is not None else bytes(8),
        candidate_ids=(
            _candidate_ids(request, surface, takes_candidates) if request.candidate_ids else ()
        ),
    )


def _digest(message: Message) -> bytes:
    """8 bytes that stand for a message."""
    data = message.SerializeToString(deterministic=True)
    return hashlib.blake2b(data, digest_size=8).digest()


def _circumstances(context: common_pb2.RequestContext) -> Circumstances:
    """What filters read of a checked context."""
    attributes = require_attributes("context.attributes", context.attributes)
    return Circumstances(context.locale, context.region, attributes)


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
    slate, first = result.slate, result.first_position
    return ranker_pb2.Slate(
        entity_type=slate.entity_type,
        ids=slate.ids,
        selling_course_ids=slate.selling_course_ids,
        sources=slate.sources,
        values=slate.values.tolist(),
        objectives=slate.objectives,
        predictions=slate.predictions.ravel().tolist(),
        positions=range(first, first + len(slate.ids)) if placed else (),
        prices_minor=result.prices_minor,
        interleaving_teams=slate.teams,
    )


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
        slate=slate_message(result),
        rank_id=result.rank_id,
        assignments=assignment_messages(result),
        bundle_version=result.bundle_version,
        degraded=degradation_messages(result),
        timings=timing_messages(result),
        traffic_class=traffic_class(result.traffic),
        next_page_token=next_page_token,
        refresh_token=refresh_token,
        parent_rank_id=result.parent_rank_id,
        idempotency=idempotency,
    )


def slate_events(
    result: RankResult, now_ns: int, *, with_features: bool = False
) -> Iterator[event_pb2.Event]:
    """The slate as it was served, then one exposure an experiment; actors are raw. Event ids follow
    from the rank_id: what is answered twice under one is logged once.

    ``now_ns`` is nanoseconds since the epoch. ``with_features``: with the user's, where they were
    read and are not too large.
    """
    command, slate = result.command, result.slate
    drawn = slate.drawn
    event_time = Timestamp()
    event_time.FromNanoseconds(now_ns)
    actor = common_pb2.Actor(user_id=command.user_id, device_id=command.device_id)
    assignments = assignment_messages(result)
    context, first = command.context, result.first_position
    served = event_pb2.SlateServed(
        surface=command.surface,
        entity_type=slate.entity_type,
        item_ids=slate.ids,
        selling_course_ids=slate.selling_course_ids,
        sources=slate.sources,
        values=slate.values.tolist(),
        objectives=slate.objectives,
        predictions=slate.predictions.ravel().tolist(),
        bundle_version=result.bundle_version,
        policy=result.policy,
        assignments=assignments,
        context=context if isinstance(context, common_pb2.RequestContext) else None,
        degraded=[_degraded_text(degradation) for degradation in result.degraded],
        feature_view_hash=result.view_hash,
        feature_log_position=result.log_position,
        user_features=_served_features(result) if with_features else None,
        parent_rank_id=result.parent_rank_id,
        positions=range(first, first + len(slate.ids)),
        prices_minor=result.prices_minor,
        placements=[_PLACEMENT[how] for how in slate.placements],
        interleaving_teams=slate.teams,
        log_propensities=() if drawn is None else drawn.log_propensities.tolist(),
        feasible_counts=() if drawn is None else drawn.feasible.sum(axis=1).tolist(),
        exploration=None if drawn is None else _exploration(drawn),
    )
    yield event_pb2.Event(
        event_id=event_id_of(result.rank_id, "slate"),
        type="slate_served",
        event_time=event_time,
        actor=actor,
        rank_id=result.rank_id,
        surface=command.surface,
        traffic_class=_TRAFFIC_CLASS[result.traffic],
        slate_served=served,
    )
    for assigned, assignment in zip(result.assignments, assignments, strict=True):
        if assigned.variant_key:
            yield event_pb2.Event(
                event_id=event_id_of(result.rank_id, assigned.experiment_key),
                type="exposure",
                event_time=event_time,
                actor=actor,
                rank_id=result.rank_id,
                surface=command.surface,
                traffic_class=_TRAFFIC_CLASS[result.traffic],
                exposure=event_pb2.Exposure(assignment=assignment),
            )


def _served_features(result: RankResult) -> event_pb2.ServedFeatures | None:
    """The user's row; None where it was not read, or is too large."""
    rows, row = result.rows, result.row
    if not rows.evaluated_ms:
        return None
    width = len(rows.string_names)
    lists = [rows.strings_of(row, name) for name in rows.list_names]
    served = event_pb2.ServedFeatures(
        float_features=rows.float_names,
        float_values=rows.floats[row].tolist(),
        int_features=rows.int_names,
        int_values=rows.ints[row].tolist(),
        string_features=rows.string_names,
        string_values=rows.strings[row * width : (row + 1) * width],
        list_features=rows.list_names,
        list_sizes=[len(values) for values in lists],
        list_values=[value for values in lists for value in values],
    )
    served.evaluated_at.FromMilliseconds(rows.evaluated_ms)
    return served if served.ByteSize() <= MAX_SERVED_FEATURES_BYTES else None


def feature_rows(
    ids: Sequence[str],
    block: feature_pb2.FeatureBlock,
    log_position: int = 0,
    evaluated_ms: int = 0,
) -> FeatureRows:
    """A decoded block, vectors aside: no part of ranking reads one. Raises ``FailedPrecondition``
    when its parts do not fit together."""
    if block.rows != len(ids):
        raise FailedPrecondition(
            f"a feature block of {block.rows} rows does not fit {len(ids)} ids"
        )
    columns = block_columns(block)
    return FeatureRows(
        ids=ids,
        float_names=columns.float_names,
        floats=columns.floats,
        int_names=columns.int_names,
        ints=columns.ints,
        string_names=columns.string_names,
        strings=columns.strings,
        list_names=columns.list_names,
        list_offsets=columns.list_offsets,
        list_values=columns.list_values,
        # Statuses of vectors come last.
        statuses=columns.statuses[:, : columns.statuses.shape[1] - len(columns.vector_names)]
        if columns.statuses.size
        else columns.statuses,
        log_position=log_position,
        evaluated_ms=evaluated_ms,
    )


def watch_message(message: feature_pb2.WatchEntitiesResponse) -> WatchMessage:
    """One step of the catalogue's watch."""
    as_of_ms = message.as_of.ToMilliseconds() if message.HasField("as_of") else 0
    return WatchMessage(_step(message), message.resume_token, as_of_ms)


def _step(
    message: feature_pb2.WatchEntitiesResponse,
) -> Reset | SnapshotChunk | SnapshotEnd | Delta | Heartbeat:
    match message.WhichOneof("step"):
        case "reset":
            return Reset()
        case "snapshot_chunk":
            chunk = message.snapshot_chunk
            return SnapshotChunk(chunk.entity_type, feature_rows(chunk.ids, chunk.block))
        case "snapshot_end":
            return SnapshotEnd(message.snapshot_end.rows)
        case "delta":
            return Delta(
                [(u.entity_type, feature_rows(u.ids, u.block)) for u in message.delta.upserts],
                [(gone.type, gone.id) for gone in message.delta.tombstones],
            )
        case _:
            return Heartbeat()


def _degradation(degradation: Degradation) -> ranker_pb2.Degradation:
    return ranker_pb2.Degradation(
        part=_PART[degradation.part],
        reason=_REASON[degradation.reason],
        name=degradation.name,
    )


def _degraded_text(degradation: Degradation) -> str:
    text = f"{degradation.part.name}:{degradation.reason.name}"
    return f"{text}:{degradation.name}" if degradation.name else text


def _exploration(drawn: Drawn) -> event_pb2.Exploration:
    adjustments, similarities = drawn.adjustments, drawn.similarities
    return event_pb2.Exploration(
        seed=drawn.seed,
        share=drawn.share,
        temperature=drawn.temperature,
        similarity_weight=drawn.similarity_weight,
        spread=drawn.spread,
        weights=drawn.weights.tolist(),
        candidate_ids=drawn.candidate_ids,
        considered_count=drawn.considered_count,
        terms=drawn.terms.astype("<f4").tobytes(),
        adjustments=b"" if adjustments is None else adjustments.astype("<f4").tobytes(),
        similarities=b"" if similarities is None else similarities.tobytes(),
        feasible=np.packbits(drawn.feasible, axis=1, bitorder="little").tobytes(),
        chosen=drawn.chosen.tolist(),
    )
