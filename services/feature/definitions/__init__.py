"""What features mean: windows, aggregates, views. Pure, and shared by online and offline.

A feature is known *as of* a point (t_ms, arrival): from LIVE events that are neither marked
duplicate nor too late, with event time <= t_ms and a log position < arrival.

Windows are sawtooth (Chronon's name): exact at the head, hopping at the tail. A window W hops by
``hop_ms(W)``, the longest of ``HOPS_MS`` that is at most W/12. At time t it starts where the hop
that t - W falls into starts, so an event counts when ``window_start_ms(t, W) <= event time <= t``:
between W and W + W/12 back. Each hop divides the next, so that windows of one aggregate share
their tiles.

Refunds reverse purchases at the purchase's own time, as soon as the refund is known:

- a sum over purchases' ``amount_minor`` falls by each refund's amount at its ``purchase_time``;
- a count, or the number that a mean divides by, falls by one at ``purchase_time`` once the refunds
  known of that ``purchase_event_id`` add up to the ``purchase_amount`` of the first of them by
  arrival;
- both whether or not the purchase itself is known yet; a total below zero (the refund came first)
  reads as zero;
- each key goes by the refunds that name it, of those that are known;
- min, max, last, distinct, recency, last_n and pairs are not reversed.

An event counts at the time at which it happened; what is said of the catalogue at its arrival at
the latest (see ``counted_time_ms``).

A value's *event time* is that of the latest event counted in it: for a window the latest inside
that the value is made from, refunded or not (refunds do not move it); for an attribute the event
that set it, when it is STALE too; for a list its latest entry; for pairs when the first was named;
for an expression the latest of its inputs'. It is 0 where nothing is counted, and for NULL.

A key that is *derived* (see ``Entity.derived_from``) is what the attribute said at the event's own
point: as known of the entity at the time the event arrived, from the log before it.
"""

from services.feature.definitions.aggregates import (
    EntityAggregates,
    Fold,
    LastEntriesAggregate,
    LastTimeAggregate,
    LastValueAggregate,
    Level,
    RecentAggregate,
    TileAggregate,
    WindowAggregate,
    compile_aggregates,
    last_entries_key,
    last_time_aggregate,
    last_value_aggregate,
    recent_key,
    window_aggregates,
)
from services.feature.definitions.entities import (
    MAX_KEY_BYTES,
    Key,
    catalogue_entities,
    is_pair_id,
    other_side,
    pair_id,
    pair_members,
)
from services.feature.definitions.events import (
    ALIAS,
    AMOUNT,
    CATALOGUE_EVENTS,
    DAY_MS,
    DEDUPLICATION_MS,
    ENTITY_UPSERT,
    ENTITY_WITHDRAWAL,
    ERASURE,
    IMPRESSION,
    LATENESS_MS,
    LONG_LATE,
    LONG_LATENESS_MS,
    PROFILE,
    PROFILE_VERSION,
    PURCHASE,
    REFUND,
    ROOM_EVENTS,
    ROOM_HEARTBEAT,
    SLATE_SERVED,
    STICKY_ASSIGNED,
    USER_ENTITY,
    counted_time_ms,
    remembered_days,
)
from services.feature.definitions.values import (
    ATTRIBUTE_DTYPES,
    AttributeValue,
    FeatureDType,
    FeatureValue,
    Scalar,
    ValueFeature,
    declared_value,
    inputs_of,
    value_dtype,
    values_read,
)
from services.feature.definitions.views import FeatureView, ViewFeature, compile_views
from services.feature.definitions.windows import (
    HOPS_MS,
    MAX_TOTAL,
    hop_ms,
    served_total,
    smoothed_ratio,
    window_hops_ms,
    window_start_ms,
)

__all__ = [
    "ALIAS",
    "AMOUNT",
    "ATTRIBUTE_DTYPES",
    "CATALOGUE_EVENTS",
    "DAY_MS",
    "DEDUPLICATION_MS",
    "ENTITY_UPSERT",
    "ENTITY_WITHDRAWAL",
    "ERASURE",
    "HOPS_MS",
    "IMPRESSION",
    "LATENESS_MS",
    "LONG_LATE",
    "LONG_LATENESS_MS",
    "MAX_KEY_BYTES",
    "MAX_TOTAL",
    "PROFILE",
    "PROFILE_VERSION",
    "PURCHASE",
    "REFUND",
    "ROOM_EVENTS",
    "ROOM_HEARTBEAT",
    "SLATE_SERVED",
    "STICKY_ASSIGNED",
    "USER_ENTITY",
    "AttributeValue",
    "EntityAggregates",
    "FeatureDType",
    "FeatureValue",
    "FeatureView",
    "Fold",
    "Key",
    "LastEntriesAggregate",
    "LastTimeAggregate",
    "LastValueAggregate",
    "Level",
    "RecentAggregate",
    "Scalar",
    "TileAggregate",
    "ValueFeature",
    "ViewFeature",
    "WindowAggregate",
    "catalogue_entities",
    "compile_aggregates",
    "compile_views",
    "counted_time_ms",
    "declared_value",
    "hop_ms",
    "inputs_of",
    "is_pair_id",
    "last_entries_key",
    "last_time_aggregate",
    "last_value_aggregate",
    "other_side",
    "pair_id",
    "pair_members",
    "recent_key",
    "remembered_days",
    "served_total",
    "smoothed_ratio",
    "value_dtype",
    "values_read",
    "window_aggregates",
    "window_hops_ms",
    "window_start_ms",
]
