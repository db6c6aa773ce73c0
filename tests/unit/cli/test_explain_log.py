"""What the log tells of one slate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from cli.explain.log import story_of
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2

RANK = "01RANK"


def event(kind: str, event_id: str, rank_id: str = "", **fields: object) -> event_pb2.Event:
    """An event of "p1.ann"."""
    made = event_pb2.Event(
        event_id=event_id,
        type=kind,
        rank_id=rank_id,
        actor=common_pb2.Actor(user_id="p1.ann"),
        **fields,  # type: ignore[arg-type]
    )
    made.event_time.FromMilliseconds(1_700_000_000_000)
    return made


def slate(rank_id: str = RANK, **fields: object) -> event_pb2.SlateServed:
    """A slate of two items, the second of them drawn."""
    return event_pb2.SlateServed(
        surface="courses",
        entity_type="course",
        item_ids=["c1", "c2"],
        sources=["personal", "trending"],
        values=[0.5, 0.25],
        objectives=["click", "buy"],
        predictions=[0.1, 0.2, 0.3, 0.4],
        bundle_version="b1",
        policy="softmax",
        positions=[5, 6],
        prices_minor=[900, -1],
        placements=[
            event_pb2.SlateServed.PLACEMENT_PIN,
            event_pb2.SlateServed.PLACEMENT_DRAWN,
        ],
        log_propensities=[0.0, math.log(0.25)],
        feasible_counts=[0, 7],
        assignments=[
            common_pb2.Assignment(
                experiment_key="e",
                variant_key="a",
                reason=common_pb2.ASSIGNMENT_REASON_SPLIT,
                bucket=0.5,
            )
        ],
        degraded=["RETRIEVAL:TIMEOUT:item_knn"],
        **fields,  # type: ignore[arg-type]
    )


def logged(*events: event_pb2.Event) -> Callable[[], Iterator[tuple[int, bytes]]]:
    """A log of these events; what is no event lies between."""
    records = [event_pb2.LoggedEvent(event=e).SerializeToString() for e in events]
    records.append(b"no event " + RANK.encode())
    return lambda: enumerate(records)


def bought(event_id: str, rank_id: str = RANK) -> event_pb2.Event:
    purchase = event_pb2.Purchase(
        order_id="o", amount=common_pb2.Money(amount_minor=900, currency_code="USD")
    )
    return event("purchase", event_id, rank_id, purchase=purchase, position=6)


def refunded(event_id: str, purchase: str) -> event_pb2.Event:
    refund = event_pb2.Refund(
        refund_id=event_id,
        order_id="o",
        purchase_event_id=purchase,
        amount=common_pb2.Money(amount_minor=400, currency_code="USD"),
    )
    return event("refund", event_id, refund=refund)


def test_a_slate_and_what_followed_are_told() -> None:
    shadow = slate()
    shadow.policy = "of another bundle"
    records = logged(
        refunded("r-0", "p-1"),
        event("slate_served", "s-0", "other", slate_served=slate()),
        event("slate_served", "s-1", RANK, slate_served=slate(parent_rank_id="00FIRST")),
        event(
            "slate_served",
            "s-2",
            RANK,
            slate_served=shadow,
            traffic_class=common_pb2.TRAFFIC_CLASS_SHADOW,
        ),
        event("exposure", "x-1", RANK, exposure=event_pb2.Exposure()),
        event("click", "c-1", RANK, position=6),
        event("click", "c-2", "other"),
        bought("p-1"),
        bought("p-2", "other"),
        refunded("r-1", "p-1"),
        refunded("r-2", "p-2"),
        event("slate_served", "s-3", "01NEXT", slate_served=slate(parent_rank_id=RANK)),
        event("click", "c-3", RANK),
    )
    story = story_of(RANK, records, frozenset({12}))
    assert story.slate is not None
    told = story.slate
    assert (told.arrival, told.surface, told.policy, told.bundle) == (2, "courses", "softmax", "b1")
    assert (told.actor, told.traffic, told.parent_rank_id) == ("p1.ann", "UNSPECIFIED", "00FIRST")
    assert told.degraded == ["RETRIEVAL:TIMEOUT:item_knn"]
    (variant,) = told.variants
    assert (variant.experiment, variant.variant, variant.reason) == ("e", "a", "SPLIT")
    first, second = told.items
    assert (first.position, first.placement, first.log_propensity) == (5, "PIN", None)
    assert (first.price_minor, second.price_minor) == (900, None)
    assert second.log_propensity == pytest.approx(math.log(0.25))
    assert (second.feasible, second.predictions) == (7, pytest.approx([0.3, 0.4]))
    assert story.exposures == 1
    assert story.later == ["01NEXT"]
    # A refund that came before its purchase counts, one of another slate does not.
    assert [(found.arrival, found.type) for found in story.followed] == [
        (0, "refund"),
        (5, "click"),
        (7, "purchase"),
        (9, "refund"),
    ]
    assert [found.amount_minor for found in story.followed] == [400, None, 900, 400]


def test_nothing_is_told_of_a_rank_id_that_nobody_has() -> None:
    story = story_of("01NOBODY", logged(event("click", "c-1", RANK)))
    assert (story.slate, story.exposures, story.later, story.followed) == (None, 0, [], [])
