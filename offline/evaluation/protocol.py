"""From a log to a fold: who is asked, what they had done, what they chose, what may be ranked.

By time (``split.kind: time``): the cut is the start of the split. Asked are users who met the
objective in the split's window with an item that was in the catalogue at the cut; what they gave
back in full does not count. Leave last out: see ``fold.leave_last``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline.dataset.columns import EVENTS, Columns
from offline.dataset.schema import changes_table, entity_column
from offline.dataset.tables import TEST, Dataset
from offline.evaluation.fold import Fold, leave_last
from offline.evaluation.ragged import Ragged, Rows
from services.common.domain import Domain
from services.common.domain_features import LastNFeature
from services.common.errors import FailedPrecondition, InvalidArgument
from services.feature.definitions import REFUND


@dataclass(frozen=True)
class Cut:
    """A fold and the points in time its features are taken at.

    ``actions`` int64 [total]: event type of each event in ``fold.history``, a place in
    ``action_names``. ``time_ms`` and ``arrival``
    int64 [n]: as-of point of each question; ``items_time_ms``: that of the items' own features,
    None where the log has no common clock; ``last_arrival``: after every record of the log.
    """

    fold: Fold
    actions: Rows
    action_names: tuple[str, ...]
    time_ms: Rows
    arrival: Rows
    items_time_ms: int | None
    last_arrival: int


def target_objective(domain: Domain) -> str:
    """The objective with events that weighs most: what a good ranking is measured by."""
    counted = {name: o.weight for name, o in domain.objectives.items() if o.events}
    if not counted:
        raise InvalidArgument("no objective of the domain counts events")
    return max(counted, key=lambda name: counted[name])


def main_surface(domain: Domain) -> str:
    """The first surface that ranks the entity of the model's sequence."""
    entity = domain.model.sequence.entity
    for name, surface in domain.surfaces.items():
        if surface.entity == entity:
            return name
    raise InvalidArgument(f"no surface of the domain ranks {entity}")


def last_out_cut(
    domain: Domain,
    dataset: Dataset,
    split: str,
    objective: str,
    *,
    sample: int | None = None,
    seed: int = 0,
) -> Cut:
    """Leave the last interaction out (test), or the last but one (validation)."""
    table = dataset.interactions
    catalogue = dataset.catalogue[domain.model.sequence.entity]
    items, _ = coded(catalogue["id"])
    users, owners = coded(table["user"])
    rows = rows_of(table["item"], items)
    found = rows >= 0
    sequences = Ragged.grouped(owners[found], rows[found], len(users))
    held_out = 1 if split == TEST else 2
    fold = leave_last(items, users, sequences, held_out=held_out, sample=sample, seed=seed)
    kept = np.maximum(sequences.lengths - held_out, 0)
    within = np.arange(len(sequences.values)) - sequences.offsets[:-1][sequences.owners]
    before = within < kept[sequences.owners]
    order = np.flatnonzero(found)[np.argsort(owners[found], kind="stable")]
    action_names, actions = coded(table["action"])
    targets = _among(table["action"], domain.objectives[objective].events)[order]
    point = sequences.offsets[:-1][fold.asked] + kept[fold.asked]
    return Cut(
        fold=replace(fold, is_target=targets[before]),
        actions=actions[order][before],
        action_names=action_names,
        time_ms=array_of(table["time_ms"])[order][point],
        arrival=array_of(table["arrival"])[order][point],
        items_time_ms=None,
        last_arrival=dataset.meta.log_position,
    )


def time_cut(domain: Domain, columns: Columns, objective: str, start_ms: int, end_ms: int) -> Cut:
    """The cut at ``start_ms``; what is chosen in [start_ms, end_ms] is the truth.

    Nothing is barred yet: see ``features.CutReader.barred`` and ``with_bars``.
    """
    entity = domain.model.sequence.entity
    ids, available = _catalogue_at(columns, entity, start_ms)
    events = _events(domain, columns, objective)
    found = rows_of(events[entity_column(entity)], ids)
    events = events.filter(pa.array(found >= 0))
    rows, times = found[found >= 0], array_of(events["time_ms"])
    target = _among(events["type"], domain.objectives[objective].events)
    kept = target & ~_given_back(columns, events)

    users, owners = coded(events["actor"])
    action_names, actions = coded(events["type"])
    before = (times < start_ms) & _among(events["type"], sequence_events(domain))
    chosen = kept & (times >= start_ms) & (times <= end_ms) & available[rows]
    pairs = np.unique(np.stack([owners[chosen], rows[chosen]], axis=1), axis=0)
    asked, truth_owner = np.unique(pairs[:, 0], return_inverse=True)
    by_user = np.argsort(owners[before], kind="stable")
    fold = Fold(
        items=ids,
        users=users,
        history=Ragged.grouped(owners[before], rows[before], len(users)),
        is_target=target[before][by_user],
        age_ms=start_ms - times[before][by_user],
        asked=asked,
        truth=Ragged.grouped(truth_owner.astype(np.int64), pairs[:, 1], len(asked)),
        barred=Ragged.of([[]] * len(asked)),
        available=available,
    )
    return Cut(
        fold=fold,
        actions=actions[before][by_user],
        action_names=action_names,
        time_ms=np.full(len(asked), start_ms - 1, dtype=np.int64),
        arrival=np.full(len(asked), columns.state.next_arrival, dtype=np.int64),
        items_time_ms=start_ms - 1,
        last_arrival=columns.state.next_arrival,
    )


