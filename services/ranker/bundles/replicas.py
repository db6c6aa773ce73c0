"""The catalogues that the loaded bundles read: one watch for all that name the same views."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from services.ranker.catalogue.replica import Replica
from services.ranker.feature_rows import View


class Replicas:
    """Opens and closes replicas. Written by one thread; ages are read by any."""

    def __init__(self, make: Callable[[Mapping[str, View]], Replica]) -> None:
        self._make = make
        self._replicas: list[Replica] = []

    def of(self, views: Mapping[str, View]) -> Replica:
        """The replica under these views, started if there is none."""
        for replica in self._replicas:
            if replica.views == views:
                return replica
        replica = self._make(views)
        replica.start()
        self._replicas = [*self._replicas, replica]
        return replica

    def keep(self, used: Collection[object]) -> None:
        """Closes all but these."""
        replicas = self._replicas
        self._replicas = [replica for replica in replicas if replica in used]
        for replica in replicas:
            if replica not in used:
                replica.close()

    def age_s(self) -> float:
        """How far the one that is furthest behind is behind the clock."""
        return max((replica.age_ms() for replica in self._replicas), default=0) / 1000
