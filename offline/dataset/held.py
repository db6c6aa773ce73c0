"""Whose an event is by a position of the log, in plain Python, for what is recomputed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Mention = tuple[int, int, str]
"""(arrival, time ms, name)"""


class Ending(NamedTuple):
    """What ``actor`` did before ``arrival`` is ``heir``'s from then on, or nobody's (None)."""

    arrival: int
    clock_ms: int
    actor: str
    heir: str | None


class Held:
    """Who holds what, by all endings that concern some actors."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """``rows`` of the log's ``endings``."""
        self._by_actor: dict[str, list[Ending]] = {}
        self._given: dict[str, set[str]] = {}
        endings = {Ending(r["arrival"], r["time_ms"], r["actor"], r["heir"]) for r in rows}
        for ending in sorted(endings, key=lambda ending: ending.arrival):
            self._by_actor.setdefault(ending.actor, []).append(ending)
            if ending.heir is not None:
                self._given.setdefault(ending.heir, set()).add(ending.actor)

    def names(self, actor: str) -> list[str]:
        """Under which names events may have come that are the actor's by some position."""
        return sorted({actor, *self._given.get(actor, ())})

    def holder(self, name: str, arrival: int, position: int) -> str | None:
        """Whose an event is that came under a name, before a position; None for nobody's."""
        holder: str | None = name
        while holder is not None:
            found = self._by_actor.get(holder, ())
            ended = next((e for e in found if arrival < e.arrival < position), None)
            if ended is None:
                return holder
            holder, arrival = ended.heir, ended.arrival
        return None

    def forgotten_between(self, name: str, arrival: int, later: int) -> bool:
        """Whether a name was erased between two arrivals."""
        return any(
            ending.heir is None and arrival < ending.arrival < later
            for ending in self._by_actor.get(name, ())
        )

    def left_of(self, mentions: Sequence[Mention], cap: int, position: int) -> list[Mention]:
        """Mentions of actors in a list of ``cap`` places without those who were erased before a
        position: in a list that was full somebody without a name is in their place."""
        left = list(mentions)
        named = {name for _, _, name in mentions}
        endings = [e for name in named for e in self._by_actor.get(name, ()) if e.heir is None]
        for ending in sorted(endings, key=lambda ending: (ending.arrival, ending.actor)):
            if ending.arrival >= position:
                break
            seen = [m for m in left if m[0] <= ending.arrival and m[1] <= ending.clock_ms]
            times = [time_ms for _, time_ms, name in seen if name == ending.actor]
            left = [m for m in left if m[0] > ending.arrival or m[2] != ending.actor]
            if times and _different(seen) >= cap:
                nobody = f"nobody:{ending.arrival}:{ending.actor}"
                left.append((ending.arrival, max(times), nobody))
        return left


def _different(mentions: Collection[Mention]) -> int:
    return len({name for _, _, name in mentions})
