"""Finds a source by the kind that the domain declares."""

from __future__ import annotations

from services.common import domain_sources as declared
from services.ranker.sources.base import Source
from services.ranker.sources.caller import Caller
from services.ranker.sources.category import ReEngagement, SameCategory
from services.ranker.sources.guaranteed import Guaranteed
from services.ranker.sources.neighbours import ItemKnn
from services.ranker.sources.personal import Personal
from services.ranker.sources.recent import FollowedHosts, Recent
from services.ranker.sources.shared import NewItems, Pinned, Trending
from services.ranker.sources.similar import SimilarToLast


def source_of(source: declared.Source, most: int) -> Source:
    """The source as it is declared, its quota at most ``most``."""
    name, quota = source.called, min(source.quota, most)
    match source:
        case declared.PersonalSource():
            return Personal(name, quota)
        case declared.TrendingSource():
            return Trending(name, quota, source.feature)
        case declared.RecentSource():
            return Recent(name, quota, source.feature, source.attribute, source.without)
        case declared.SimilarToLastSource():
            return SimilarToLast(name, quota, source.feature, source.last)
        case declared.ItemKnnSource():
            return ItemKnn(name, quota, source.feature, source.attribute, source.last)
        case declared.FollowedHostsSource():
            return FollowedHosts(
                name=name,
                quota=quota,
                feature=source.feature,
                attribute=source.attribute,
                actions=source.actions,
                ended_by=frozenset(source.ended_by),
                order_by=source.order_by,
            )
        case declared.SameCategorySource():
            return SameCategory(
                name=name,
                quota=quota,
                feature=source.feature,
                attribute=source.attribute,
                category=source.category,
                level=source.level,
                order_by=source.order_by,
            )
        case declared.ReEngagementSource():
            return ReEngagement(
                name=name,
                quota=quota,
                feature=source.feature,
                attribute=source.attribute,
                category=source.category,
                level=source.level,
                last=source.last,
                order_by=source.order_by,
            )
        case declared.NewItemsSource(newest_by=None, fewest=None):
            return Guaranteed(name, quota)
        case declared.NewItemsSource():
            return NewItems(name, quota, source.newest_by, source.fewest)
        case declared.PinnedSource():
            return Pinned(name, quota, tuple(source.ids))
        case declared.CallerSource():
            return Caller(name, quota)
