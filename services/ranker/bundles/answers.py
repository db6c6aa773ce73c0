"""Tells of every answer whoever needs to know: the judge of faults, the metrics, the shadow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from services.ranker.bundles.faults import BundleFaults
from services.ranker.bundles.recent import RecentRequests
from services.ranker.bundles.routing import Routes
from services.ranker.state import InForce
from services.ranker.types import RankResult


class AnswerObserver(Protocol):
    """Counts answers."""

    def bundle_answers(self, role: str, sound: int, faulty: int) -> None:
        """A bundle of a role answered."""


class BundleAnswers:
    """See ``mixed.Answers``. ``offer``: the shadow's."""

    def __init__(
        self,
        faults: BundleFaults,
        recent: RecentRequests,
        observer: AnswerObserver,
        offer: Callable[[InForce, Sequence[RankResult]], None],
    ) -> None:
        self._faults = faults
        self._recent = recent
        self._observer = observer
        self._offer = offer

    def answered(self, in_force: InForce, version: str, results: Sequence[RankResult]) -> None:
        """A bundle answered."""
        faulty = self._faults.answered(version, results)
        role = role_of(in_force.routes, version)
        self._observer.bundle_answers(role, len(results) - faulty, faulty)
        if role != "shadow":
            self._recent.remember(results)
            self._offer(in_force, results)

    def broke(self, in_force: InForce, version: str, requests: int) -> None:
        """A bundle could not answer at all."""
        self._faults.broke(version, requests)
        self._observer.bundle_answers(role_of(in_force.routes, version), 0, requests)


def role_of(routes: Routes, version: str) -> str:
    """What a bundle is: live, canary, experiment or shadow."""
    if version == routes.live:
        return "live"
    if routes.canary is not None and routes.canary.version == version:
        return "canary"
    return "experiment" if version in routes.experiments else "shadow"
