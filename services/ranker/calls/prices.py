"""What the items of a slate cost at this moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from services.ranker.arrays import Int64Array
from services.ranker.catalogue.table import EntityTable

PRICE = "price_minor"
"""The attribute that the price of an entity upsert sets."""

UNKNOWN = -1


class Prices:
    """The prices of one version of the catalogue."""

    def __init__(self, tables: Mapping[str, EntityTable]) -> None:
        self._priced: dict[str, tuple[EntityTable, Int64Array]] = {}
        for entity, table in tables.items():
            column = table.numeric(PRICE)
            if column is not None:
                known = table.alive & table.present_of(PRICE)
                prices = np.where(known, column, UNKNOWN).astype(np.int64)
                self._priced[entity] = (table, prices)

    def of(
        self, entity: str, slots: Int64Array | Sequence[int], selling: Sequence[str]
    ) -> list[int]:
        """Prices of items of one type by slot; where that has no price, of what each sells.

        -1 stands for a price that is not known; empty when neither has prices.
        """
        if entity in self._priced:
            _, column = self._priced[entity]
        elif selling and self._priced:
            return [self._of_sold(id_) for id_ in selling]
        else:
            return []
        prices: list[int] = column[slots].tolist()
        return prices

    def _of_sold(self, id_: str) -> int:
        """The price of what is sold, whichever type of what is priced it is of."""
        for table, column in self._priced.values():
            slot = table.slot_of.get(id_, len(table))
            # A newer version of the table, which shares its dictionary, may know more ids.
            if slot < len(table) and column[slot] != UNKNOWN:
                return int(column[slot])
        return UNKNOWN
