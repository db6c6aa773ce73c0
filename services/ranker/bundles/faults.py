"""Judges bundles by their answers: too many that a fault of the bundle degraded are its end."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from services.ranker.plan import BundleSpec
from services.ranker.sources.personal import Personal
from services.ranker.sources.similar import SimilarToLast
from services.ranker.types import Degradation, Part, RankResult, Reason

_FAULTS = frozenset({Reason.FAILED, Reason.NON_FINITE})


class Verdict(enum.Enum):
    """What a bundle's answers say of it."""

    OPEN = 1
    SOUND = 2
    FAILING = 3


@dataclass(frozen=True)
class FaultLimits:
    """A bundle fails when more than ``share`` of ``requests`` answers in a row have a fault."""

    requests: int = 200
    share: float = 0.1


class FaultWindow:
    """Counts answers, ``requests`` at a time. Not thread-safe."""

    def __init__(self, limits: FaultLimits) -> None:
        self._limits = limits
        self._answers = 0
        self._faults = 0

    def count(self, faulty: bool) -> Verdict:
        """One more answer. FAILING as soon as the window's share must end above the limit, SOUND at
        the end of one that did not; either begins another window."""
        self._answers += 1
        self._faults += faulty
        verdict = Verdict.OPEN
        if self._faults > self._limits.share * self._limits.requests:
            verdict = Verdict.FAILING
        elif self._answers >= self._limits.requests:
            verdict = Verdict.SOUND
        if verdict is not Verdict.OPEN:
            self._answers = self._faults = 0
        return verdict


def is_faulty(degraded: Sequence[Degradation], model_sources: Collection[str]) -> bool:
    """Whether a fault of the bundle degraded an answer: its scores or its users' vectors failed or
    were not finite, or a source that searches by its model failed."""
    return any(
        degradation.reason in _FAULTS
        and (
            degradation.part is Part.SCORING
            or (
                degradation.part is Part.RETRIEVAL
                and (not degradation.name or degradation.name in model_sources)
            )
        )
        for degradation in degraded
    )


def model_sources(spec: BundleSpec) -> frozenset[str]:
    """Names of the sources that search by the bundle's model."""
    return frozenset(
        source.name
        for surface in spec.surfaces.values()
        for source in surface.sources
        if isinstance(source, Personal | SimilarToLast)
    )


class BundleFaults:
    """The judgement on every loaded bundle. Thread-safe.

    ``judged`` is called with every verdict, on the thread that brought the answers.
    """

    def __init__(self, limits: FaultLimits, judged: Callable[[], None] = lambda: None) -> None:
        self._limits = limits
        self._judged = judged
        self._windows: dict[str, FaultWindow] = {}
        self._model_sources: dict[str, frozenset[str]] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._lock = threading.Lock()

    def begin(self, version: str, model_sources: Collection[str] = ()) -> None:
        """A bundle was loaded, whose ``model_sources`` search by its model."""
        with self._lock:
            self._windows[version] = FaultWindow(self._limits)
            self._model_sources[version] = frozenset(model_sources)
            self._verdicts[version] = Verdict.OPEN

    def end(self, version: str) -> None:
        """A bundle was unloaded."""
        with self._lock:
            for known in (self._windows, self._model_sources, self._verdicts):
                known.pop(version, None)

    def answered(self, version: str, results: Sequence[RankResult]) -> int:
        """Takes note of answers of a bundle; returns how many are faulty."""
        sources = self._model_sources.get(version, frozenset())
        faulty = [is_faulty(result.degraded, sources) for result in results]
        self._count(version, faulty)
        return sum(faulty)

    def broke(self, version: str, requests: int) -> None:
        """Takes note of requests that a bundle could not answer at all."""
        self._count(version, [True] * requests)

    def verdicts(self) -> Mapping[str, Verdict]:
        """The last verdict on each: FAILING stays, SOUND stays until it fails."""
        with self._lock:
            return dict(self._verdicts)

    def _count(self, version: str, faulty: Sequence[bool]) -> None:
        news = False
        with self._lock:
            window = self._windows.get(version)
            if window is None:
                return
            for one in faulty:
                verdict = window.count(one)
                if verdict is Verdict.OPEN or self._verdicts[version] is Verdict.FAILING:
                    continue
                news = news or verdict is not self._verdicts[version]
                self._verdicts[version] = verdict
        if news:
            self._judged()
