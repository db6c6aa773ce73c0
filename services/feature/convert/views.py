"""Views and leaders, from and to messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from podium.feature.v1 import feature_pb2
from services.common.convert_limits import (
    MAX_NAME_BYTES,
    optional_text,
    require_count,
    require_range,
    require_text,
)
from services.common.errors import InvalidArgument
from services.feature.rows.leaders import DecayedScore, FeatureScore, Leader, RisingScore, Score
from services.feature.views.documents import ViewDocument
from services.feature.views.generations import Building

MAX_LEADERS = 100
DEFAULT_LEADERS = 20
MAX_DECAYED_FEATURES = 16
DEFAULT_PRIOR = 5.0
_GREATEST = 1e15


def list_views_response(
    documents: Iterable[ViewDocument],
    building: Building | None,
    log_position: int,
    build: int,
    store_key_version: int,
    key_version: int,
) -> feature_pb2.ListViewsResponse:
    """What is served and built."""
    response = feature_pb2.ListViewsResponse(
        views=_served(documents),
        log_position=log_position,
        build=build,
        store_key_version=store_key_version,
        key_version=key_version,
    )
    if building is not None:
        response.building.CopyFrom(
            feature_pb2.StoreBuild(
                new_views=_served(building.views),
                log_position=building.position,
                log_end=building.log_position,
            )
        )
    return response


def requested_score(request: feature_pb2.TopEntitiesRequest) -> Score:
    """What leads. Raises ``InvalidArgument``."""
    match request.WhichOneof("score"):
        case "feature":
            return FeatureScore(require_text("feature", request.feature, MAX_NAME_BYTES))
        case "rising":
            rising = request.rising
            prior = rising.prior if rising.HasField("prior") else DEFAULT_PRIOR
            return RisingScore(
                require_text("rising.recent", rising.recent, MAX_NAME_BYTES),
                require_text("rising.baseline", rising.baseline, MAX_NAME_BYTES),
                _positive("rising.prior", prior),
            )
        case "decayed":
            names = request.decayed.features
            require_count("decayed.features", len(names), 1, MAX_DECAYED_FEATURES)
            half_life_ms = request.decayed.half_life.ToMilliseconds()
            return DecayedScore(
                tuple(
                    require_text(f"decayed.features[{number}]", name, MAX_NAME_BYTES)
                    for number, name in enumerate(names)
                ),
                _positive("decayed.half_life", half_life_ms),
            )
        case _:
            raise InvalidArgument.field("score", "one of feature, rising, decayed is required")


def requested_limit(request: feature_pb2.TopEntitiesRequest) -> int:
    """How many leaders at most."""
    if not request.HasField("limit"):
        return DEFAULT_LEADERS
    return require_range("limit", request.limit, 1, MAX_LEADERS)


def required_feature(request: feature_pb2.TopEntitiesRequest) -> str:
    """Feature that leaders must have; empty for none."""
    return optional_text("required", request.required, MAX_NAME_BYTES)


def top_entities_response(
    found: Sequence[Leader], as_of_ms: int, view_hash: str
) -> feature_pb2.TopEntitiesResponse:
    """The leaders."""
    response = feature_pb2.TopEntitiesResponse(
        ids=[leader.identity for leader in found],
        scores=[leader.score for leader in found],
        view_hash=view_hash,
    )
    response.as_of.FromMilliseconds(as_of_ms)
    return response


def _served(documents: Iterable[ViewDocument]) -> list[feature_pb2.ServedView]:
    return [
        feature_pb2.ServedView(
            entity_type=document.entity,
            view_name=document.name,
            view_hash=document.hash,
            features=document.feature_names(),
        )
        for document in sorted(documents, key=lambda document: (document.entity, document.hash))
    ]


def _positive(field: str, value: float) -> float:
    if not math.isfinite(value) or not 0 < value <= _GREATEST:
        raise InvalidArgument.field(field, f"is {value}, must be more than 0, up to {_GREATEST:g}")
    return value
