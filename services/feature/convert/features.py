"""Feature rows and the requests for them, from and to messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from podium.common.v1.common_pb2 import EntityRef
from podium.feature.v1 import feature_pb2
from services.common.actor import actor_key, split_actor_key
from services.common.convert_limits import (
    MAX_FEATURE_IDS,
    MAX_NAME_BYTES,
    MAX_STICKY_IDS,
    MAX_VIEW_HASH_BYTES,
    MAX_VIEW_NAME_BYTES,
    MAX_WATCH_VIEWS,
    optional_text,
    require_count,
    require_id,
    require_ids,
)
from services.common.errors import InvalidArgument
from services.feature.definitions import USER_ENTITY, FeatureView, pair_id
from services.feature.rows.lookup import Lookup
from services.feature.rows.packed import RowBlock, RowPacker, encoded_part
from services.feature.rows.rows import DTYPE_ORDER, PRESENT, Row


@dataclass(frozen=True)
class ViewName:
    """A view as a request names it."""

    entity: str
    name: str
    hash: str


def requested_view(
    message: feature_pb2.GetFeaturesRequest
    | feature_pb2.EntityView
    | feature_pb2.TopEntitiesRequest,
    at: str = "",
) -> ViewName:
    """The view a message names; ``at`` is the message's path with its dot.

    Names that are too long are refused here, since the errors about unknown ones repeat them.
    """
    return ViewName(
        optional_text(f"{at}entity_type", message.entity_type, MAX_NAME_BYTES),
        optional_text(f"{at}view_name", message.view_name, MAX_VIEW_NAME_BYTES),
        optional_text(f"{at}view_hash", message.view_hash, MAX_VIEW_HASH_BYTES),
    )


def feature_keys(
    request: feature_pb2.GetFeaturesRequest, encrypt: Callable[[str], str], *, pairs: bool
) -> list[str]:
    """Stored ids of the entities asked for: users' become pseudonyms, ``pairs`` one id each."""
    require_count("ids", len(request.ids), 1, MAX_FEATURE_IDS)
    if not pairs:
        require_count("pair_ids", len(request.pair_ids), 0, 0)
        if request.entity_type != USER_ENTITY:
            return require_ids("ids", request.ids)
        return [_user_key("ids", index, found, encrypt) for index, found in enumerate(request.ids)]
    count = len(request.ids)
    require_count("pair_ids", len(request.pair_ids), count, count)
    return [
        pair_id(_user_key("ids", index, user, encrypt), require_id(f"pair_ids[{index}]", other))
        for index, (user, other) in enumerate(zip(request.ids, request.pair_ids, strict=True))
    ]


def _user_key(field: str, index: int, identity: str, encrypt: Callable[[str], str]) -> str:
    user_id, device_id = split_actor_key(identity)
    require_id(f"{field}[{index}]", user_id or device_id)
    return actor_key(encrypt(user_id), encrypt(device_id))


def watched_views(request: feature_pb2.WatchEntitiesRequest) -> list[ViewName]:
    """Views to watch, one an entity type."""
    require_count("views", len(request.views), 1, MAX_WATCH_VIEWS)
    views = [requested_view(view, f"views[{index}].") for index, view in enumerate(request.views)]
    if len({view.entity for view in views}) < len(views):
        raise InvalidArgument.field("views", "an entity type is named twice")
    return views


def feature_block(view: FeatureView, rows: RowBlock) -> feature_pb2.FeatureBlock:
    """Rows of a view as columns by dtype."""
    return feature_pb2.FeatureBlock.FromString(encoded_block(view, rows))


def encoded_block(view: FeatureView, rows: RowBlock) -> bytes:
    """A ``FeatureBlock`` of rows of a view, as columns by dtype. Their texts are encoded already:
    the encodings of a message's fields, one after another, are the message's."""
    floats, ints, strings, lists, vectors = (view.names(dtype) for dtype in DTYPE_ORDER)
    all_present = rows.statuses.count(PRESENT) == len(rows.statuses)
    block = feature_pb2.FeatureBlock(
        rows=rows.rows,
        float_features=floats,
        float_values=rows.floats,
        int_features=ints,
        int_values=rows.ints,
        string_features=strings,
        list_features=lists,
        list_offsets=rows.list_offsets,
        statuses=b"" if all_present else rows.statuses,
        vector_features=vectors,
        vector_dims=view.vector_dims,
        vector_values=rows.vectors,
    )
    return b"".join((block.SerializeToString(), rows.strings, rows.list_values))


def sticky_keys(
    request: feature_pb2.GetFeaturesRequest, encrypt: Callable[[str], str]
) -> list[str]:
    """Stored ids of whose sticky assignments are asked for."""
    require_count("sticky_ids", len(request.sticky_ids), 0, MAX_STICKY_IDS)
    return [_user_key("sticky_ids", i, id_, encrypt) for i, id_ in enumerate(request.sticky_ids)]


def features_response(
    view: FeatureView, found: Lookup, sticky: Sequence[Mapping[str, str]] = (), *, times: bool
) -> bytes:
    """An encoded ``GetFeaturesResponse``; with the times of its values where they are asked for."""
    response = feature_pb2.GetFeaturesResponse(
        log_position=found.position,
        view_hash=view.hash,
        event_times_ms=found.rows.times_ms if times else b"",
        sticky=[feature_pb2.StickyAssignments(assignments=kept) for kept in sticky],
    )
    response.evaluated_at.FromMilliseconds(found.t_ms)
    number = feature_pb2.GetFeaturesResponse.BLOCK_FIELD_NUMBER
    return encoded_part(number, encoded_block(view, found.rows)) + response.SerializeToString()


def entity_rows(
    view: FeatureView, ids: Sequence[str], rows: Sequence[Row]
) -> feature_pb2.EntityRows:
    """Rows of a watched entity type."""
    packer = RowPacker(view)
    block = packer.block([packer.pack(row) for row in rows])
    return feature_pb2.EntityRows(
        entity_type=view.entity, ids=ids, block=feature_block(view, block)
    )


def row_bytes(identity: str, row: Row) -> int:
    """Upper estimate of what a row adds to a message."""
    size = len(identity.encode()) + len(row.statuses) + 16
    for value in row.values:
        if isinstance(value, str):
            size += len(value.encode()) + 3
        elif isinstance(value, tuple):
            size += 4 + sum(len(v.encode()) + 3 if isinstance(v, str) else 4 for v in value)
        else:
            size += 8
    return size


def entity_refs(keys: Sequence[tuple[str, str]]) -> list[EntityRef]:
    """(type, id) pairs as references."""
    return [EntityRef(type=entity, id=identity) for entity, identity in keys]
