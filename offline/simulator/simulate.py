"""Runs a world from its start to its end and writes the log, and apart from it the truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from offline.progress import Progress, no_progress
from offline.simulator.parameters import WorldParameters
from offline.simulator.truth import TruthWriter
from offline.simulator.world import World
from offline.simulator.writer import LogSink, NameIds
from services.common.errors import FailedPrecondition, InvalidArgument

_PROGRESS_EVENTS = 2_000


@dataclass(frozen=True)
class Summary:
    """What was written: events by type, and the world as it stands at the end."""

    events: int
    by_type: dict[str, int]
    live_rooms: int
    world: World


def simulate(
    parameters: WorldParameters,
    log_directory: Path,
    *,
    name_ids: NameIds,
    config_hash: str,
    truth_directory: Path | None = None,
    progress: Progress = no_progress,
) -> Summary:
    """Writes the log of a world into an empty ``log_directory``; truth goes to ``truth_directory``.

    ``name_ids`` turns raw user and device ids into pseudonyms. ``progress`` is told in simulated
    milliseconds. Raises ``FailedPrecondition`` when the log holds events already,
    ``InvalidArgument`` when the truth would lie with the log.
    """
    if any(log_directory.glob("*.segment")):
        raise FailedPrecondition(
            f"{log_directory} holds a log already: choose an empty directory", reason="LOG_EXISTS"
        )
    truth = None
    if truth_directory is not None:
        log, apart = log_directory.resolve(), truth_directory.resolve()
        if log == apart or log in apart.parents or apart in log.parents:
            raise InvalidArgument.field("truth", "must not lie in the log's directory or around it")
        truth = TruthWriter(truth_directory)
    world = World(parameters, observer=truth.observe if truth is not None else None)
    by_type: Counter[str] = Counter()
    span_ms = parameters.end_ms - parameters.start_ms
    reported = 0
    with LogSink(log_directory, name_ids, parameters.currency, config_hash) as sink:
        for records in world.run_until(parameters.end_ms):
            sink.write(records)
            for record in records:
                by_type[record.type] += 1
            if sink.written - reported >= _PROGRESS_EVENTS:
                reported = sink.written
                progress("simulate", records[-1].time_ms - parameters.start_ms, span_ms)
    progress("simulate", span_ms, span_ms)
    if truth is not None:
        truth.finish(world)
    return Summary(sink.written, dict(by_type), len(world.rooms.live), world)
