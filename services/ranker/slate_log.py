"""Writes slates and exposures to the spool, which keeps pseudonyms only."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Protocol

from podium.event.v1 import event_pb2
from services.ranker.convert.events import slate_events
from services.ranker.types import RankResult


class EventSink(Protocol):
    """Keeps events; services.common.spool.Spool does."""

    def append(self, events: Sequence[event_pb2.Event]) -> None:
        """Writes events with raw ids; they survive the process when this returns."""


class SpooledSlates:
    """Hands the events of a micro-batch to the spool in one write."""

    def __init__(self, spool: EventSink, *, feature_share: float = 0.0) -> None:
        """``feature_share``: of how many slates the user's features are written, 0 to 1."""
        self._spool = spool
        self._feature_share = feature_share

    def record(self, results: Sequence[RankResult]) -> None:
        """Writes the slates and exposures of ``results``. Raises ``Unavailable``."""
        if not results:
            return
        now_ns = time.time_ns()
        self._spool.append(
            [
                event
                for result in results
                for event in slate_events(
                    result,
                    now_ns,
                    with_features=random.random() < self._feature_share,
                )
            ]
        )
