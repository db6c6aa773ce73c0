"""Answers as the events that the log keeps of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.convert_limits import (
    MAX_SERVED_FEATURES_BYTES,
)
from services.common.ids import event_id_of
from services.ranker.convert.rank import assignment_messages, traffic_class
from services.ranker.types import (
    Degradation,
    Drawn,
    Placement,
    RankResult,
)

_PLACEMENT = {
    Placement.VALUE: event_pb2.SlateServed.PLACEMENT_VALUE,
    Placement.DRAWN: event_pb2.SlateServed.PLACEMENT_DRAWN,
    Placement.PIN: event_pb2.SlateServed.PLACEMENT_PIN,
    Placement.NEW_ITEM: event_pb2.SlateServed.PLACEMENT_NEW_ITEM,
    Placement.FLOOR: event_pb2.SlateServed.PLACEMENT_FLOOR,
}


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
        traffic_class=traffic_class(result.traffic),
        slate_served=served,
    )
    for assigned, assignment in zip(result.assignments, assignments, strict=True):
        # Nobody sees a shadow's slate.
        if assigned.variant_key and not command.shadow_of:
            yield event_pb2.Event(
                event_id=event_id_of(result.rank_id, assigned.experiment_key),
                type="exposure",
                event_time=event_time,
                actor=actor,
                rank_id=result.rank_id,
                surface=command.surface,
                traffic_class=traffic_class(result.traffic),
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


def _degraded_text(degradation: Degradation) -> str:
    text = f"{degradation.part.name}:{degradation.reason.name}"
    return f"{text}:{degradation.name}" if degradation.name else text


def _exploration(drawn: Drawn) -> event_pb2.Exploration:
    adjustments, similarities = drawn.adjustments, drawn.similarities
    earlier = drawn.earlier_similarities
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
        earlier_similarities=b"" if earlier is None else earlier.tobytes(),
    )
