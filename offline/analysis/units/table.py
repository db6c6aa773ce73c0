"""Units of one experiment with their outcomes, at one moment: what is compared.

Arrays of a table have one entry a row, n rows in all, in one order. A row is what is compared: a
person (whom the experiment gave a variant as a user or by a device), a host, room or slice of time,
or, where the plan looks inside of these, a viewer within one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Texts = NDArray[Any]
"""dtype object, of str."""

PARTS_OF_WINDOW = 7


@dataclass(frozen=True)
class MetricColumns:
    """A metric of each row.

    ``numerator`` float64 [n] and, of a ratio of two sums, ``denominator`` float64 [n]; both are 0
    where the row is not mature. Where slices of time are cut by a burn-in, a mean is a ratio, too,
    by the share of a whole slice's time that counts. ``mature`` bool [n]: the row's window has
    ended, so that its value counts. ``matured_ms`` int64 [n]: when it ends (epoch).
    """

    numerator: Floats
    denominator: Floats | None
    mature: Flags
    matured_ms: Ints

    @property
    def immature(self) -> int:
        """Rows that are left out because their window has not ended."""
        return int(np.count_nonzero(~self.mature))


@dataclass(frozen=True)
class DailySums:
    """A metric's cumulative sums at the end of D days of the report's time zone, by V variants.

    A row enters, with its value as it is known now, on the day on which its window ended.
    ``day_ms`` int64 [D]: when each day began (epoch), without gaps. ``units`` float64 [D x V];
    ``sums`` float64 [D x V x K]: of the numerator and, of a ratio (K = 2), the denominator;
    ``products`` float64 [D x V x K x K]: sums of the products of each two.
    """

    day_ms: Ints
    units: Floats
    sums: Floats
    products: Floats


@dataclass(frozen=True)
class Credits:
    """What two rankings earned that were shown in one slate (team draft), over the persons who saw
    such slates in the arm ``variant``.

    ``teams``: the variants whose rankings these are. ``unit`` int64 [m]; ``earned``, by metric:
    float64 [m x 2], the outcomes on items that each team brought.
    """

    variant: str
    teams: tuple[str, str]
    unit: Ints
    earned: Mapping[str, Floats]


@dataclass(frozen=True)
class UnitTable:
    """Rows of an experiment, as known when ``as_of_ms`` (epoch) had come, and ``position`` records
    of the log, of which ``lost_records`` at least could not be read.

    ``unit`` int64 [n]: number of the person, or of the cluster where the rows are clusters.
    ``variant`` int64 [n]: index into ``variants``, of which the first is the control.
    ``exposed_ms`` int64 [n]: first exposure (epoch). ``cluster`` int64 [n]: number of the host,
    room or slice; None where rows are persons. ``other_variant`` int64 [n]: of a two-sided
    experiment, the arm of the other side. ``metrics`` by name; ``covariates`` float64 [n] by name,
    from before exposure; ``segments`` by name, object [n] of str, "" where it is not known.
    ``overlaps``: by the key of another experiment, int64 [n]: index into ``overlap_variants`` of
    its variant, -1 where the person is not in it.

    ``slopes`` float64 [n]: of what the primary metric counts (of a ratio its numerator) in each of
    ``PARTS_OF_WINDOW`` equal parts of its window, the least-squares slope by part; 0 where the row
    is not mature.

    ``excluded``: units left out, by reason: "crossover" (seen in two variants), "forced" (some
    variant was forced), "unknown_variant" (one that the definition no longer has). ``exposures``:
    exposure events that count, those of units left out among them. ``revisions`` of the definition
    by which they were decided, ascending.
    """

    variants: tuple[str, ...]
    unit: Ints
    variant: Ints
    exposed_ms: Ints
    cluster: Ints | None
    other_variant: Ints | None
    metrics: Mapping[str, MetricColumns]
    covariates: Mapping[str, Floats]
    segments: Mapping[str, Texts]
    daily: Mapping[str, DailySums]
    overlaps: Mapping[str, Ints]
    overlap_variants: Mapping[str, tuple[str, ...]]
    credits: tuple[Credits, ...]
    excluded: Mapping[str, int]
    exposures: int
    revisions: tuple[int, ...]
    position: int
    as_of_ms: int
    slopes: Floats
    lost_records: int = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.unit)

    def units_of(self, variant: str) -> int:
        """Rows of one arm."""
        return int(np.count_nonzero(self.variant == self.variants.index(variant)))
