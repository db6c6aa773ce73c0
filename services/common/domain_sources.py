"""How a domain declares the sources of a surface: where its candidates come from.

What each kind yields is said in ``services.ranker.sources`` and in ``docs/ranking.md``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.domain_features import Name

MAX_SOURCES = 16
MAX_CANDIDATE_IDS = 500
"""Most ids that a request may name as candidates."""

SourceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Latest = Annotated[int, Field(ge=1, le=50)]


class SourceBase(BaseModel):
    """What every source has: the most items it yields, and a name that travels with them.

    Without a ``name`` it is called after its kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    name: SourceName | None = None
    quota: int = Field(ge=1, le=5_000)

    @property
    def called(self) -> str:
        """The name, or else the kind."""
        return self.name or self.kind


class PersonalSource(SourceBase):
    """Nearest items to the user's vector."""

    kind: Literal["personal"]


class TrendingSource(SourceBase):
    """Items with the highest value of a moving feature."""

    kind: Literal["trending"]
    feature: Name


class RecentSource(SourceBase):
    """Items whose ``attribute`` ("id" their own) the user's list feature names, the latest first.

    ``without``: a list feature whose ids are left out, what was bought for instance.
    """

    kind: Literal["recent"]
    feature: Name
    attribute: str = "id"
    without: Name | None = None


class SimilarToLastSource(SourceBase):
    """Items nearest to the vectors of the ``last`` different items of the user's list feature."""

    kind: Literal["similar_to_last"]
    feature: Name
    last: Latest = 1


class ItemKnnSource(SourceBase):
    """Items that others met together with the ``last`` different items of the list feature."""

    kind: Literal["item_knn"]
    feature: Name
    attribute: str = "id"
    last: Latest = 10


class FollowedHostsSource(SourceBase):
    """Items whose ``attribute`` names a host in the user's list feature, a host at a time.

    ``actions``: the list of the events' types beside it; a host whose latest event is one of
    ``ended_by`` is followed no more. ``order_by``: numeric feature, highest first, within a host.
    """

    kind: Literal["followed_hosts"]
    feature: Name
    attribute: str = "host_id"
    actions: Name | None = None
    ended_by: list[Name] = []
    order_by: Name | None = None

    @model_validator(mode="after")
    def _actions_tell(self) -> FollowedHostsSource:
        if self.ended_by and self.actions is None:
            raise ValueError("actions is required with ended_by")
        return self


class SameCategorySource(SourceBase):
    """Items of the ``category`` of the user's last item, at its ``level`` and the next.

    Both are features of the entity that the user's list feature names, read through the item's
    ``attribute``. Without ``level``: of any. ``order_by``: numeric feature, highest first.
    """

    kind: Literal["same_category"]
    feature: Name
    attribute: str = "id"
    category: Name
    level: Name | None = None
    order_by: Name | None = None


class ReEngagementSource(SourceBase):
    """What follows what was bought: the same ``category`` at the next ``level``, for each of the
    ``last`` different items of the user's list feature, which are left out themselves."""

    kind: Literal["re_engagement"]
    feature: Name
    attribute: str = "id"
    category: Name
    level: Name
    last: Latest = 5
    order_by: Name | None = None


class NewItemsSource(SourceBase):
    """New items: the latest by ``newest_by`` (epoch ms), or those with the least of ``fewest``.

    With neither: those that are behind with what the surface's ``selection.new_items`` guarantees.
    """

    kind: Literal["new_items"]
    newest_by: Name | None = None
    fewest: Name | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> NewItemsSource:
        if self.newest_by is not None and self.fewest is not None:
            raise ValueError("at most one of newest_by and fewest may be given")
        return self


class PinnedSource(SourceBase):
    """Items that an editor chose, in the order given."""

    kind: Literal["pinned"]
    ids: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        min_length=1, max_length=200
    )


class CallerSource(SourceBase):
    """The request's own ``candidate_ids``."""

    kind: Literal["caller"]
    quota: int = Field(default=MAX_CANDIDATE_IDS, ge=1, le=MAX_CANDIDATE_IDS)


HistorySource = SimilarToLastSource | ItemKnnSource | SameCategorySource | ReEngagementSource
"""Sources that read what is known of the items of the user's history."""

Source = Annotated[
    PersonalSource
    | TrendingSource
    | RecentSource
    | SimilarToLastSource
    | ItemKnnSource
    | FollowedHostsSource
    | SameCategorySource
    | ReEngagementSource
    | NewItemsSource
    | PinnedSource
    | CallerSource,
    Field(discriminator="kind"),
]
