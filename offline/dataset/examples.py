"""Interactions, examples and the catalogue as expressions. ``tables`` says what they hold."""

from __future__ import annotations

from functools import reduce

import ibis
import ibis.expr.types as ir

from offline.dataset.attribution import Attribution, Candidates, qualifying_events
from offline.dataset.histories import remembered
from offline.dataset.log_tables import LogTables
from offline.dataset.point_in_time import POINT_KEYS, known_features, selected_features
from offline.dataset.schema import attribute_column, entity_column
from offline.dataset.tables import (
    TEST,
    TRAIN,
    VALIDATION,
    cross_items,
    cross_lists,
    cross_values,
    numeric_names,
    vocabulary_names,
)
from services.common.domain import Domain
from services.common.domain_features import LastNFeature
from services.feature.definitions import (
    IMPRESSION,
    SLATE_SERVED,
    USER_ENTITY,
    ViewFeature,
    compile_views,
)

OWN_ID = "id"
_IDENTITY = (
    "example_id",
    "rank_id",
    "user",
    "time_ms",
    "arrival",
    "surface",
    "entity_type",
    "entity_id",
    "position",
)


class ExampleTables:
    """The tables of a dataset, over one log. ``split_starts``: (validation, test) epoch ms of a
    split by time, else None."""

    def __init__(
        self,
        domain: Domain,
        tables: LogTables,
        end_ms: int,
        split_starts: tuple[int, int] | None,
    ) -> None:
        self._domain = domain
        self._tables = tables
        self._end_ms = end_ms
        self._split_starts = split_starts
        self._entities = ranked_entities(domain)

    def interactions(self) -> ir.Table:
        """What users did with the sequence entity."""
        sequence = self._domain.model.sequence
        feature = self._domain.features[sequence.items]
        assert isinstance(feature, LastNFeature)  # noqa: S101 - checked with the domain file
        log = remembered(self._tables)
        item = log[entity_column(sequence.entity)]
        chosen = log.filter(log.type.isin(feature.events) & item.notnull() & (log.actor != ""))
        table = chosen.select(
            "time_ms",
            "arrival",
            "surface",
            user=chosen.actor,
            action=chosen.type,
            item=chosen[entity_column(sequence.entity)],
            target_type=chosen.subject_type,
            target_id=chosen.subject_id,
        )
        table = table.mutate(split=self._split(table))
        columns = ("user", "time_ms", "arrival", "action", "item", "surface")
        ordered = table.order_by("user", "time_ms", "arrival")
        return ordered.select(*columns, "target_type", "target_id", "split")

    def examples(self) -> ir.Table:
        """One row an example, by example_id."""
        candidates = self._candidates()
        base = self._tables.stored(self._base(candidates))
        # Lists are heavy: the user part is not stored a second time.
        parts = [
            self._tables.stored(self._item_part(base)),
            self._tables.stored(self._labels(base, candidates)),
            self._user_part(base),
        ]
        table = reduce(
            lambda left, right: left.left_join(right, "example_id").drop("example_id_right"),
            parts,
            base,
        )
        user, item, labels = parts[2], parts[0], parts[1]
        described = [n for p in (user, item, labels) for n in p.columns if n != "example_id"]
        return table.order_by("example_id").select(*_IDENTITY, *described, "split")

    def catalogue(self, entity: str) -> ir.Table:
        """The entity type's catalogue as of the end of the log, by id."""
        changes = self._tables.changes[entity]
        order = [changes.time_ms, changes.arrival]
        numbered = changes.mutate(number=ibis.row_number().over(order_by=order))
        attributes = {
            name: numbered[attribute_column(name)].argmax(
                numbered.number, where=numbered[attribute_column(name)].notnull()
            )
            for name in self._domain.entities[entity].attributes
        }
        withdrawn = numbered.withdrawn.argmax(
            numbered.number, where=numbered.withdrawn.notnull()
        ).fill_null(False)
        grouped = numbered.group_by("id").aggregate(
            withdrawn=withdrawn, first_time_ms=numbered.time_ms.min(), **attributes
        )
        return grouped.order_by("id")

    def _candidates(self) -> Candidates:
        """Impressions, or the events that objectives count where the log has none."""
        log = remembered(self._tables)
        if self._domain.log.impressions:
            chosen = log.filter(log.type == IMPRESSION)
        else:
            counted = [
                qualifying_events(self._tables, objective).select(arrival="event")
                for objective in self._domain.objectives.values()
                if objective.events
            ]
            keys = ibis.union(*counted, distinct=True) if len(counted) > 1 else counted[0]
            chosen = log.semi_join(keys, "arrival")
        chosen = chosen.filter((chosen.actor != "") & chosen.subject_type.isin(self._entities))
        entities = [entity_column(name) for name in self._domain.entities]
        table = chosen.select(
            "actor",
            "rank_id",
            "surface",
            "subject_type",
            "subject_id",
            *entities,
            "position",
            key=chosen.arrival,
            shown_ms=chosen.time_ms,
        )
        return Candidates(self._tables.stored(table), self._domain.log.impressions)

    def _base(self, candidates: Candidates) -> ir.Table:
        """Identity, as-of point and split of every example; ``key`` and ``shown_ms`` besides."""
        shown = candidates.table
        log = remembered(self._tables)
        slates = log.filter((log.type == SLATE_SERVED) & (log.rank_id != ""))
        first = slates.group_by(slate_id=slates.rank_id).aggregate(
            slate_ms=slates.time_ms.argmin(slates.arrival), slate_arrival=slates.arrival.min()
        )
        table = shown.left_join(first, shown.rank_id == first.slate_id)
        if not candidates.are_impressions:
            # An event that is its own example must not know itself: its slate came before it,
            # but what happened in between is known too.
            table = table.mutate(slate_ms=ibis.null("int64"), slate_arrival=ibis.null("int64"))
        table = table.select(
            "key",
            "shown_ms",
            "rank_id",
            "surface",
            user=table.actor,
            time_ms=ibis.coalesce(table.slate_ms, table.shown_ms),
            arrival=ibis.coalesce(table.slate_arrival, table.key),
            entity_type=table.subject_type,
            entity_id=table.subject_id,
            position=table.position if candidates.are_impressions else ibis.null("int32"),
        )
        order = [table.time_ms, table.arrival, table.key]
        number = ibis.row_number().over(order_by=order).cast("int64")
        table = table.mutate(example_id=number, split=self._split(table, "key"))
        return table.select(*_IDENTITY, "split", "key", "shown_ms")

    def _split(self, table: ir.Table, *tie: str) -> ir.StringValue:
        if self._split_starts is not None:
            validation_ms, test_ms = self._split_starts
            return ibis.cases(
                (table.time_ms >= test_ms, TEST),
                (table.time_ms >= validation_ms, VALIDATION),
                else_=TRAIN,
            )
        latest = [table[name].desc() for name in ("time_ms", "arrival", *tie)]
        back = ibis.row_number().over(group_by=table.user, order_by=latest)
        return ibis.cases((back == 0, TEST), (back == 1, VALIDATION), else_=TRAIN)

    def _user_part(self, base: ir.Table) -> ir.Table:
        """example_id, recent_items, recent_actions, ``u.<feature>``, ``l.<list>`` and
        ``v.<values>``."""
        model = self._domain.model
        sequence = model.sequence
        lists, numbers = cross_lists(self._domain), cross_values(self._domain)
        names = [sequence.items, sequence.actions, *model.user_features, *lists, *numbers]
        columns = selected_features(self._domain, USER_ENTITY, names)
        known = known_features(
            self._domain,
            self._tables,
            USER_ENTITY,
            base.select("time_ms", "arrival", id=base.user),
            columns,
        )
        joined = _with_known(base.mutate(id=base.user), known)
        return joined.select(
            "example_id",
            recent_items=joined[sequence.items],
            recent_actions=joined[sequence.actions],
            **{f"u.{n}": joined[n].cast("float32") for n in model.user_features},
            **{f"l.{n}": joined[n] for n in lists},
            **{f"v.{n}": joined[n] for n in numbers},
        )

    def _item_part(self, base: ir.Table) -> ir.Table:
        """example_id, ``i.<feature>``, ``f.<vocabulary>``, ``n.<numeric>`` and ``k.<feature>``."""
        parts = [self._items_of(entity, base) for entity in self._entities]
        return ibis.union(*parts) if len(parts) > 1 else parts[0]

    def _items_of(self, entity: str, base: ir.Table) -> ir.Table:
        """The item part of the examples about one entity type."""
        rows = base.filter(base.entity_type == entity).mutate(id=base.entity_id)
        texts = cross_items(self._domain)
        wanted = [*self._domain.model.item_features, *texts]
        columns = selected_features(self._domain, entity, wanted)
        fields = self._tower_fields(entity)
        tower = self._domain.entities[entity].tower
        numeric = tower.numeric if tower else []
        attributes = dict.fromkeys(n for n in (*fields.values(), *numeric) if n != OWN_ID)
        known = known_features(
            self._domain, self._tables, entity, rows.select(*POINT_KEYS), columns, [*attributes]
        )
        table = _with_known(rows, known)
        having = {column.name for column in columns}
        carried = self._carried(entity, rows)
        if carried is not None:
            having |= {*carried.columns} - {"example_id"}
            table = table.join(carried, "example_id")
        zero = ibis.literal(0.0, "float32")
        values: dict[str, ir.Value] = {}
        for name in self._domain.model.item_features:
            default = ibis.literal(_default(self._domain, name), "float32")
            values[f"i.{name}"] = table[name].cast("float32") if name in having else default
        for name in vocabulary_names(self._domain):
            field = fields.get(name)
            if field == OWN_ID:
                values[f"f.{name}"] = table.entity_id
            elif field is None:
                values[f"f.{name}"] = ibis.literal("")
            else:
                said = table[attribute_column(field)]
                values[f"f.{name}"] = said.cast("string").fill_null("")
        for name in numeric_names(self._domain):
            number = table[attribute_column(name)] if name in numeric else ibis.null("float32")
            values[f"n.{name}"] = number.cast("float32").fill_null(zero)
        for name in texts:
            values[f"k.{name}"] = table[name] if name in having else ibis.literal("")
        return self._tables.stored(table.select("example_id", **values))

    def _carried(self, entity: str, rows: ir.Table) -> ir.Table | None:
        """example_id and the item features that ``rows`` (about ``entity``) carried at their points
        of what they named then; None where the models read none."""
        carries = self._domain.entities[entity].carries
        names = [] if carries is None else carries.features
        read = (*self._domain.model.item_features, *cross_items(self._domain))
        names = [name for name in read if name in names]
        if carries is None or not names:
            return None
        by = selected_features(self._domain, entity, [carries.by])
        said = known_features(self._domain, self._tables, entity, rows.select(*POINT_KEYS), by)
        linked = _with_known(rows, said).select("example_id", *POINT_KEYS[1:], id=carries.by)
        linked = self._tables.stored(linked)
        columns = selected_features(self._domain, carries.entity, names)
        points = linked.select(*POINT_KEYS)
        known = known_features(self._domain, self._tables, carries.entity, points, columns)
        return self._tables.stored(_with_known(linked, known).select("example_id", *names))

    def _tower_fields(self, entity: str) -> dict[str, str]:
        tower = self._domain.entities[entity].tower
        return tower.fields if tower else {}

    def _labels(self, base: ir.Table, candidates: Candidates) -> ir.Table:
        """example_id, ``y.<objective>`` and ``m.<objective>``.

        What is learned from or selected by must not know the test period: a label of a training or
        validation example counts as mature only if it was final before that period began.
        """
        attribution = Attribution(self._domain, self._tables, candidates)
        table = base.select("example_id", "key", "shown_ms", "split")
        names = list(self._domain.objectives)
        for number, name in enumerate(names):
            met = self._tables.stored(attribution.positives(name))
            met = met.select(**{f"met_{number}": met.key})
            table = table.left_join(met, table.key == met[f"met_{number}"])
        labels = {
            f"y.{name}": table[f"met_{number}"].notnull().cast("int8")
            for number, name in enumerate(names)
        }
        known_by_ms = ibis.literal(self._end_ms)
        if self._split_starts is not None:
            _, test_ms = self._split_starts
            known_by_ms = (table.split == TEST).ifelse(known_by_ms, test_ms)
        mature = {
            f"m.{name}": (table.shown_ms + attribution.settled_after_ms(name)) <= known_by_ms
            for name in names
        }
        return table.select("example_id", **labels, **mature)


def ranked_entities(domain: Domain) -> list[str]:
    """Entity types that some surface ranks, in order of declaration."""
    ranked = {surface.entity for surface in domain.surfaces.values()}
    return [name for name in domain.entities if name in ranked]


def _with_known(rows: ir.Table, known: ir.Table) -> ir.Table:
    """``rows`` (with id, time_ms and arrival) and the columns known at their points."""
    keys = {f"known_{key}": known[key] for key in POINT_KEYS}
    others = [name for name in known.columns if name not in POINT_KEYS]
    known = known.select(*others, **keys)
    return rows.join(known, [rows[key] == known[f"known_{key}"] for key in POINT_KEYS])


def _default(domain: Domain, name: str) -> float:
    """Default of a feature, whichever entity type has it."""
    for view in compile_views(domain).values():
        for column in view.features:
            if column.name == name:
                return _number(column)
    raise KeyError(name)


def _number(column: ViewFeature) -> float:
    default = column.default
    return float(default) if isinstance(default, int | float) else 0.0
