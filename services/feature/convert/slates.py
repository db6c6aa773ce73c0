"""Limits of what a logged slate holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from podium.event.v1.event_pb2 import (
    Exploration,
    ServedFeatures,
    SlateServed,
)
from services.common.convert_limits import (
    MAX_AMOUNT_MINOR,
    MAX_ASSIGNMENTS,
    MAX_COUNT,
    MAX_DEGRADED,
    MAX_ID_BYTES,
    MAX_K,
    MAX_NAME_BYTES,
    MAX_OBJECTIVES,
    MAX_SERVED_FEATURES,
    MAX_SERVED_FEATURES_BYTES,
    MAX_VIEW_HASH_BYTES,
    optional_id,
    optional_text,
    require_assignment,
    require_context,
    require_count,
    require_id,
    require_range,
    require_text,
)
from services.common.domain_selection import MAX_DRAWN
from services.common.errors import InvalidArgument

_PLACEMENTS = frozenset(SlateServed.Placement.values()) - {SlateServed.PLACEMENT_UNSPECIFIED}


def check_slate(place: str, slate: SlateServed) -> None:
    """Raises ``InvalidArgument`` for a slate over a limit, or whose columns differ in length."""
    require_text(f"{place}.surface", slate.surface, MAX_NAME_BYTES)
    optional_text(f"{place}.entity_type", slate.entity_type, MAX_NAME_BYTES)
    optional_id(f"{place}.bundle_version", slate.bundle_version)
    optional_id(f"{place}.policy", slate.policy)
    optional_id(f"{place}.parent_rank_id", slate.parent_rank_id)
    optional_text(f"{place}.feature_view_hash", slate.feature_view_hash, MAX_VIEW_HASH_BYTES)
    _check_columns(place, slate)
    _check_features(f"{place}.user_features", slate.user_features)
    _check_placements(place, slate)
    if slate.HasField("exploration"):
        _check_exploration(f"{place}.exploration", slate)
    require_count(f"{place}.assignments", len(slate.assignments), 0, MAX_ASSIGNMENTS)
    for index, assignment in enumerate(slate.assignments):
        require_assignment(f"{place}.assignments[{index}]", assignment)
    require_context(f"{place}.context", slate.context)
    _check_texts(f"{place}.degraded", slate.degraded, MAX_DEGRADED, MAX_NAME_BYTES)


def _check_columns(place: str, slate: SlateServed) -> None:
    count = len(slate.item_ids)
    _check_texts(f"{place}.objectives", slate.objectives, MAX_OBJECTIVES, MAX_NAME_BYTES)
    require_count(f"{place}.item_ids", count, 0, MAX_K)
    for index, identity in enumerate(slate.item_ids):
        require_id(f"{place}.item_ids[{index}]", identity)
    for name in (
        "selling_course_ids",
        "sources",
        "values",
        "positions",
        "prices_minor",
        "log_propensities",
        "feasible_counts",
        "placements",
        "interleaving_teams",
    ):
        if len(getattr(slate, name)) not in (0, count):
            raise InvalidArgument.field(f"{place}.{name}", f"must have {count} elements, or none")
    _check_texts(f"{place}.selling_course_ids", slate.selling_course_ids, MAX_K, MAX_ID_BYTES)
    _check_texts(f"{place}.sources", slate.sources, MAX_K, MAX_NAME_BYTES)
    _check_numbers(f"{place}.positions", slate.positions, 0, MAX_COUNT)
    # -1 stands for a price that the ranker did not know.
    _check_numbers(f"{place}.prices_minor", slate.prices_minor, -1, MAX_AMOUNT_MINOR)
    if len(slate.predictions) not in (0, count * len(slate.objectives)):
        raise InvalidArgument.field(f"{place}.predictions", "must be items x objectives, or none")
    for name in ("values", "predictions"):
        if not np.isfinite(np.fromiter(getattr(slate, name), "f4")).all():
            raise InvalidArgument.field(f"{place}.{name}", "must be finite")


def _check_numbers(field: str, values: Sequence[int], low: int, high: int) -> None:
    for index, value in enumerate(values):
        if not low <= value <= high:
            require_range(f"{field}[{index}]", value, low, high)


def _check_placements(place: str, slate: SlateServed) -> None:
    _check_texts(f"{place}.interleaving_teams", slate.interleaving_teams, MAX_K, MAX_ID_BYTES)
    if not all(-math.inf < number <= 0 for number in slate.log_propensities):
        raise InvalidArgument.field(f"{place}.log_propensities", "must be finite, 0 or less")
    if min(slate.feasible_counts, default=0) < 0:
        raise InvalidArgument.field(f"{place}.feasible_counts", "must be 0 or more")
    if not _PLACEMENTS.issuperset(slate.placements):
        allowed = ", ".join(map(str, sorted(_PLACEMENTS)))
        raise InvalidArgument.field(f"{place}.placements", f"must each be one of {allowed}")


def _check_exploration(place: str, slate: SlateServed) -> None:
    drawn, positions = slate.exploration, len(slate.item_ids)
    count, objectives = len(drawn.candidate_ids), len(slate.objectives)
    _check_texts(f"{place}.candidate_ids", drawn.candidate_ids, MAX_DRAWN, MAX_ID_BYTES)
    _check_policy_numbers(place, drawn)
    for name, size, may_lack in (
        ("terms", 4 * count * objectives, False),
        ("adjustments", 4 * count, True),
        ("similarities", positions * count, True),
        ("earlier_similarities", count, True),
        ("feasible", positions * ((count + 7) // 8), False),
    ):
        found = len(getattr(drawn, name))
        if found != size and not (may_lack and not found):
            raise InvalidArgument.field(f"{place}.{name}", f"has {found} bytes, must have {size}")
    for name, wanted in (("weights", objectives), ("chosen", positions)):
        if len(getattr(drawn, name)) != wanted:
            raise InvalidArgument.field(f"{place}.{name}", f"must have {wanted} elements")
    if not all(-1 <= member < count for member in drawn.chosen):
        raise InvalidArgument.field(f"{place}.chosen", f"must each be -1 to {count - 1}")
    for name in ("terms", "adjustments"):
        if not np.isfinite(np.frombuffer(getattr(drawn, name), "<f4")).all():
            raise InvalidArgument.field(f"{place}.{name}", "must be finite")


def _check_policy_numbers(place: str, drawn: Exploration) -> None:
    for name in ("share", "temperature", "spread"):
        if not 0 < getattr(drawn, name) < math.inf:
            raise InvalidArgument.field(f"{place}.{name}", "must be finite and above 0")
    if not 0 <= drawn.similarity_weight < math.inf:
        raise InvalidArgument.field(f"{place}.similarity_weight", "must be finite, 0 or more")
    if not all(map(math.isfinite, drawn.weights)):
        raise InvalidArgument.field(f"{place}.weights", "must be finite")


def _check_features(place: str, served: ServedFeatures) -> None:
    if served.ByteSize() > MAX_SERVED_FEATURES_BYTES:
        raise InvalidArgument.field(place, f"is larger than {MAX_SERVED_FEATURES_BYTES} bytes")
    for kind, values in (
        ("float", len(served.float_values)),
        ("int", len(served.int_values)),
        ("string", len(served.string_values)),
        ("list", len(served.list_sizes)),
    ):
        names = getattr(served, f"{kind}_features")
        _check_texts(f"{place}.{kind}_features", names, MAX_SERVED_FEATURES, MAX_NAME_BYTES)
        if len(names) != values:
            raise InvalidArgument.field(f"{place}.{kind}_features", f"must have {values} elements")
    if min(served.list_sizes, default=0) < 0 or sum(served.list_sizes) != len(served.list_values):
        raise InvalidArgument.field(f"{place}.list_sizes", "must add up to the list_values")


def _check_texts(field: str, texts: Sequence[str], max_count: int, max_bytes: int) -> None:
    require_count(field, len(texts), 0, max_count)
    for index, text in enumerate(texts):
        optional_text(f"{field}[{index}]", text, max_bytes)
