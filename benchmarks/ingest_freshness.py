"""How long until a withdrawn course is gone from a watching replica, while events come in."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import grpc

from podium.event.v1.event_pb2 import Event
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.feature.definitions import FeatureView

WITHDRAW_EVERY_S = 0.2


class Replica:
    """Watches courses, and withdraws one after the other once it is told to."""

    def __init__(self, channel: grpc.Channel, view: FeatureView, courses: int, prefix: str) -> None:
        self._stub = feature_pb2_grpc.FeatureServiceStub(channel)
        self._courses = courses
        self._prefix = prefix
        self._acknowledged_s: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}
        self._stop = threading.Event()
        for start in range(0, courses, 500):
            self._ingest(
                [self._said("entity_upsert", n) for n in range(start, min(courses, start + 500))]
            )
        self._watch = self._stub.WatchEntities(
            feature_pb2.WatchEntitiesRequest(
                views=[
                    feature_pb2.EntityView(
                        entity_type="course", view_name=view.name, view_hash=view.hash
                    )
                ]
            )
        )
        self._await_courses()
        self._executor = ThreadPoolExecutor(2)
        self._running: list[Future[None]] = []

    def start(self) -> None:
        """Begins to withdraw."""
        self._running = [self._executor.submit(run) for run in (self._withdraw, self._follow)]

    def lags_ms(self) -> list[float]:
        """Stops; for each withdrawal the time from its acknowledgement to the replica. Raises
        ``RuntimeError`` when one did not come."""
        withdrawing, following = self._running
        self._stop.set()
        withdrawing.result()
        until_s = time.monotonic() + 60
        while len(self._seen_s) < len(self._acknowledged_s) and time.monotonic() < until_s:
            time.sleep(0.05)
        self._watch.cancel()
        following.result()
        self._executor.shutdown()
        missing = self._acknowledged_s.keys() - self._seen_s.keys()
        if missing:
            raise RuntimeError(f"{len(missing)} withdrawals did not reach the replica")
        # The step may come before the answer does.
        return [
            1_000 * max(0.0, self._seen_s[course] - at_s)
            for course, at_s in self._acknowledged_s.items()
        ]

    def _await_courses(self) -> None:
        """Returns when every course was shown: one withdrawn before it is would never be gone."""
        awaited = {f"{self._prefix}{number}" for number in range(self._courses)}
        for step in self._watch:
            awaited.difference_update(step.snapshot_chunk.ids)
            for rows in step.delta.upserts:
                awaited.difference_update(rows.ids)
            if not awaited:
                return

    def _withdraw(self) -> None:
        for number in range(self._courses):
            if self._stop.wait(WITHDRAW_EVERY_S):
                return
            self._ingest([self._said("entity_withdrawal", number)])
            self._acknowledged_s[f"{self._prefix}{number}"] = time.perf_counter()

    def _follow(self) -> None:
        try:
            for step in self._watch:
                now_s = time.perf_counter()
                for gone in step.delta.tombstones:
                    self._seen_s.setdefault(gone.id, now_s)
        except grpc.RpcError as error:
            if not self._stop.is_set():
                raise RuntimeError("the watch ended") from error

    def _ingest(self, events: list[Event]) -> None:
        response = self._stub.Ingest(feature_pb2.IngestRequest(events=events), timeout=60)
        if response.accepted != len(events):
            raise RuntimeError(f"not every event was accepted: {response}")

    def _said(self, kind: str, number: int) -> Event:
        event = Event(event_id=f"{kind}-{self._prefix}{number}", type=kind)
        event.event_time.FromMilliseconds(time.time_ns() // 1_000_000)
        event.entities.add(type="course", id=f"{self._prefix}{number}")
        if kind == "entity_upsert":
            event.entity_upsert.attributes["title"].string_value = f"Course {number}"
        else:
            event.entity_withdrawal.SetInParent()
        return event
