"""Answers as the events that the log keeps of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.convert_assignment import assignment_message
from services.common.convert_limits import (
    MAX_SERVED_FEATURES_BYTES,
)
from services.common.ids import event_id_of, id_from
from services.ranker.convert.rank import assignment_messages, traffic_class
from services.ranker.exposures import Exposure
from services.ranker.types import (
    Degradation,
    Drawn,
    Placement,
    RankResult,
    StickyChange,
)

_SEGMENTS: Final = ("locale", "region", "device_type", "app_version")
"""What an exposure says of its request, for analysis by segment."""

_PLACEMENT = {
    Placement.VALUE: event_pb2.SlateServed.PLACEMENT_VALUE,
    Placement.DRAWN: event_pb2.SlateServed.PLACEMENT_DRAWN,
    Placement.PIN: event_pb2.SlateServed.PLACEMENT_PIN,
    Placement.NEW_ITEM: event_pb2.SlateServed.PLACEMENT_NEW_ITEM,
    Placement.FLOOR: event_pb2.SlateServed.PLACEMENT_FLOOR,
}


def slate_event(result: RankResult, now_ns: int, *, with_features: bool = False) -> event_pb2.Event:
    """The slate as it was served; the actor is raw. The event's id follows from the rank_id: what
    is answered twice under one is logged once.

    ``now_ns`` is nanoseconds since the epoch. ``with_features``: with the user's, where they were
    read and are not too large.
    """
    command, slate = result.command, result.slate
    drawn = slate.drawn
    context, first = command.context, result.first_position
    # As fields: a message that is put into another is encoded and decoded on the way.
    served = {
        "surface": command.surface,
        "entity_type": slate.entity_type,
        "item_ids": slate.ids,
        "selling_course_ids": slate.selling_course_ids,
        "sources": slate.sources,
        "values": slate.values.tolist(),
        "objectives": slate.objectives,
        "predictions": slate.predictions.ravel().tolist(),
        "bundle_version": result.bundle_version,
        "policy": result.policy,
        "assignments": assignment_messages(result),
        "context": context if isinstance(context, common_pb2.RequestContext) else None,
        "degraded": [_degraded_text(degradation) for degradation in result.degraded],
        "feature_view_hash": result.view_hash,
        "feature_log_position": result.log_position,
        "user_features": _served_features(result) if with_features else None,
        "parent_rank_id": result.parent_rank_id,
        "positions": range(first, first + len(slate.ids)),
        "prices_minor": result.prices_minor,
        "placements": [_PLACEMENT[how] for how in slate.placements],
        "interleaving_teams": slate.teams,
        "log_propensities": () if drawn is None else drawn.log_propensities.tolist(),
        "feasible_counts": () if drawn is None else drawn.feasible.sum(axis=1).tolist(),
        "exploration": None if drawn is None else _exploration(drawn),
    }
    event_id = event_id_of(result.rank_id, "slate")
    return _event(result, event_id, "slate_served", now_ns, slate_served=served)


def exposure_events(
    result: RankResult, exposures: Sequence[Exposure], now_ns: int, seal: Callable[[str], str]
) -> list[event_pb2.Event]:
    """The meetings of units with experiments by an answer. Replicas that tell of the same unit,
    variant and window give the event one id, from which nobody can tell the unit.

    ``seal`` makes a raw id a pseudonym.
    """
    if not exposures:
        return []
    # Most of a first visit's are of one visitor.
    sealed = {unit: seal(unit) for unit in {exposure.unit for exposure in exposures}}
    common, segments = _event(result, "", "exposure", now_ns), _segments(result)
    found = []
    for exposure in exposures:
        assignment, unit, (entity, entity_id), names_visitor, window = exposure
        parts = (
            assignment.experiment_key,
            assignment.variant_key,
            assignment.other_variant_key,
            str(assignment.revision),
            assignment.unit_type,
            sealed[unit],
            entity_id,
            str(window),
            result.traffic.name,
        )
        text = "".join([f"{len(part)}:{part}" for part in parts])
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        event = event_pb2.Event(
            event_id=id_from(digest),
            type=common.type,
            event_time=common.event_time,
            actor=common.actor if names_visitor else None,
            rank_id=common.rank_id,
            surface=common.surface,
            traffic_class=common.traffic_class,
            attributes=segments if names_visitor else None,
            exposure=event_pb2.Exposure(assignment=assignment_message(assignment)),
        )
        if entity:
            event.entities.add(type=entity, id=entity_id)
        found.append(event)
    return found


def _segments(result: RankResult) -> dict[str, common_pb2.AttributeValue]:
    context = result.command.context
    if not isinstance(context, common_pb2.RequestContext):
        return {}
    said = {name: getattr(context, name) for name in _SEGMENTS}
    return {n: common_pb2.AttributeValue(string_value=v) for n, v in said.items() if v}


def sticky_event(result: RankResult, change: StickyChange, now_ns: int) -> event_pb2.Event:
    """What a user or a device keeps from an answer on; the actor is that one alone."""
    unit, unit_id = change.document.unit, change.document.unit_id
    event = _event(result, event_id_of(result.rank_id, f"sticky {unit}"), "sticky_assigned", now_ns)
    event.actor.CopyFrom(
        common_pb2.Actor(user_id=unit_id) if unit == "user" else common_pb2.Actor(device_id=unit_id)
    )
    for entry, variant in change.news.items():
        event.sticky_assigned.assignments[entry] = variant
    return event


def _event(
    result: RankResult, event_id: str, kind: str, now_ns: int, **payload: Any
) -> event_pb2.Event:
    """What the events of an answer have in common, and the payload of one."""
    command = result.command
    event = event_pb2.Event(
        event_id=event_id,
        type=kind,
        actor=common_pb2.Actor(user_id=command.user_id, device_id=command.device_id),
        rank_id=result.rank_id,
        surface=command.surface,
        traffic_class=traffic_class(result.traffic),
        **payload,
    )
    event.event_time.FromNanoseconds(now_ns)
    return event


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
