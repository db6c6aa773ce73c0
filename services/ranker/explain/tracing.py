"""Which requests are captured or explained, and what the pipeline leaves of them.

A request that is neither costs one comparison. What is left of one are references to what the
micro-batch read, which never changes: what is made of them is made after the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from services.common.ids import seed_of
from services.ranker.explain.explanation import explain
from services.ranker.explain.trace import Moment, Trace
from services.ranker.explain.versions import NO_ORIGIN, Origin
from services.ranker.types import Call, RankResult
from services.ranker.work import Work

_DRAWN_BITS: Final = 32
_DRAWN_MASK: Final = (1 << _DRAWN_BITS) - 1


def is_sampled(drawn: int, share: float) -> bool:
    """Whether the answer is among the ``share`` that is captured; ``drawn`` is the ``seed_of`` its
    rank_id, so that every replica decides alike. Read from its lowest 32 bits."""
    return (drawn & _DRAWN_MASK) < share * (1 << _DRAWN_BITS)


@dataclass(frozen=True)
class Tracing:
    """``share`` of the slates, and every one of a debug request, go to ``offer``, which returns at
    once and never raises. Dry runs, and calls that select nothing, are not captured."""

    share: float = 0.0
    origin: Origin = NO_ORIGIN
    offer: Callable[[Trace], None] = lambda _: None

    def traced(
        self, moment: Moment, works: Sequence[Work], results: list[RankResult]
    ) -> list[RankResult]:
        """The answers of a micro-batch, those of debug requests ready to be explained."""
        for at, work in enumerate(works):
            command = work.command
            drawn = work.seed if command.seed is None else seed_of(work.rank_id)
            if not command.debug and not is_sampled(drawn, self.share):
                continue
            captured = command.call in (Call.RANK, Call.REFRESH) and not command.dry_run
            trace = Trace(moment, work, results[at], captured=captured)
            if command.debug:
                results[at] = replace(results[at], explain=partial(explain, trace, self.origin))
            if captured:
                self.offer(trace)
        return results


NO_TRACING: Final = Tracing()
