"""Events of the simulated world before they become protobuf: plain values, raw ids by index."""

from __future__ import annotations

from dataclasses import dataclass

EntityReference = tuple[str, str]
AttributeScalar = str | int | float | bool


@dataclass(slots=True, frozen=True)
class PurchaseData:
    """One bought order line; the amount is in minor units, after coupons."""

    order_id: str
    amount_minor: int
    coupon_id: str


@dataclass(slots=True, frozen=True)
class RefundData:
    """Money given back for one order line."""

    refund_id: str
    order_id: str
    amount_minor: int
    purchase_event_id: str
    purchase_time_ms: int
    purchase_amount_minor: int


@dataclass(slots=True, frozen=True)
class RoomData:
    """What a room became: ``state`` is STARTED, HEARTBEAT, NOW_SELLING or ENDED."""

    state: str
    selling_course_id: str
    viewers: int | None


@dataclass(slots=True, frozen=True)
class UpsertData:
    """A catalogue entity's new values; None means unchanged."""

    attributes: dict[str, AttributeScalar]
    price_minor: int | None = None
    seats_left: int | None = None
    language: str | None = None
    opens_ms: int | None = None
    closes_ms: int | None = None


@dataclass(slots=True, frozen=True)
class ProfileData:
    """What a job found out about its subject."""

    version: str
    attributes: dict[str, str | tuple[str, ...]]


@dataclass(slots=True, frozen=True)
class WithdrawalData:
    """A catalogue entity leaves."""

    reason: str


@dataclass(slots=True, frozen=True)
class SlateData:
    """A slate the logging policy answered with; columns of equal length."""

    entity_type: str
    item_ids: list[str]
    selling_course_ids: list[str]
    sources: list[str]
    values: list[float]
    session_id: str
    variant: str
    bucket: float


@dataclass(slots=True, frozen=True)
class ExposureData:
    """A person met the experiment on the logging policy."""

    variant: str
    bucket: float


@dataclass(slots=True, frozen=True)
class DecisionData:
    """A choice of a random policy with its probability."""

    policy: str
    action: str
    propensity: float


Payload = (
    PurchaseData
    | RefundData
    | RoomData
    | UpsertData
    | ProfileData
    | WithdrawalData
    | SlateData
    | ExposureData
    | DecisionData
)


@dataclass(slots=True)
class Record:
    """One event. ``person`` is an index (-1 for none); ``signed_in`` tells whether the user id is
    known besides the device. ``time_ms`` and ``event_id`` are set when the event happens."""

    type: str
    person: int = -1
    signed_in: bool = False
    rank_id: str = ""
    position: int = -1
    entities: tuple[EntityReference, ...] = ()
    surface: str = ""
    attributes: dict[str, AttributeScalar] | None = None
    payload: Payload | None = None
    time_ms: int = 0
    event_id: str = ""
