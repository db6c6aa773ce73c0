"""What the models read of a cut, and what the surface's filters bar there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from offline.dataset.columns import Columns
from offline.dataset.log_tables import open_tables
from offline.dataset.point_in_time import point_in_time
from offline.dataset.schema import attribute_column, changes_table
from offline.evaluation.protocol import Cut, read_columns, rows_of, sequence_events
from offline.evaluation.ragged import Ragged, Rows
from offline.evaluation.shipped import Floats, ModelInputs
from offline.training.crosses import CrossRows, HistorySides, read_crosses
from services.common.bundle.loaded import LoadedBundle
from services.common.crosses import Cross, ListedCross
from services.common.domain import Domain, features_of
from services.common.domain_features import LastNFeature
from services.common.domain_filters import NotInListFilter
from services.feature.definitions import USER_ENTITY, compile_views


@dataclass(frozen=True)
class CutReader:
    """Reads of the log what is known as of a cut about its users and items."""

    domain: Domain
    surface: str
    cut: Cut
    columns: Columns

    @cached_property
    def attributes(self) -> dict[str, pa.Array]:
        """Catalogue attributes of the fold's items as of the cut, null where never set, by name.

        Where the log has no common clock: as of its end.
        """
        entity = self.domain.model.sequence.entity
        ids = self.cut.fold.items
        names = list(self.domain.entities[entity].attributes)
        fields = [attribute_column(name) for name in names]
        read = ["id", "time_ms", "arrival", *fields]
        changes = read_columns(self.columns, changes_table(entity), read)
        if self.cut.items_time_ms is not None:
            changes = changes.filter(pc.less_equal(changes["time_ms"], self.cut.items_time_ms))
        changes = changes.sort_by([("time_ms", "ascending"), ("arrival", "ascending")])
        found: dict[str, pa.Array] = {}
        for name, field in zip(names, fields, strict=True):
            stated = changes.filter(pc.is_valid(changes[field]))
            latest = np.full(len(ids), -1, dtype=np.int64)
            # Assignment by a repeated index keeps the last one, which is the latest statement.
            latest[rows_of(stated["id"], ids)] = np.arange(stated.num_rows)
            values = stated[field].combine_chunks()
            found[name] = values.take(pa.array(latest, mask=latest < 0))
        return found

    def barred(self) -> Ragged:
        """Items that the surface's not_in_list filters remove for each question, [n]."""
        owners, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for rule in self.domain.surfaces[self.surface].filters:
            if not isinstance(rule, NotInListFilter):
                continue
            rows = self._owned_rows(rule)
            if rows is not None:
                owners.append(rows.owners)
                values.append(rows.values)
                continue
            having: dict[str, list[int]] = {}
            for row, value in enumerate(self._texts(rule.attribute)):
                having.setdefault(value, []).append(row)
            for question, listed in enumerate(self._listed(rule.feature)):
                held = [row for value in set(listed) - {""} for row in having.get(value, ())]
                owners.append(np.full(len(held), question, dtype=np.int64))
                values.append(np.array(held, dtype=np.int64))
        pairs = np.unique(np.stack([np.concatenate(owners), np.concatenate(values)]), axis=1)
        return Ragged.grouped(pairs[0], pairs[1], len(self.cut.fold.asked))

    def inputs(self, bundle: LoadedBundle) -> ModelInputs:
        """Everything the bundle's models read, for the cut's questions and items."""
        manifest, count = bundle.manifest, len(self.cut.fold.items)
        sources = self.domain.surfaces[self.surface].sources
        trending = [source.feature for source in sources if source.kind == "trending"]
        items = self._item_features([*manifest.item_features, *trending])
        tower = manifest.towers[self.domain.model.sequence.entity]
        fields = np.zeros((count, len(manifest.tower_fields)), dtype=np.int64)
        for column, vocabulary in enumerate(manifest.tower_fields):
            if vocabulary in tower.fields:
                values = self._texts(tower.fields[vocabulary])
                fields[:, column] = bundle.lookup(vocabulary, values)
        numeric = [
            _numbers(self.attributes[name] if name in tower.numeric else None, count)
            for name in manifest.tower_numeric
        ]
        user_features = self._user_features(manifest.user_features)
        crosses = {named.name: named.cross for named in manifest.crosses}
        sequence_items, sequence_actions = _sequences(self.cut, bundle)
        return ModelInputs(
            sequence_items=sequence_items,
            sequence_actions=sequence_actions,
            user_features=user_features,
            item_features=_stacked([items[name] for name in manifest.item_features], count),
            tower_fields=fields,
            tower_numeric=_stacked(numeric, count),
            trending={name: items[name] for name in trending},
            crosses=self._crosses(
                crosses,
                dict(zip(manifest.user_features, user_features.T, strict=True)),
                items,
                HistorySides(
                    sequence_items,
                    fields[:, manifest.tower_fields.index(manifest.sequence.vocabulary)],
                    bundle.affinities,
                ),
            ),
        )

    def _crosses(
        self,
        crosses: Mapping[str, Cross],
        users: Mapping[str, Floats],
        items: Mapping[str, Floats],
        histories: HistorySides,
    ) -> CrossRows:
        """What ``crosses`` read of the cut's users and items, whose numbers are given by name."""
        listed = [cross for cross in crosses.values() if isinstance(cross, ListedCross)]
        lists = dict.fromkeys(cross.ids for cross in listed)
        numbers = dict.fromkeys(cross.values for cross in listed if cross.values is not None)
        of_users = {f"u.{name}": pa.chunked_array([values]) for name, values in users.items()}
        if listed:
            rows = self._known(USER_ENTITY, self._asked(), [*lists, *numbers])
            of_users |= {f"l.{name}": rows[name] for name in lists}
            of_users |= {f"v.{name}": rows[name] for name in numbers}
        of_items = {f"i.{name}": pa.chunked_array([values]) for name, values in items.items()}
        own = features_of(self.domain, self.domain.model.sequence.entity)
        for cross in listed:
            attribute = getattr(own.get(cross.item), "attribute", None) or cross.item
            texts = self._texts(attribute) if cross.item in own else [""] * len(self.cut.fold.items)
            of_items[f"k.{cross.item}"] = pa.chunked_array([pa.array(texts, pa.string())])
        return read_crosses(crosses, pa.table(of_users), pa.table(of_items), histories)

    def _texts(self, attribute: str) -> list[str]:
        """A string attribute of every item, empty where never set; ``id`` is the item's own id."""
        if attribute == "id":
            return list(self.cut.fold.items)
        return [value or "" for value in self.attributes[attribute].to_pylist()]

    def _owned_rows(self, rule: NotInListFilter) -> Ragged | None:
        """Item rows [n] of a filter by the item's own id over events that the fold's histories
        hold: no need to ask the log again. None for any other filter."""
        feature, fold = self.domain.features[rule.feature], self.cut.fold
        if not (
            rule.attribute == "id"
            and isinstance(feature, LastNFeature)
            and feature.emit == "id"
            and feature.of == self.domain.model.sequence.entity
            and set(feature.events) <= set(sequence_events(self.domain))
        ):
            return None
        codes = [c for c, name in enumerate(self.cut.action_names) if name in feature.events]
        kept = np.isin(self.cut.actions, codes)
        owners, values = fold.history.owners[kept], fold.history.values[kept]
        lists = Ragged.grouped(owners, values, len(fold.users)).take(fold.asked)
        recent = _back(lists) <= feature.limit
        return Ragged.grouped(lists.owners[recent], lists.values[recent], len(lists))

    def _listed(self, name: str) -> Sequence[Sequence[str]]:
        """A list feature of the asked users, as of the cut."""
        listed: list[list[str]] = self._known(USER_ENTITY, self._asked(), [name])[name].to_pylist()
        return listed

    def _user_features(self, names: Sequence[str]) -> Floats:
        if not names:
            return np.zeros((len(self.cut.fold.asked), 0), dtype=np.float32)
        rows = self._known(USER_ENTITY, self._asked(), names)
        return _stacked([rows[name].to_numpy() for name in names], len(self.cut.fold.asked))

    def _item_features(self, names: Sequence[str]) -> dict[str, Floats]:
        """Raw values float32 [I] by name; the declared default where the entity lacks a feature."""
        entity, count = self.domain.model.sequence.entity, len(self.cut.fold.items)
        own = features_of(self.domain, entity)
        views = compile_views(self.domain).values()
        defaults = {feature.name: feature.default for view in views for feature in view.features}
        found: dict[str, Floats] = {}
        moving = [name for name in names if name in own and own[name].kind != "attribute"]
        moving = list(dict.fromkeys(moving))
        if moving and self.cut.items_time_ms is not None:
            times = np.full(count, self.cut.items_time_ms)
            arrivals = np.full(count, self.cut.last_arrival)
            rows = self._known(entity, _probes(self.cut.fold.items, times, arrivals), moving)
            found |= {name: rows[name].to_numpy().astype(np.float32) for name in moving}
        for name in names:
            default = defaults[name]
            if name in own and own[name].kind == "attribute":
                attribute = getattr(own[name], "attribute", None) or name
                found[name] = _numbers(self.attributes[attribute], count)
            elif name not in found:
                value = float(default) if isinstance(default, (int, float)) else 0.0
                found[name] = np.full(count, value, dtype=np.float32)
        return found

    def _asked(self) -> pa.Table:
        users = [self.cut.fold.users[int(user)] for user in self.cut.fold.asked]
        return _probes(users, self.cut.time_ms, self.cut.arrival)

    def _known(self, entity: str, probes: pa.Table, names: Sequence[str]) -> pa.Table:
        with open_tables(self.columns) as tables:
            return point_in_time(self.domain, tables, entity, probes, features=names)


