"""The last requests that were ranked, with what was known of their users: to warm bundles with.

They stay in memory: nothing is written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from services.common.actor import actor_key
from services.ranker.feature_rows import FeatureRows, View, empty_rows, joined
from services.ranker.types import Call, RankCommand, RankResult, Traffic

KEPT_REQUESTS = 16
"""They bound what one warm-up costs, and what it keeps from being answered meanwhile."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request, and the user's row under the view that was read."""

    command: RankCommand
    view_hash: str
    rows: FeatureRows


class KnownRows:
    """Answers for the feature service with the rows of recorded requests, all of one view; a bundle
    that reads another view sees users nothing is known of."""

    def __init__(self, recorded: Sequence[Recorded], view: View | None = None) -> None:
        self._recorded = recorded
        self._view = view

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> KnownRows:
        del ids, timeout_s, sticky_ids
        return KnownRows(self._recorded, view)

    def ready(self, longest_s: float) -> bool:
        del longest_s
        return True

    def result(self) -> FeatureRows:
        rows = [recorded.rows for recorded in self._recorded]
        if self._view is None or self._view.hash != self._recorded[0].view_hash:
            return empty_rows([id_ for part in rows for id_ in part.ids])
        return joined(rows)


class RecentRequests:
    """Keeps the last ``KEPT_REQUESTS``. Written by one thread, read by any.

    Before there are any, ``captured`` gives requests of earlier days, of visitors nothing is known
    of.
    """

    def __init__(self, captured: Callable[[], Iterable[RankCommand]] = tuple) -> None:
        self._kept: deque[RankResult] = deque(maxlen=KEPT_REQUESTS)
        self._captured = captured

    def remember(self, results: Sequence[RankResult]) -> None:
        """Takes note of answers; of first pages only."""
        for result in results:
            command = result.command
            if command.call is Call.RANK and command.following is None:
                self._kept.append(result)

    def requests(self) -> list[Recorded]:
        """The requests, as dry runs that nobody waits for."""
        kept = tuple(self._kept)
        if not kept:
            return [_unknown(command) for command in self._captured()]
        return [_recorded(result) for result in kept]


def _unknown(command: RankCommand) -> Recorded:
    # What a filter names may be no column any more.
    command = replace(
        command, dry_run=True, traffic=Traffic.TEST, filter=None, filter_digest=bytes(8)
    )
    return Recorded(command, "", empty_rows([actor_key(command.user_id, command.device_id)]))


def _recorded(result: RankResult) -> Recorded:
    command = replace(
        result.command,
        dry_run=True,
        traffic=Traffic.TEST,
        rank_id="",
        seed=result.seed,
        deadline_s=None,
        debug=False,
    )
    # Where the rows did not come there is nothing that fits those of others under the view.
    came = bool(result.rows.list_names)
    return Recorded(command, result.view_hash if came else "", result.rows.part(result.row, 1))
