"""Steps of the agenda: what can happen at a moment."""

from __future__ import annotations

from dataclasses import dataclass

from offline.simulator.records import Record


@dataclass(slots=True, frozen=True)
class DayBegins:
    """Plans visits and catalogue changes of a day; budgets start again each week."""

    number: int


@dataclass(slots=True, frozen=True)
class Visit:
    """A person opens the app."""

    person: int
    signed_in: bool


@dataclass(slots=True, frozen=True)
class ShowSlate:
    """The app shows a slate during a visit."""

    person: int
    signed_in: bool
    surface: str
    intent: int
    session_id: str


@dataclass(slots=True, frozen=True)
class Happen:
    """Something without further consequence."""

    record: Record


@dataclass(slots=True, frozen=True)
class BuyAttempt:
    """A person wants to buy; it fails when sold out, too dear, closed, or the room has moved on.

    ``room`` and ``video`` are numbers, -1 for none. ``fit`` is the appeal, for the refund.
    """

    person: int
    course: int
    fit: float
    room: int = -1
    video: int = -1
    rank_id: str = ""
    position: int = -1
    surface: str = ""


@dataclass(slots=True, frozen=True)
class RefundDue:
    """Money goes back."""

    person: int
    course: int
    purchase: Record
    amount_minor: int
    full: bool


@dataclass(slots=True, frozen=True)
class LeaveRoom:
    """A person leaves a room; the record is the room_leave."""

    room: int
    record: Record


@dataclass(slots=True, frozen=True)
class RoomTick:
    """Hosts decide who goes on air next."""


@dataclass(slots=True, frozen=True)
class RoomStart:
    """A scheduled room goes on air."""

    room: int


@dataclass(slots=True, frozen=True)
class RoomHeartbeat:
    """A room reports its viewers."""

    room: int


@dataclass(slots=True, frozen=True)
class RoomSwitch:
    """A room sells another course from now on."""

    room: int


@dataclass(slots=True, frozen=True)
class RoomEnd:
    """A room goes off air."""

    room: int


@dataclass(slots=True, frozen=True)
class RoomRemoval:
    """A room that ended leaves the catalogue."""

    room: int


@dataclass(slots=True, frozen=True)
class CatalogueChange:
    """``kind``: course, host, video (a new one); price, reopen, withdraw_course, withdraw_video,
    withdraw_host (an existing one, by ``row``)."""

    kind: str
    row: int = -1


Step = (
    DayBegins
    | Visit
    | ShowSlate
    | Happen
    | BuyAttempt
    | RefundDue
    | LeaveRoom
    | RoomTick
    | RoomStart
    | RoomHeartbeat
    | RoomSwitch
    | RoomEnd
    | RoomRemoval
    | CatalogueChange
)
