"""What the pipeline is asked: requests of a held-out period, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.dataset.tables import Dataset
from offline.evaluation.protocol import Cut
from offline.evaluation.ragged import Rows
from services.common.errors import FailedPrecondition


@dataclass(frozen=True)
class Questions:
    """n requests by moment, each at a point of the log: up to ``time_ms``, before ``arrival``,
    int64 [n].

    ``users``: ids [n], as the log names them. ``rank_ids`` [n] decide what explores. ``truth``:
    ids that were chosen, at least one [n]. ``unsettled`` counts choices that may still be undone.
    ``moment`` int64 [n], which never falls, is the place in ``moments`` (time_ms, arrival) at which
    the catalogue is taken; what the clock shows then is that time.
    """

    users: Sequence[str]
    time_ms: Rows
    arrival: Rows
    rank_ids: Sequence[str]
    truth: Sequence[frozenset[str]]
    moment: Rows
    moments: Sequence[tuple[int, int]]
    unsettled: int = 0

    def __len__(self) -> int:
        return len(self.users)


def of_requests(
    dataset: Dataset, surface: str, entity: str, objective: str, split: str, *, most: int, seed: int
) -> Questions:
    """Logged requests of a surface after which the objective was met by something they showed.

    Each is asked at its own point, before anything of it was seen. Of more than ``most`` that many
    are drawn. Raises ``FailedPrecondition`` where there is none.
    """
    table = dataset.examples
    met = pc.equal(table[f"y.{objective}"], 1)
    for column, value in (("split", split), ("surface", surface), ("entity_type", entity)):
        met = pc.and_(met, pc.equal(table[column], value))
    found = table.filter(pc.and_(met, pc.not_equal(table["rank_id"], "")))
    columns = ["rank_id", "user", "time_ms", "arrival", "entity_id", f"m.{objective}"]
    found = found.select(columns).sort_by([("time_ms", "ascending"), ("arrival", "ascending")])
    if not found.num_rows:
        raise FailedPrecondition(
            f"the {split} split holds no request of surface {surface} after which {objective} was"
            " met",
            reason="NOTHING_TO_ASK",
        )
    first: dict[str, int] = {}
    truth: dict[str, set[str]] = {}
    ids = found["entity_id"].to_pylist()
    for row, rank_id in enumerate(found["rank_id"].to_pylist()):
        first.setdefault(rank_id, row)
        truth.setdefault(rank_id, set()).add(ids[row])
    asked = [*first]
    if len(asked) > most:
        drawn = np.random.default_rng(seed).choice(len(asked), most, replace=False)
        asked = [asked[place] for place in sorted(drawn.tolist())]
    changing = found.filter(pc.invert(pc.fill_null(found[f"m.{objective}"], False)))
    unsettled = set(changing["rank_id"].to_pylist())
    rows = found.take(pa.array([first[rank_id] for rank_id in asked]))
    time_ms = rows["time_ms"].to_numpy().astype(np.int64)
    arrival = rows["arrival"].to_numpy().astype(np.int64)
    points = list(zip(time_ms.tolist(), arrival.tolist(), strict=True))
    moments = [*dict.fromkeys(points)]
    place = {point: at for at, point in enumerate(moments)}
    return Questions(
        users=rows["user"].to_pylist(),
        time_ms=time_ms,
        arrival=arrival,
        rank_ids=asked,
        truth=[frozenset(truth[rank_id]) for rank_id in asked],
        moment=np.array([place[point] for point in points], np.int64),
        moments=moments,
        unsettled=len(unsettled & set(asked)),
    )


def of_cut(cut: Cut, end_ms: int) -> Questions:
    """The questions of a fold: users at the cut, over the catalogue of then.

    Where the log has no common clock the catalogue, and what the clock shows, are of its end.
    """
    fold = cut.fold
    users = [fold.users[int(user)] for user in fold.asked]
    at_ms = end_ms if cut.items_time_ms is None else cut.items_time_ms
    return Questions(
        users=users,
        time_ms=cut.time_ms,
        arrival=cut.arrival,
        rank_ids=users,
        truth=[
            frozenset(fold.items[item] for item in fold.truth.row(question).tolist())
            for question in range(len(users))
        ],
        moment=np.zeros(len(users), np.int64),
        moments=[(at_ms, cut.last_arrival)],
    )
