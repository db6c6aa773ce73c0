"""Explanations on the wire."""

from __future__ import annotations

import math

from podium.ranker.v1 import debug_pb2
from services.ranker.explain.attribution import USER, Moved
from services.ranker.explain.explanation import Explanation, Item
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
    )


def _item(item: Item) -> debug_pb2.ItemDebug:
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
        margin=None if math.isnan(item.margin) else item.margin,
        pacing=item.pacing,
        like_id=item.like,
        likeness=item.likeness,
        likeness_cost=item.likeness_cost,
        placement=_PLACEMENT[item.placement],
        features=[_feature(moved) for moved in item.features],
    )


def _feature(moved: Moved) -> debug_pb2.FeatureDebug:
    is_users = moved.side == USER
    return debug_pb2.FeatureDebug(
        side=debug_pb2.FeatureDebug.SIDE_USER if is_users else debug_pb2.FeatureDebug.SIDE_ITEM,
        name=moved.feature,
        feature_value=None if math.isnan(moved.feature_value) else moved.feature_value,
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
