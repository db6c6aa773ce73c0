"""Writes slates and exposures to the spool, which keeps pseudonyms only."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Protocol

from podium.event.v1 import event_pb2
from services.common.errors import Unavailable
from services.ranker.convert.events import exposure_events, slate_event, sticky_event
from services.ranker.exposures import Exposure, Exposures
from services.ranker.marks import Marks
from services.ranker.types import RankResult, StickyChange

_KEPT_LATELY: Final = 20_000
_TOLD_AGAIN_MS: Final = 60_000
"""What did not come back by then is told again."""

_logger = logging.getLogger(__name__)


class EventSink(Protocol):
    """Keeps events; services.common.spool.Spool does."""

    def append(self, events: Sequence[event_pb2.Event]) -> None:
        """Writes events with raw ids; they survive the process when this returns. Raises
        ``Unavailable``."""


class AssignmentLog:
    """What follows from the assignments of answers as events: exposures, and variants to keep.
    ``seal`` makes a raw id a pseudonym."""

    def __init__(self, exposures: Exposures, seal: Callable[[str], str]) -> None:
        self._exposures = exposures
        self._seal = seal
        # What is kept comes back with the user's row only once it is applied.
        self._kept = Marks(_KEPT_LATELY)

    def events(
        self, result: RankResult, now_ns: int
    ) -> tuple[list[Exposure], list[event_pb2.Event]]:
        """The exposures that an answer adds, and all of its events."""
        now_ms = now_ns // 1_000_000
        news = self._exposures.news(result, now_ms)
        events = exposure_events(result, news, now_ns, self._seal)
        events += [
            sticky_event(result, change, now_ns)
            for change in result.sticky
            if change.is_stored and self._kept.add(_mark(change, now_ms))
        ]
        return news, events

    def take_back(self, result: RankResult, exposures: Sequence[Exposure], now_ns: int) -> None:
        """They could not be written."""
        self._exposures.take_back(result, exposures)
        for change in result.sticky:
            self._kept.discard(_mark(change, now_ns // 1_000_000))


def _mark(change: StickyChange, now_ms: int) -> Hashable:
    return change.document.key, frozenset(change.news.items()), now_ms // _TOLD_AGAIN_MS


class SpooledSlates:
    """Hands the events of a micro-batch to the spool in one write.

    What can't be written is counted, and no reason to leave anybody without an answer.
    """

    def __init__(
        self,
        spool: EventSink,
        *,
        assignments: AssignmentLog | None = None,
        feature_share: float = 0.0,
        lost: Callable[[str, int], None] = lambda _kind, _count: None,
    ) -> None:
        """``assignments``: without it slates alone are written. ``feature_share``: of how many
        slates the user's features are written, 0 to 1. ``lost`` is told type and number of events
        that could not be written."""
        self._spool = spool
        self._assignments = assignments
        self._feature_share = feature_share
        self._lost = lost
        self._complained = False

    def record(self, results: Sequence[RankResult]) -> None:
        """Writes the slates and exposures of ``results``."""
        if not results:
            return
        now_ns = time.time_ns()
        events: list[event_pb2.Event] = []
        told: list[tuple[RankResult, list[Exposure]]] = []
        for result in results:
            with_features = random.random() < self._feature_share
            events.append(slate_event(result, now_ns, with_features=with_features))
            if self._assignments is not None:
                news, of_assignments = self._assignments.events(result, now_ns)
                told.append((result, news))
                events += of_assignments
        try:
            self._spool.append(events)
        except Unavailable as error:
            self._give_up(events, told, now_ns, error)
        else:
            self._complained = False

    def _give_up(
        self,
        events: Sequence[event_pb2.Event],
        told: Sequence[tuple[RankResult, list[Exposure]]],
        now_ns: int,
        error: Unavailable,
    ) -> None:
        for kind, count in Counter(event.type for event in events).items():
            self._lost(kind, count)
        if self._assignments is not None:
            for result, news in told:
                self._assignments.take_back(result, news, now_ns)
        if not self._complained:
            self._complained = True
            _logger.error("slates and exposures are lost until this is mended: %s", error)
