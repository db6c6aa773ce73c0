"""Steps of the definitions' watch."""

from __future__ import annotations

from collections.abc import Iterable

from podium.experiment.v1 import experiment_pb2
from services.common.assign.canonical import Item
from services.ranker.definitions.replica import (
    Chunk,
    DefinitionsMessage,
    Delta,
    End,
    Heartbeat,
    Reset,
)


def definitions_message(message: experiment_pb2.WatchExperimentsResponse) -> DefinitionsMessage:
    """One step of the definitions' watch."""
    as_of_ms = message.as_of.ToMilliseconds() if message.HasField("as_of") else 0
    return DefinitionsMessage(
        _step(message), message.resume_token, as_of_ms, message.definitions_hash
    )


def _step(
    message: experiment_pb2.WatchExperimentsResponse,
) -> Reset | Chunk | End | Delta | Heartbeat:
    match message.WhichOneof("step"):
        case "reset":
            return Reset()
        case "snapshot_chunk":
            return Chunk(_items(message.snapshot_chunk.definitions))
        case "snapshot_end":
            return End(message.snapshot_end.definitions)
        case "delta":
            gone = [(reference.kind, reference.key) for reference in message.delta.tombstones]
            return Delta(_items(message.delta.upserts), gone)
        case _:
            return Heartbeat()


def _items(definitions: Iterable[experiment_pb2.Definition]) -> list[Item]:
    return [
        Item(d.kind, d.key, d.revision, d.evaluator_version, d.canonical_json) for d in definitions
    ]
