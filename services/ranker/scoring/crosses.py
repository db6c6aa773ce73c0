"""Cross features of a request's candidates: the user's pairs joined with what each item says."""

from __future__ import annotations

import numpy as np

from services.common.crosses import (
    AffinityCross,
    Entries,
    ListedCross,
    RatioCross,
    listed,
    ratio,
)
from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.catalogue.pools import StringPool
from services.ranker.feature_rows import FeatureRows
from services.ranker.plan import BundleSpec, SurfacePlan
from services.ranker.users import UserInputs


def cross_features(
    spec: BundleSpec,
    plan: SurfacePlan,
    slots: Int64Array,
    rows: FeatureRows,
    inputs: UserInputs,
    row: int,
) -> Float32Array:
    """Cross features float32 [n, X] of the items of slots [n], columns as in ``spec.crosses``.

    ``row``: the user's in ``rows`` and ``inputs``.
    """
    columns = np.zeros((len(slots), len(spec.crosses)), np.float32)
    for at, cross in enumerate(spec.crosses.values()):
        if isinstance(cross, RatioCross):
            user = inputs.features[row, spec.user_features.index(cross.user)]
            item = plan.items.features[slots, spec.item_features.index(cross.item)]
            columns[:, at] = ratio(np.full(len(slots), user, np.float32), item)
            continue
        if isinstance(cross, AffinityCross):
            owner = np.zeros(len(slots), np.int64)
            wanted = _vocabulary_rows(spec, plan, slots)
            history = inputs.items[row : row + 1]
            columns[:, at] = spec.affinities.of_histories(cross, history, owner, wanted)
            continue
        texts = plan.table.strings(cross.item)
        if texts is None or cross.item in spec.unread.get(plan.table.entity, ()):
            columns[:, at] = cross.missing
            continue
        codes, pool = texts
        entries = _entries(cross, pool, rows, row)
        width = len(pool.values)
        columns[:, at] = listed(entries, 1, width, codes[slots], cross.missing)
    return columns


def _vocabulary_rows(spec: BundleSpec, plan: SurfacePlan, slots: Int64Array) -> Int64Array:
    """Rows of the sequence's vocabulary that items stand in, [n], 0 where they stand in none."""
    fields = spec.towers[plan.table.entity].fields
    own = [column for column, (name, _) in enumerate(fields) if name == spec.sequence_vocabulary]
    return plan.items.fields[slots, own[0]] if own else np.zeros(len(slots), np.int64)


def _entries(cross: ListedCross, pool: StringPool, rows: FeatureRows, row: int) -> Entries:
    """Those of the user's list that some item has."""
    ids = rows.strings_of(row, cross.ids)[: cross.first]
    codes = np.array([pool.code_of(id_) or 0 for id_ in ids], np.int64)
    values = np.ones(len(ids), np.float32)
    if cross.values is not None:
        given = rows.vector_of(row, cross.values)
        # Rows without that column say nothing of the pairs.
        values = given[: len(ids)] if len(given) else values[:0]
        codes = codes[: len(values)]
    kept = np.flatnonzero(codes)
    return Entries(np.zeros(len(kept), np.int64), codes[kept], values[kept])
