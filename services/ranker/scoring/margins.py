"""What the items of a table earn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from services.common.domain_selection import Margin
from services.ranker.arrays import Float64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.scoring.value import Margins, margin_amounts


def bind_margins(
    margin: Margin | None,
    rates: Mapping[str, float],
    objectives: Sequence[str],
    money: Sequence[str],
    table: EntityTable,
) -> Margins | None:
    """Margins of every slot of ``table``; None without a margin, or where no objective is of money.

    None, too, where the table lacks the price or the share, as that of an older bundle may.

    ``rates``: minor units of the domain's currency that one of another's is worth, by code; an item
    whose currency has none earns nothing.
    """
    columns = np.array([at for at, name in enumerate(objectives) if name in money], np.int64)
    if margin is None or not len(columns):
        return None
    prices = table.numeric(margin.price)
    shares = table.numeric(margin.share) if isinstance(margin.share, str) else margin.share
    if prices is None or shares is None:
        return None
    return Margins(columns, margin_amounts(prices, shares, _rates(margin, rates, table)))


def _rates(margin: Margin, rates: Mapping[str, float], table: EntityTable) -> Float64Array | float:
    column = None if margin.currency is None else table.strings(margin.currency)
    if column is None:
        return 1.0
    codes, pool = column
    known = np.array([rates.get(code, 0.0) for code in pool.values])
    # Code 0: an item that names no currency is priced in the domain's own.
    known[0] = 1.0
    return known[codes]
