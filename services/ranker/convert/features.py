"""Feature blocks and steps of the catalogue's watch, as the core reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from podium.feature.v1 import feature_pb2
from services.common.convert_feature_block import block_columns
from services.common.errors import FailedPrecondition
from services.ranker.catalogue.replica import (
    Delta,
    Heartbeat,
    Reset,
    SnapshotChunk,
    SnapshotEnd,
    WatchMessage,
)
from services.ranker.feature_rows import FeatureRows


def feature_rows(
    ids: Sequence[str],
    block: feature_pb2.FeatureBlock,
    log_position: int = 0,
    evaluated_ms: int = 0,
) -> FeatureRows:
    """A decoded block. Raises ``FailedPrecondition`` when its parts do not fit together."""
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
        # Every slice of a message's field would decode its texts again.
        list_values=list(columns.list_values),
        # Statuses of vectors come last.
        statuses=columns.statuses[:, : columns.statuses.shape[1] - len(columns.vector_names)]
        if columns.statuses.size
        else columns.statuses,
        log_position=log_position,
        evaluated_ms=evaluated_ms,
        vector_names=columns.vector_names,
        vector_dims=columns.vector_dims,
        vectors=columns.vectors,
    )


def rows_with_kept(
    rows: FeatureRows, sticky_ids: Sequence[str], response: feature_pb2.GetFeaturesResponse
) -> FeatureRows:
    """Rows with what the answer tells of those who keep variants. A service that does not know the
    question tells nothing."""
    told = len(response.sticky) == len(sticky_ids)
    pairs = zip(sticky_ids, response.sticky, strict=False) if told else ()
    kept = {key: dict(said.assignments) for key, said in pairs if said.assignments}
    return replace(rows, kept=kept, kept_is_told=told)


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