def _sequences(cut: Cut, bundle: LoadedBundle) -> tuple[Rows, Rows]:
    """Right-aligned item and action indices [n, L], 0 where the history is shorter."""
    sequence = bundle.manifest.sequence
    fold = cut.fold
    row_index = bundle.lookup(sequence.vocabulary, fold.items)
    action_index = bundle.lookup_actions(cut.action_names)
    items = np.zeros((len(fold.asked), sequence.length), dtype=np.int64)
    actions = np.zeros_like(items)
    history = fold.history.take(fold.asked)
    done = cut.actions[fold.history.positions(fold.asked)]
    back = _back(history)
    recent = back <= sequence.length
    place = (history.owners[recent], sequence.length - back[recent])
    items[place] = row_index[history.values[recent]]
    actions[place] = action_index[done[recent]]
    return items, actions


def _back(rows: Ragged) -> Rows:
    """How far each value stands from the end of its row, 1 for the last, [total]."""
    return np.repeat(rows.offsets[1:], rows.lengths) - np.arange(len(rows.values))


def _probes(ids: Sequence[str], time_ms: Rows, arrival: Rows) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "time_ms": pa.array(time_ms, pa.int64()),
            "arrival": pa.array(arrival, pa.int64()),
        }
    )


def _numbers(values: pa.Array | None, count: int) -> Floats:
    """float32 [count], 0 where a value was never set."""
    if values is None:
        return np.zeros(count, dtype=np.float32)
    filled = pc.fill_null(pc.cast(values, pa.float64()), 0.0)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.float32)


def _stacked(columns: Sequence[NDArray[np.generic]], rows: int) -> Floats:
    if not columns:
        return np.zeros((rows, 0), dtype=np.float32)
    return np.stack([np.asarray(c, dtype=np.float32) for c in columns], axis=1)
