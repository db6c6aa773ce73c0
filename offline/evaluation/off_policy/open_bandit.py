"""Logs of the Open Bandit Dataset: one policy's value from the other's log, beside the truth.

Saito, Aihara, Matsutani & Narita 2021, "Open Bandit Dataset and Pipeline". A folder holds
``random/CAMPAIGN`` and ``bts/CAMPAIGN``, each with ``CAMPAIGN.csv`` (a row an impression:
``item_id``, ``position`` from 1, ``click``, ``propensity_score`` of the item at the position) and
``item_context.csv`` (a row an item, ``item_id``). A policy's truth is its own click rate.

Rows do not say which impressions made one slate, so every row is a slate of one position and the
reward model is the one per position.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.off_policy.slates import LoggedSlates, Predictions, Values
from services.common.errors import InvalidArgument, NotFound

RANDOM = "random"
THOMPSON = "bts"
POLICIES = (RANDOM, THOMPSON)

_COLUMNS = ("item_id", "position", "click", "propensity_score")
# Items' click rates are shrunk towards the overall rate, which counts as this many clicks.
_PRIOR_CLICKS = 1.0

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Impressions:
    """One policy's log of one campaign, [n] each, in the file's order.

    ``items`` are places in ``item_ids``, the rows of ``item_context.csv``; ``positions`` from 0.
    """

    items: Rows
    positions: Rows
    clicks: Values
    propensities: Values
    item_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def item_count(self) -> int:
        """How many items could be shown."""
        return len(self.item_ids)

    @property
    def click_rate(self) -> float:
        """Clicks per impression."""
        return float(self.clicks.mean())

    def shown(self, positions: int) -> Values:
        """How often each item stood at each position, [positions, items]."""
        counts = np.zeros((positions, self.item_count))
        np.add.at(counts, (self.positions, self.items), 1.0)
        return counts


@dataclass(frozen=True)
class Campaign:
    """Both policies' logs of one campaign, by policy."""

    name: str
    logs: dict[str, Impressions]

    def __post_init__(self) -> None:
        if len({log.item_ids for log in self.logs.values()}) > 1:
            raise InvalidArgument(f"{self.name}: item_context.csv must be the same for each policy")

    @property
    def positions(self) -> int:
        """Positions that any log knows."""
        return 1 + max(int(log.positions.max()) for log in self.logs.values())

    def distribution(self, policy: str) -> Values:
        """The policy's probability of each item at each position, [positions, items].

        Uniform for the random one. Bernoulli Thompson sampling's moves with time: what is taken is
        the frequency of items by position in its log.
        """
        log = self.logs[policy]
        if policy == RANDOM:
            return np.full((self.positions, log.item_count), 1.0 / log.item_count)
        counts = log.shown(self.positions)
        totals = counts.sum(axis=1, keepdims=True)
        if not totals.all():
            raise InvalidArgument(f"{policy}/{self.name} shows nothing at some position")
        frequencies: Values = counts / totals
        return frequencies

    def slates(self, logged: str, new: str) -> LoggedSlates:
        """``logged``'s impressions as slates of one position, with ``new``'s propensities.

        What Thompson sampling never showed at a position counts as what it could not take there.
        """
        log, wanted = self.logs[logged], self.distribution(new)
        possible = np.ones(wanted.shape, dtype=np.bool_)
        if logged == THOMPSON:
            possible = log.shown(self.positions) > 0.0
        unsupported = np.where(possible, 0.0, wanted).sum(axis=1)
        with np.errstate(divide="ignore"):
            new_log = np.log(wanted[log.positions, log.items])
        return LoggedSlates(
            rewards=log.clicks[:, None],
            log_propensities=np.log(log.propensities)[:, None],
            new_log_propensities=new_log[:, None],
            unsupported=unsupported[log.positions],
        )

    def predictions(self, logged: str, new: str, *, folds: int = 5) -> Predictions:
        """Click rates of items, shrunk, learned from the other folds of ``logged``'s log."""
        log, wanted = self.logs[logged], self.distribution(new)
        shown, of_new = np.empty(len(log)), np.empty(len(log))
        fold = np.arange(len(log)) % folds
        for left_out in range(folds):
            rates = _click_rates(log, fold != left_out)
            rows = fold == left_out
            shown[rows] = rates[log.items[rows]]
            of_new[rows] = (wanted @ rates)[log.positions[rows]]
        return Predictions(shown[:, None], of_new[:, None])


def read_campaigns(folder: Path) -> Iterator[Campaign]:
    """The campaigns that both policies have a folder of, by name.

    Raises ``NotFound`` where there is none or a file of one is missing, ``InvalidArgument`` for one
    that is no such file.
    """
    names = [
        {path.name for path in (folder / policy).iterdir() if path.is_dir()}
        if (folder / policy).is_dir()
        else set()
        for policy in POLICIES
    ]
    common = sorted(set.intersection(*names))
    if not common:
        raise NotFound(f"{folder} has no campaign under both {' and '.join(POLICIES)}")
    for name in common:
        yield Campaign(
            name, {policy: read_impressions(folder / policy / name, name) for policy in POLICIES}
        )


def read_impressions(folder: Path, campaign: str) -> Impressions:
    """Reads ``CAMPAIGN.csv`` and ``item_context.csv`` of one policy's folder."""
    items = tuple(row[0] for row in _rows(folder / "item_context.csv", ("item_id",)))
    places = {item: place for place, item in enumerate(items)}
    path = folder / f"{campaign}.csv"
    rows = list(_rows(path, _COLUMNS))
    if not rows:
        raise InvalidArgument(f"{path} has no rows")
    try:
        found = Impressions(
            items=np.array([places[row[0]] for row in rows]),
            positions=np.array([int(row[1]) for row in rows]) - 1,
            clicks=np.array([float(row[2]) for row in rows]),
            propensities=np.array([float(row[3]) for row in rows]),
            item_ids=items,
        )
    except KeyError as error:
        raise InvalidArgument(f"{path}: item {error} is not in item_context.csv") from error
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}") from error
    _check(path, "position", found.positions >= 0, "at least 1")
    _check(path, "click", np.isin(found.clicks, (0.0, 1.0)), "0 or 1")
    likely = (found.propensities > 0.0) & (found.propensities <= 1.0)
    _check(path, "propensity_score", likely, "above 0 and at most 1")
    return found


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    if not path.is_file():
        raise NotFound(f"{path} is missing")
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise InvalidArgument(f"{path} has no column {', '.join(missing)}")
        places = [header.index(name) for name in columns]
        for number, line in enumerate(lines, start=2):
            if len(line) != len(header):
                raise InvalidArgument(f"{path}:{number}: {len(line)} values, {len(header)} columns")
            yield tuple(line[place] for place in places)


def _check(path: Path, column: str, holds: NDArray[np.bool_], limit: str) -> None:
    if not holds.all():
        line = int(np.argmin(holds)) + 2
        raise InvalidArgument(f"{path}:{line}: {column} must be {limit}")


def _click_rates(log: Impressions, rows: NDArray[np.bool_]) -> Values:
    """Click rate of each item [items] in ``rows``: (clicks + prior) / (shown + prior / rate)."""
    items, clicks = log.items[rows], log.clicks[rows]
    rate = float(clicks.mean())
    if rate == 0.0:
        return np.zeros(log.item_count)
    shown = np.bincount(items, minlength=log.item_count)
    clicked = np.bincount(items, weights=clicks, minlength=log.item_count)
    return (clicked + _PRIOR_CLICKS) / (shown + _PRIOR_CLICKS / rate)
