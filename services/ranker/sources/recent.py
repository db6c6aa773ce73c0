"""Items that the user met lately, and items of hosts that the user follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import Int64Array
from services.ranker.sources.base import Asked, Ground, latest
from services.ranker.sources.groups import Named, in_turns, named

_MOST_IDS = 500


@dataclass(frozen=True)
class Recent:
    """Items whose attribute a list feature of the user names, the latest first."""

    name: str
    quota: int
    feature: str
    attribute: str
    without: str | None

    def bind(self, ground: Ground) -> BoundRecent:
        return BoundRecent(self, named(ground, self.attribute))


@dataclass(frozen=True)
class BoundRecent:
    """See ``Recent``."""

    source: Recent
    items: Named

    def ask(self, asked: Asked) -> list[Int64Array]:
        source = self.source
        lists: list[Sequence[str]] = list(asked.latest(source.feature, _MOST_IDS))
        if source.without is not None:
            left_out = map(set, asked.lists(source.without))
            lists = [
                [id_ for id_ in ids if id_ not in out]
                for ids, out in zip(lists, left_out, strict=True)
            ]
        return self.items.firsts(lists, source.quota)


@dataclass(frozen=True)
class FollowedHosts:
    """Items of hosts in a list feature of the user: the best of each host, then the second ones.

    ``actions`` lists the types of the events beside it; a host whose last event is one of
    ``ended_by`` is left out.
    """

    name: str
    quota: int
    feature: str
    attribute: str
    actions: str | None
    ended_by: frozenset[str]
    order_by: str | None

    def bind(self, ground: Ground) -> BoundFollowedHosts:
        return BoundFollowedHosts(self, named(ground, self.attribute, self.order_by))


@dataclass(frozen=True)
class BoundFollowedHosts:
    """See ``FollowedHosts``."""

    source: FollowedHosts
    items: Named

    def ask(self, asked: Asked) -> list[Int64Array]:
        quota = self.source.quota
        heads = (self.items.heads(hosts, quota) for hosts in self._followed(asked))
        return [np.array(in_turns(lists)[:quota], np.int64) for lists in heads]

    def _followed(self, asked: Asked) -> list[list[str]]:
        source = self.source
        if source.actions is None or not source.ended_by:
            return asked.latest(source.feature, _MOST_IDS)
        followed = []
        for ids, actions in zip(
            asked.lists(source.feature), asked.lists(source.actions), strict=True
        ):
            # The lists stand side by side; a later event of a host takes the earlier one's place.
            last = dict(zip(ids, actions, strict=False))
            followed.append(
                [id_ for id_ in latest(ids, _MOST_IDS) if last.get(id_) not in source.ended_by]
            )
        return followed
