"""A surface as one caller's filter leaves it, so that sources find what passes, however rare."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from services.ranker.arrays import BoolArray
from services.ranker.catalogue.table import EntityTable
from services.ranker.filters.expression import passing
from services.ranker.filters.tree import Expression
from services.ranker.plan import BundleSpec, SurfacePlan, nearby_of
from services.ranker.sources.base import Reuse
from services.ranker.sources.guaranteed import Guaranteed
from services.ranker.sources.personal import Personal
from services.ranker.sources.shared import NewItems, Trending
from services.ranker.sources.similar import SimilarToLast

_KEPT = 8
"""Filters that are remembered: ten bytes an item each, and the vectors that are searched."""

_NARROWED = (Personal, SimilarToLast, Trending, NewItems, Guaranteed)
"""Sources that choose among all items, cheaply enough to do so for one filter."""


@dataclass(frozen=True)
class _Narrowed:
    """A plan, and which items of its table pass, bool [n]."""

    plan: SurfacePlan
    passes: BoolArray


class Narrowing:
    """Plans by caller's filter, for one state: an app's filters come again and again.

    ``number`` is that of the last change of the tables; ``before`` is the same for an earlier one:
    only items that changed since are held to a filter again. Used by the one thread that ranks.
    """

    def __init__(
        self, spec: BundleSpec, exact_rows: int, number: int, before: Narrowing | None
    ) -> None:
        self._spec = spec
        self._exact_rows = exact_rows
        self._number = number
        self._found: OrderedDict[tuple[str, Expression], _Narrowed] = OrderedDict()
        self._before = {} if before is None else before._found
        self._since = 0 if before is None else before._number

    def of(self, plan: SurfacePlan, wanted: Expression) -> SurfacePlan:
        """The surface's plan over the items that pass, and that may be shown at all."""
        key = (plan.spec.name, wanted)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._narrowed(plan, wanted, self._before.get(key))
            if len(self._found) > _KEPT:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return found.plan

    def _narrowed(
        self, plan: SurfacePlan, wanted: Expression, before: _Narrowed | None
    ) -> _Narrowed:
        passes = self._passes(plan.table, wanted, before)
        eligible = plan.ground.eligible & passes
        reuse = Reuse({} if before is None else before.plan.made)
        nearby = reuse.get(
            "nearby",
            (plan.items.vectors, plan.items.index_row, eligible, self._exact_rows),
            lambda: nearby_of(self._spec, plan.table, plan.items, eligible, self._exact_rows),
        )
        ground = replace(plan.ground, eligible=eligible, nearby=nearby, reuse=reuse)
        sources = tuple(
            (name, source.bind(ground) if isinstance(source, _NARROWED) else bound)
            for source, (name, bound) in zip(plan.spec.sources, plan.sources, strict=True)
        )
        own = replace(ground, reuse=Reuse())
        narrowed = replace(plan, nearby=nearby, ground=own, sources=sources, made=reuse.made)
        return _Narrowed(narrowed, passes)

    def _passes(
        self, table: EntityTable, wanted: Expression, before: _Narrowed | None
    ) -> BoolArray:
        if before is None:
            return passing(wanted, table)
        passes = np.zeros(len(table), np.bool_)
        passes[: len(before.passes)] = before.passes
        touched = np.flatnonzero(table.changed_at > self._since)
        passes[touched] = passing(wanted, table, touched)
        return passes