def with_bars(cut: Cut, barred: Ragged) -> Cut:
    """The cut with ``barred`` [n] set on its fold.

    True items that are barred are dropped, and then questions without a true item: no system could
    answer them.
    """
    fold = cut.fold
    count = len(fold.items)
    truth_pairs = fold.truth.owners * count + fold.truth.values
    kept = ~np.isin(truth_pairs, barred.owners * count + barred.values)
    truth = Ragged.grouped(fold.truth.owners[kept], fold.truth.values[kept], len(fold.asked))
    left = np.flatnonzero(truth.lengths > 0).astype(np.int64)
    return replace(
        cut,
        fold=replace(
            fold, asked=fold.asked[left], truth=truth.take(left), barred=barred.take(left)
        ),
        time_ms=cut.time_ms[left],
        arrival=cut.arrival[left],
    )


def sequence_events(domain: Domain) -> list[str]:
    """Event types that the model's sequence lists."""
    feature = domain.features[domain.model.sequence.items]
    if not isinstance(feature, LastNFeature):
        raise FailedPrecondition("the model's sequence is not a last_n feature")
    return feature.events


def _catalogue_at(
    columns: Columns, entity: str, cut_ms: int
) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Ids ever in the catalogue, ascending, and whether each was in it just before ``cut_ms``."""
    changes = read_columns(
        columns, changes_table(entity), ["id", "time_ms", "arrival", "withdrawn"]
    )
    if changes.num_rows == 0:
        raise FailedPrecondition(f"the log holds no {entity}")
    changes = changes.sort_by([("time_ms", "ascending"), ("arrival", "ascending")])
    ids, rows = coded(changes["id"])
    available = np.zeros(len(ids), dtype=np.bool_)
    stated = array_of(pc.is_valid(changes["withdrawn"]))
    before = (array_of(changes["time_ms"]) < cut_ms) & stated
    # Assignment by a repeated index keeps the last one, which is the latest statement.
    available[rows[before]] = ~array_of(pc.fill_null(changes["withdrawn"], False))[before]
    return ids, available


def _events(domain: Domain, columns: Columns, objective: str) -> pa.Table:
    """Sequence and objective events of known actors that name the sequence's entity, in order."""
    entity = entity_column(domain.model.sequence.entity)
    names = ["event_id", "type", "time_ms", "arrival", "actor", entity]
    table = read_columns(columns, EVENTS, names)
    wanted = {*sequence_events(domain), *domain.objectives[objective].events}
    kept = pc.and_(
        pc.is_in(table["type"], pa.array(sorted(wanted))),
        pc.and_(pc.is_valid(table[entity]), pc.not_equal(table["actor"], "")),
    )
    return table.filter(kept).sort_by([("time_ms", "ascending"), ("arrival", "ascending")])


def _given_back(columns: Columns, events: pa.Table) -> NDArray[np.bool_]:
    """Whether the refunds in the log add up to what the purchase cost, [events]."""
    names = ["type", "arrival", "given_back_minor", "purchase_event_id", "purchase_amount_minor"]
    refunds = read_columns(columns, EVENTS, names)
    refunds = refunds.filter(pc.equal(refunds["type"], REFUND)).sort_by("arrival")
    if refunds.num_rows == 0:
        return np.zeros(events.num_rows, dtype=np.bool_)
    purchases, place = coded(refunds["purchase_event_id"])
    _, first = np.unique(place, return_index=True)
    returned = np.bincount(place, weights=array_of(refunds["given_back_minor"]))
    full = returned >= array_of(refunds["purchase_amount_minor"])[first]
    return _among(events["event_id"], [purchases[row] for row in np.flatnonzero(full)])


def read_columns(columns: Columns, table: str, names: list[str]) -> pa.Table:
    """Named columns of ``events`` or ``changes.<entity>`` of the compacted log."""
    parts = [pq.read_table(path, columns=names, partitioning=None) for path in columns.files(table)]
    if parts:
        return pa.concat_tables(parts)
    entity = table.removeprefix("changes.")
    schema = (
        columns.schema.event_schema if table == EVENTS else columns.schema.change_schema(entity)
    )
    return schema.empty_table().select(names)


def coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Rows]:
    """Distinct values of a string column without nulls, ascending, and the place of each value."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    place = np.empty(len(order), dtype=np.int64)
    place[order.to_numpy()] = np.arange(len(order))
    codes = place[encoded.indices.to_numpy(zero_copy_only=False)]
    return tuple(encoded.dictionary.take(order).to_pylist()), codes


def rows_of(column: pa.ChunkedArray, ids: Sequence[str]) -> Rows:
    """Place of each value in ``ids``, -1 where it is not there, int64 [n]."""
    place = pc.fill_null(pc.index_in(column, value_set=pa.array(ids, pa.string())), -1)
    return np.asarray(place.to_numpy(), dtype=np.int64)


def array_of(column: pa.ChunkedArray) -> NDArray[Any]:
    """A numeric or boolean column without nulls."""
    return np.asarray(column.to_numpy())


def _among(column: pa.ChunkedArray, values: Sequence[str]) -> NDArray[np.bool_]:
    found = pc.is_in(column, value_set=pa.array(values, pa.string()))
    return np.asarray(found.to_numpy(), dtype=np.bool_)
