"""Steps of a watch, as the bytes that go over the wire."""

from __future__ import annotations

from collections.abc import Sequence

from podium.feature.v1 import feature_pb2
from services.feature.convert.features import entity_refs, entity_rows, row_bytes
from services.feature.definitions import FeatureView, Key
from services.feature.rows.rows import Row
from services.feature.watch.stream import Rows

_Response = feature_pb2.WatchEntitiesResponse


class WatchEncoder:
    """Implements ``StepEncoder`` with ``WatchEntitiesResponse``."""

    def row_bytes(self, identity: str, row: Row) -> int:
        """Upper estimate of what a row adds to a step."""
        return row_bytes(identity, row)

    def reset(self, as_of_ms: int) -> bytes:
        """Forget everything; a snapshot follows."""
        return _encoded(_Response(reset=feature_pb2.WatchReset()), as_of_ms)

    def chunk(self, view: FeatureView, rows: Rows, as_of_ms: int) -> bytes:
        """Part of a snapshot."""
        return _encoded(_Response(snapshot_chunk=_rows(view, rows)), as_of_ms)

    def end(self, rows: int, token: bytes, as_of_ms: int) -> bytes:
        """The snapshot is complete."""
        end = feature_pb2.WatchSnapshotEnd(rows=rows)
        return _encoded(_Response(snapshot_end=end, resume_token=token), as_of_ms)

    def delta(
        self,
        upserts: Sequence[tuple[FeatureView, Rows]],
        gone: Sequence[Key],
        token: bytes,
        as_of_ms: int,
    ) -> bytes:
        """Changes."""
        delta = feature_pb2.EntityDelta(
            upserts=[_rows(view, rows) for view, rows in upserts], tombstones=entity_refs(gone)
        )
        return _encoded(_Response(delta=delta, resume_token=token), as_of_ms)

    def heartbeat(self, token: bytes, as_of_ms: int) -> bytes:
        """Nothing changed."""
        beat = feature_pb2.WatchHeartbeat()
        return _encoded(_Response(heartbeat=beat, resume_token=token), as_of_ms)


def _rows(view: FeatureView, rows: Rows) -> feature_pb2.EntityRows:
    return entity_rows(view, [identity for identity, _ in rows], [row for _, row in rows])


def _encoded(response: _Response, as_of_ms: int) -> bytes:
    if as_of_ms:
        response.as_of.FromMilliseconds(as_of_ms)
    return response.SerializeToString()
