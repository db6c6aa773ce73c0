"""A watcher of the catalogue for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from podium.feature.v1 import feature_pb2
from tests.support.feature_server import Value, columns

Step = feature_pb2.WatchEntitiesResponse
MAX_STEP_BYTES = 1 << 20

_Row = dict[str, tuple[Value, str]]


class WatchingReplica:
    """Keeps rows as the protocol says, by "type:id"; ``steps`` are the kinds it was sent."""

    def __init__(self) -> None:
        self.token = b""
        self.as_of_ms = 0
        self.steps: list[str] = []
        self._cells: dict[str, _Row] = {}
        self._snapshot: dict[str, _Row] | None = None

    @property
    def rows(self) -> dict[str, dict[str, Value]]:
        """Values of what is installed."""
        return {key: {n: v for n, (v, _) in row.items()} for key, row in self._cells.items()}

    @property
    def statuses(self) -> dict[str, dict[str, str]]:
        """Statuses of what is installed."""
        return {key: {n: s for n, (_, s) in row.items()} for key, row in self._cells.items()}

    def take(self, step: Step) -> str:
        """Takes one step; its kind."""
        kind = step.WhichOneof("step")
        assert kind is not None
        assert step.ByteSize() <= MAX_STEP_BYTES
        self.steps.append(kind)
        if kind == "reset":
            self._snapshot = {}
        elif kind == "snapshot_chunk":
            assert step.resume_token == b""
            assert self._snapshot is not None
            self._add(self._snapshot, step.snapshot_chunk)
        elif kind == "snapshot_end":
            assert self._snapshot is not None
            assert step.snapshot_end.rows == len(self._snapshot)
            self._cells, self._snapshot = self._snapshot, None
        else:
            assert self._snapshot is None
        if kind == "delta":
            for rows in step.delta.upserts:
                self._add(self._cells, rows)
            for ref in step.delta.tombstones:
                self._cells.pop(f"{ref.type}:{ref.id}", None)
        self.token = step.resume_token or self.token
        if step.HasField("as_of") and self._snapshot is None:
            assert step.as_of.ToMilliseconds() >= self.as_of_ms
            self.as_of_ms = step.as_of.ToMilliseconds()
        return kind

    def until(self, steps: Iterator[Step], condition: Callable[[], bool]) -> None:
        """Takes steps until the condition holds."""
        while not condition():
            self.take(next(steps))

    def _add(self, rows: dict[str, _Row], found: feature_pb2.EntityRows) -> None:
        for identity, row in zip(found.ids, columns(found.block), strict=True):
            rows[f"{found.entity_type}:{identity}"] = row
