"""Which bundle answers a request: a pure function of the routes and of who asks.

A user is in the canary when the bucket of its unit, under a salt of the canary's own, is below the
share: so whoever is in it stays as the share grows, and another canary has other users.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common.assign.assign import bucket_of


@dataclass(frozen=True, slots=True)
class Share:
    """A bundle and its share, above 0 and at most 1: of users for a canary, of requests for a
    shadow."""

    version: str
    share: float


@dataclass(frozen=True)
class Routes:
    """Which of the loaded bundles serve. ``experiments`` are those that a variant may name."""

    live: str
    canary: Share | None = None
    shadow: Share | None = None
    experiments: frozenset[str] = frozenset()
    answering: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        canary = {self.canary.version} if self.canary is not None else set()
        object.__setattr__(self, "answering", self.experiments | canary | {self.live})

    @property
    def mixed(self) -> bool:
        """Whether another bundle than the live one may answer."""
        return len(self.answering) > 1

    def versions(self) -> frozenset[str]:
        """All that serve, the shadow among them."""
        return self.answering | ({self.shadow.version} if self.shadow is not None else set())


def in_canary(canary: Share, unit: str) -> bool:
    """Whether a unit (``services.common.actor.actor_key``, raw) is among a canary's users."""
    return bucket_of(f"canary:{canary.version}", unit) < canary.share


def in_shadow(shadow: Share, rank_id: str) -> bool:
    """Whether a request is among those that the shadow ranks, too."""
    return bucket_of(f"shadow:{shadow.version}", rank_id) < shadow.share


def version_for(
    routes: Routes, unit: str, *, wanted: str = "", before: str | None = None
) -> tuple[str, bool]:
    """The bundle that answers, and whether it is the one ``wanted``.

    That is the one ``before``, of the answer that is followed, as long as it answers anybody; else
    the one ``wanted`` by a variant, if it is served; else the canary for its users, and the live
    one for all others.
    """
    if before is not None and before in routes.answering:
        return before, wanted in ("", before)
    if wanted:
        if wanted in routes.answering:
            return wanted, True
        return routes.live, False
    if routes.canary is not None and in_canary(routes.canary, unit):
        return routes.canary.version, True
    return routes.live, True
