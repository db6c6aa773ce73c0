"""One call for the users' rows of a micro-batch, though several bundles read them."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import PodiumError
from services.ranker.feature_rows import FeatureRows, View
from services.ranker.ports import PendingRows, UserFeatures


class SharedRows:
    """Gathers what the groups of a micro-batch ask for; ``send`` then makes one call a view."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> _Part:
        """Rows of a group: ``result`` of what it returns may be asked for after ``send``."""
        call = self._calls.setdefault(view.hash, _Call(view))
        return call.take(ids, timeout_s, sticky_ids)

    def send(self, users: UserFeatures) -> None:
        """Makes the calls. What one group waits for at most, all of its view do."""
        for call in self._calls.values():
            call.send(users)


class _Call:
    def __init__(self, view: View) -> None:
        self._view = view
        self._ids: list[str] = []
        self._sticky_ids: dict[str, None] = {}
        self._timeout_s = 0.0
        self._pending: PendingRows | None = None
        self._outcome: FeatureRows | PodiumError | None = None

    def take(self, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str]) -> _Part:
        first = len(self._ids)
        self._sticky_ids |= dict.fromkeys(sticky_ids)
        self._ids.extend(ids)
        self._timeout_s = max(self._timeout_s, timeout_s)
        return _Part(self, first, len(ids))

    def send(self, users: UserFeatures) -> None:
        self._pending = users.start(self._view, self._ids, self._timeout_s, list(self._sticky_ids))

    def ready(self, longest_s: float) -> bool:
        if self._outcome is not None:
            return True
        return self._pending is not None and self._pending.ready(longest_s)

    def rows(self) -> FeatureRows:
        if self._outcome is None:
            assert self._pending is not None  # noqa: S101 - rows are waited for after send
            try:
                self._outcome = self._pending.result()
            except PodiumError as error:
                self._outcome = error
        if isinstance(self._outcome, PodiumError):
            raise self._outcome
        return self._outcome


class _Part:
    def __init__(self, call: _Call, first: int, count: int) -> None:
        self._call = call
        self._first = first
        self._count = count

    def ready(self, longest_s: float) -> bool:
        """See ``ports.PendingRows``."""
        return self._call.ready(longest_s)

    def result(self) -> FeatureRows:
        """Waits. Raises what the call raised."""
        return self._call.rows().part(self._first, self._count)
