"""kill -9 at random points: what was acknowledged is in the log once, and counted once.

    python -m tests.chaos.kills [--kills N] [--seed S]

A real service takes events in over a stream; it, its applying process or both are killed at a
random moment, and it is started again on the same files, where a caller sends again what was not
answered. After each start every acknowledged event must be in the log once, and the counts served
must be those of the acknowledged events. ``make chaos`` kills 1,000 times, the test suite 12 times.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import grpc

from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.feature.v1.feature_pb2 import IngestStreamRequest
from services.common.event_log import LogReader
from tests.support.feature_server import FeatureClient, service_process
from tests.support.feature_streams import interaction

COURSES = 5
BATCH_EVENTS = 20
UNANSWERED_BATCHES = 16
LONGEST_S = 0.4
"""A kill comes at most this long after the first answer."""

VICTIMS = ("service", "applying", "both")


class Ledger:
    """What was sent and acknowledged, and what the log holds."""

    def __init__(self, log_dir: Path) -> None:
        self.acknowledged: set[str] = set()
        self.unanswered: list[list[Event]] = []
        self._reader = LogReader(log_dir)
        self._stored: set[str] = set()
        self._numbers = itertools.count()
        self._position = 0

    def batches(self) -> Iterator[list[Event]]:
        """What was not answered before, then new events."""
        yield from list(self.unanswered)
        while True:
            batch = [self._event(next(self._numbers)) for _ in range(BATCH_EVENTS)]
            self.unanswered.append(batch)
            yield batch

    def answered(self, log_position: int) -> None:
        """The oldest batch was acknowledged."""
        self.acknowledged.update(event.event_id for event in self.unanswered.pop(0))
        self._position = log_position

    def check_log(self) -> None:
        """Reads what was added to the log: nothing twice, nothing acknowledged missing."""
        while found := self._reader.read(10_000):
            for arrival, payload in found:
                record = LoggedEvent.FromString(payload)
                assert record.arrival == arrival, (record.arrival, arrival)
                if record.duplicate:
                    continue
                event_id = record.event.event_id
                assert event_id not in self._stored, f"{event_id} was stored twice"
                self._stored.add(event_id)
        missing = self.acknowledged - self._stored
        assert not missing, f"{len(missing)} acknowledged events are lost: {sorted(missing)[:5]}"

    def check_counts(self, client: FeatureClient) -> None:
        """Compares counts served with those of the acknowledged events."""
        assert not self.unanswered
        expected = Counter(int(event_id[1:]) % COURSES for event_id in self.acknowledged)
        courses = [f"c{n}" for n in range(COURSES)]
        rows = client.get("course", *courses, position=self._position)
        served = [row["clicks_7d"][0] for row in rows]
        assert served == [expected[n] for n in range(COURSES)], (served, expected)

    @staticmethod
    def _event(number: int) -> Event:
        now_ms = time.time_ns() // 1_000_000
        return interaction(
            f"e{number}", "click", now_ms, f"u{number % 50}", f"course:c{number % COURSES}"
        )


def run(directory: Path, kills: int, seed: int, domain_file: Path) -> int:
    """Kills ``kills`` times; returns the number of events acknowledged. Raises
    ``AssertionError`` where something was lost or counted twice."""
    random = Random(seed)
    ledger = Ledger(directory / "log")
    done = 0
    while done < kills:
        with service_process(domain_file, directory) as (process, client):
            ledger.check_log()
            _send_again(client, ledger)
            ledger.check_counts(client)
            while done < kills:
                victim = random.choice(VICTIMS)
                _send_until_killed(process, client, ledger, victim, random.uniform(0, LONGEST_S))
                done += 1
                if victim != "applying":
                    break
                # The service goes on: a new process applies what the killed one had not.
                _send_again(client, ledger)
                ledger.check_counts(client)
    with service_process(domain_file, directory) as (_, client):
        ledger.check_log()
        _send_again(client, ledger)
        ledger.check_counts(client)
        ledger.check_log()
    return len(ledger.acknowledged)


def _send_again(client: FeatureClient, ledger: Ledger) -> None:
    """Sends what was not answered, until it is."""
    while ledger.unanswered:
        ledger.answered(client.ingest(*ledger.unanswered[0]).log_position)


def _send_until_killed(
    process: subprocess.Popen[bytes],
    client: FeatureClient,
    ledger: Ledger,
    victim: str,
    delay_s: float,
) -> None:
    """Streams events; from the first answer on it takes ``delay_s`` until the victim is killed."""
    over = threading.Event()
    room = threading.Semaphore(UNANSWERED_BATCHES)

    def requests() -> Iterator[IngestStreamRequest]:
        for number, batch in enumerate(ledger.batches()):
            room.acquire()
            if over.is_set():
                ledger.unanswered.remove(batch)
                return
            yield IngestStreamRequest(sequence=number, events=batch)

    def kill() -> None:
        pids = _applying(process.pid) if victim != "service" else []
        for pid in [*pids, *([process.pid] if victim != "applying" else [])]:
            os.kill(pid, signal.SIGKILL)
        over.set()
        room.release()

    timer = threading.Timer(delay_s, kill)
    ended: grpc.RpcError | None = None
    try:
        for number, answer in enumerate(client.stub.IngestStream(requests(), timeout=120)):
            assert answer.acked_through_sequence == number
            assert answer.accepted + answer.duplicates == BATCH_EVENTS
            ledger.answered(answer.log_position)
            room.release()
            if number == 0:
                timer.start()
    except grpc.RpcError as error:
        ended = error
    timer.join()
    if ended is not None:
        # Where only applying was killed, callers must notice nothing.
        assert victim != "applying", ended
        assert ended.code() is grpc.StatusCode.UNAVAILABLE, ended


def _applying(pid: int) -> list[int]:
    """Processes that apply the log for a service; Linux only."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="podium-chaos-") as directory:
        yield Path(directory)


def main() -> None:
    """Parses arguments, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    arguments = parser.parse_args()
    print(f"{arguments.kills} kills, seed {arguments.seed}")
    domain_file = Path(__file__).parents[2] / "config" / "live_courses.yaml"
    with _directory() as directory:
        count = run(directory, arguments.kills, arguments.seed, domain_file)
    print(f"{count} events acknowledged, each stored and counted once")


if __name__ == "__main__":
    sys.exit(main())
