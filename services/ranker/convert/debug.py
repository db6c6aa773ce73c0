"""Explanations on the wire."""

from __future__ import annotations

import math

from podium.ranker.v1 import debug_pb2
from services.ranker.explain.attribution import USER, Moved
from services.ranker.explain.explanation import Explanation, FirstPassTold, Item
from services.ranker.explain.versions import Versions
from services.ranker.types import Placement

_PLACEMENT = {
    Placement.VALUE: debug_pb2.ItemDebug.PLACEMENT_VALUE,
    Placement.DRAWN: debug_pb2.ItemDebug.PLACEMENT_DRAWN,
    Placement.PIN: debug_pb2.ItemDebug.PLACEMENT_PIN,
    Placement.NEW_ITEM: debug_pb2.ItemDebug.PLACEMENT_NEW_ITEM,
    Placement.FLOOR: debug_pb2.ItemDebug.PLACEMENT_FLOOR,
}


def debug_message(explanation: Explanation) -> debug_pb2.Debug:
    """An explanation on the wire."""
    return debug_pb2.Debug(
        items=[_item(item) for item in explanation.items],
        objectives=explanation.objectives,
        weights=explanation.weights.tolist(),
        policy=explanation.policy,
        sources=[
            debug_pb2.SourceDebug(
                source=count.source,
                found_count=count.found,
                candidate_count=count.candidates,
                shown_count=count.shown,
            )
            for count in explanation.sources
        ],
        filters=[
            debug_pb2.FilterDebug(reason=reason, removed_count=count)
            for reason, count in explanation.removed_by
        ],
        removed=[
            debug_pb2.RemovedDebug(id=id_, reason=reason) for id_, reason in explanation.removed
        ],
        scored_count=explanation.scored,
        over_load_count=explanation.over_load,
        candidates_level=explanation.level,
        seed=explanation.seed,
        versions=_versions(explanation.versions),
        captured=explanation.captured,
        first_pass=_first_pass(explanation.first_pass),
    )


def _first_pass(told: FirstPassTold | None) -> debug_pb2.FirstPassDebug | None:
    if told is None:
        return None
    return debug_pb2.FirstPassDebug(
        candidate_count=told.candidates,
        is_learned=told.learned,
        cut=[
            debug_pb2.CutDebug(id=cut.id, value=_number(cut.value), place=cut.place)
            for cut in told.cut
        ],
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _item(item: Item) -> debug_pb2.ItemDebug:
    first_pass = item.first_pass
    return debug_pb2.ItemDebug(
        id=item.id,
        found_by=[
            debug_pb2.FoundByDebug(source=found.source, place=found.place)
            for found in item.found_by
        ],
        value=item.value,
        value_place=item.value_place,
        probabilities=item.probabilities.tolist(),
        terms=item.terms.tolist(),
        margin=_number(item.margin),
        pacing=item.pacing,
        like_id=item.like,
        likeness=item.likeness,
        likeness_cost=item.likeness_cost,
        placement=_PLACEMENT[item.placement],
        features=[_feature(moved) for moved in item.features],
        first_pass_value=None if first_pass is None else _number(first_pass.value),
        first_pass_place=None if first_pass is None else first_pass.place,
    )


def _feature(moved: Moved) -> debug_pb2.FeatureDebug:
    is_users = moved.side == USER
    return debug_pb2.FeatureDebug(
        side=debug_pb2.FeatureDebug.SIDE_USER if is_users else debug_pb2.FeatureDebug.SIDE_ITEM,
        name=moved.feature,
        feature_value=_number(moved.feature_value),
        value=moved.value,
        probabilities=moved.probabilities.tolist(),
    )


def _versions(versions: Versions) -> debug_pb2.VersionsDebug:
    return debug_pb2.VersionsDebug(
        domain_hash=versions.origin.domain_hash,
        experiments_hash=versions.origin.experiments_hash,
        feature_view_hash=versions.feature_view,
        feature_log_position=versions.log_position,
        catalogue_change=versions.catalogue,
    )
