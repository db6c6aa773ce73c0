"""Runs a world from its start to its end and writes the log, and apart from it the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offline.simulator.parameters import WorldParameters
from offline.simulator.truth import TruthWriter
from offline.simulator.world import World
from offline.simulator.writer import LogSink, NameIds
from services.common.errors import FailedPrecondition, InvalidArgument

# Called with (events so far, simulated time in epoch milliseconds).
Progress = Callable[[int, int], None]
_PROGRESS_EVERY = 2_000


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
    progress: Progress | None = None,
) -> Summary:
    """Writes the log of a world into an empty ``log_directory``; truth goes to ``truth_directory``.

    ``name_ids`` turns raw user and device ids into pseudonyms. Raises ``FailedPrecondition`` when
    the log holds events already, ``InvalidArgument`` when the truth would lie with the log.
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
    reported = 0
    with LogSink(log_directory, name_ids, parameters.currency, config_hash) as sink:
        for records in world.run_until(parameters.end_ms):
            sink.write(records)
            for record in records:
                by_type[record.type] += 1
            if progress is not None and sink.written - reported >= _PROGRESS_EVERY:
                reported = sink.written
                progress(sink.written, records[-1].time_ms)
    if progress is not None:
        progress(sink.written, parameters.end_ms)
    if truth is not None:
        truth.finish(world)
    return Summary(sink.written, dict(by_type), len(world.rooms.live), world)
