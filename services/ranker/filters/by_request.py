"""Filters that hold an item against the request's circumstances or what is known of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import BoolArray, Float32Array, Int64Array
from services.ranker.catalogue.pools import ListPool, StringPool
from services.ranker.catalogue.table import EntityTable
from services.ranker.filters.asking import Asking
from services.ranker.filters.expression import like
from services.ranker.filters.members import Members, members_of
from services.ranker.filters.rules import BoundFilter, mask_of_all

_Limits = Float32Array | Int64Array


def language_of(tag: str) -> str:
    """The language of a BCP 47 tag in lower case: "en" of "en-GB"; empty for an empty tag."""
    return tag.replace("_", "-").partition("-")[0].lower()


@dataclass(frozen=True)
class Language:
    """Keeps items in the language of the request's locale or in one of the user's.

    A user ``feature`` lists languages or is one. An item without a language is kept if
    ``keep_missing``; where neither request nor user says a language, every item is.
    """

    attribute: str
    feature: str | None
    keep_missing: bool
    of_item = False

    @property
    def reason(self) -> str:
        return f"language:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        members = members_of(table, self.attribute)
        codes_in: dict[str, list[int]] = {}
        for code, language in _languages(table, self.attribute):
            if members is not None and code < members.size:
                codes_in.setdefault(language, []).append(code)
        return _BoundLanguage(self, members, codes_in)


@dataclass(frozen=True)
class _BoundLanguage:
    rule: Language
    members: Members | None
    codes_in: Mapping[str, Sequence[int]]

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        tags = [asking.circumstances.locale]
        if self.rule.feature is not None:
            tags.extend(asking.texts_of(self.rule.feature))
        wanted = {language_of(tag) for tag in tags} - {""}
        if not wanted:
            return np.ones(len(slots), np.bool_)
        if self.members is None:
            return np.full(len(slots), self.rule.keep_missing)
        codes = [code for language in wanted for code in self.codes_in.get(language, ())]
        return self.members.mask(codes, slots, without=self.rule.keep_missing)


@dataclass(frozen=True)
class Region:
    """Keeps items that may be shown in the request's region.

    ``attribute`` is the one region, or the list of them, that an item is limited to; an item
    without any is kept if ``keep_missing``. A request without a region gets only such items.
    """

    attribute: str
    keep_missing: bool
    of_item = False

    @property
    def reason(self) -> str:
        return f"region:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        members = members_of(table, self.attribute)
        if members is None:
            return mask_of_all(table, self.keep_missing)
        return _BoundRegion(members, self.keep_missing)


@dataclass(frozen=True)
class _BoundRegion:
    members: Members
    keep_missing: bool

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        region = asking.circumstances.region
        codes = self.members.codes_having([region]) if region else []
        return self.members.mask(codes, slots, without=self.keep_missing)


@dataclass(frozen=True)
class Age:
    """Keeps items whose minimum age the user has reached.

    The age is the request's attribute ``context`` if it is a number, else the user's ``feature``.
    An item without a minimum, or one of 0, is for all; of an unknown age only such are kept.
    """

    attribute: str
    context: str | None
    feature: str | None
    of_item = False

    @property
    def reason(self) -> str:
        return f"age:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        minimum = table.numeric(self.attribute)
        if minimum is None:
            return mask_of_all(table, True)
        limited = table.present_of(self.attribute) & (minimum > 0)
        return _BoundAge(self, np.where(limited, minimum, minimum.dtype.type(0)))


@dataclass(frozen=True)
class _BoundAge:
    rule: Age
    minimum: _Limits

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        ages = _numbers(asking, self.rule.context, self.rule.feature)
        age = max(ages[0], 0) if ages else 0
        return _at_most(self.minimum[slots], age)


@dataclass(frozen=True)
class PriceCap:
    """Keeps items whose price is at most the least of the caps there are: ``most``, the request's
    attribute ``context``, the user's ``feature``; without any, all.

    An item without a price is kept if ``keep_missing``.
    """

    attribute: str
    most: int | None
    context: str | None
    feature: str | None
    keep_missing: bool
    of_item = False

    @property
    def reason(self) -> str:
        return f"price_cap:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        prices = table.numeric(self.attribute)
        if prices is None:
            return _BoundPriceCap(self, np.zeros(len(table), np.int64), np.ones(len(table), bool))
        return _BoundPriceCap(self, prices, ~table.present_of(self.attribute))


@dataclass(frozen=True)
class _BoundPriceCap:
    rule: PriceCap
    prices: _Limits
    missing: BoolArray

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        rule = self.rule
        caps = _numbers(asking, rule.context, rule.feature)
        if rule.most is not None:
            caps.append(rule.most)
        if not caps:
            return np.ones(len(slots), np.bool_)
        missing = self.missing[slots]
        return np.where(missing, rule.keep_missing, _at_most(self.prices[slots], min(caps)))


@dataclass(frozen=True)
class Prerequisites:
    """Keeps items of which every required id, a list attribute, is in the user's list feature.

    An item that requires nothing is kept; of a user whose list is not known only such are.
    """

    attribute: str
    feature: str
    of_item = False

    @property
    def reason(self) -> str:
        return f"prerequisites:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        column, members = table.lists(self.attribute), members_of(table, self.attribute)
        if column is None or members is None:
            return mask_of_all(table, True)
        codes, pool = column
        required = np.array(pool.sizes[: members.size], np.int64)
        return _BoundPrerequisites(self.feature, codes.astype(np.int64), members, required)


@dataclass(frozen=True)
class _BoundPrerequisites:
    feature: str
    codes: Int64Array
    members: Members
    required: Int64Array

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        met = self.members.codes_having(set(asking.list_of(self.feature)))
        fulfilled = np.bincount(np.array(met, np.int64), minlength=len(self.required))
        kept: BoolArray = (fulfilled == self.required)[self.codes[slots]]
        return kept


def _languages(table: EntityTable, attribute: str) -> list[tuple[int, str]]:
    """(code, language) of every text or list of a column, each pair once."""
    pool: StringPool | ListPool
    if (strings := table.strings(attribute)) is not None:
        pool = strings[1]
        return [(code, language_of(tag)) for code, tag in enumerate(list(pool.values))]
    if (lists := table.lists(attribute)) is not None:
        pool = lists[1]
        return [
            (code, language)
            for code, tags in enumerate(list(pool.values))
            for language in {language_of(tag) for tag in tags}
        ]
    return []


def _numbers(asking: Asking, context: str | None, feature: str | None) -> list[float]:
    """The request's attribute and the user's feature, of which either may be missing."""
    found = [
        None if context is None else asking.circumstances.number(context),
        None if feature is None else asking.number_of(feature),
    ]
    return [number for number in found if number is not None]


def _at_most(values: _Limits, number: float) -> BoolArray:
    within: BoolArray = values <= like(values, number)
    return within
