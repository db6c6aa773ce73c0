"""Records to protobuf, and protobuf to the log: where the contracts' fields are filled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from offline.simulator import naming
from offline.simulator.records import (
    AttributeScalar,
    DecisionData,
    ExposureData,
    ProfileData,
    PurchaseData,
    Record,
    RefundData,
    RoomData,
    SlateData,
    UpsertData,
    WithdrawalData,
)
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.event_log import LogWriter

PRODUCER = "simulator"
EXPERIMENT_KEY = "slate_policy"
_ROOM_STATES = {
    "STARTED": event_pb2.RoomState.STATE_STARTED,
    "HEARTBEAT": event_pb2.RoomState.STATE_HEARTBEAT,
    "NOW_SELLING": event_pb2.RoomState.STATE_NOW_SELLING,
    "ENDED": event_pb2.RoomState.STATE_ENDED,
}
_BATCH = 512

NameIds = Callable[[str], str]


class EventFiller:
    """Fills ``Event`` messages from records. ``name_ids`` turns a raw user or device id into what
    is written: a pseudonym for the log, the id itself for ``Ingest``."""

    def __init__(self, name_ids: NameIds, currency: str) -> None:
        self._name_ids = name_ids
        self._currency = currency
        self._users: dict[int, str] = {}
        self._devices: dict[int, str] = {}

    def fill(self, event: event_pb2.Event, record: Record) -> None:
        """Sets every field of ``event``, which must be empty."""
        event.event_id = record.event_id
        event.type = record.type
        event.event_time.seconds = record.time_ms // 1_000
        event.event_time.nanos = record.time_ms % 1_000 * 1_000_000
        if record.person >= 0:
            event.actor.device_id = self._device(record.person)
            if record.signed_in:
                event.actor.user_id = self._user(record.person)
        if record.rank_id:
            event.rank_id = record.rank_id
        if record.position >= 0:
            event.position = record.position
        if record.surface:
            event.surface = record.surface
        for kind, entity in record.entities:
            reference = event.entities.add()
            reference.type = kind
            reference.id = entity
        if record.attributes:
            for name, value in record.attributes.items():
                _set_value(event.attributes[name], value)
        if record.payload is not None:
            self._fill_payload(event, record)

    def _user(self, person: int) -> str:
        known = self._users.get(person)
        if known is None:
            known = self._users[person] = self._name_ids(naming.user_id(person))
        return known

    def _device(self, person: int) -> str:
        known = self._devices.get(person)
        if known is None:
            known = self._devices[person] = self._name_ids(naming.device_id(person))
        return known

    def _money(self, money: common_pb2.Money, amount_minor: int) -> None:
        money.amount_minor = amount_minor
        money.currency_code = self._currency

    def _fill_payload(self, event: event_pb2.Event, record: Record) -> None:
        match record.payload:
            case PurchaseData() as data:
                event.purchase.order_id = data.order_id
                event.purchase.line_id = "1"
                event.purchase.coupon_id = data.coupon_id
                self._money(event.purchase.amount, data.amount_minor)
            case RefundData() as data:
                refund = event.refund
                refund.refund_id = data.refund_id
                refund.order_id = data.order_id
                refund.line_id = "1"
                self._money(refund.amount, data.amount_minor)
                refund.purchase_event_id = data.purchase_event_id
                refund.purchase_time.FromMilliseconds(data.purchase_time_ms)
                self._money(refund.purchase_amount, data.purchase_amount_minor)
            case RoomData() as data:
                event.room_state.state = _ROOM_STATES[data.state]
                event.room_state.selling_course_id = data.selling_course_id
                if data.viewers is not None:
                    event.room_state.viewers = data.viewers
            case UpsertData() as data:
                self._fill_upsert(event.entity_upsert, data)
            case ProfileData(version, attributes):
                event.profile.version = version
                for name, value in attributes.items():
                    _set_value(event.profile.attributes[name], value)
            case WithdrawalData(reason):
                event.entity_withdrawal.reason = reason
            case SlateData() as data:
                self._fill_slate(event.slate_served, data, record.surface)
            case ExposureData(variant, bucket):
                _fill_assignment(event.exposure.assignment, variant, bucket)
            case DecisionData() as data:
                event.decision.policy = data.policy
                event.decision.action = data.action
                event.decision.propensity = data.propensity

    def _fill_upsert(self, upsert: event_pb2.EntityUpsert, data: UpsertData) -> None:
        for name, value in data.attributes.items():
            _set_value(upsert.attributes[name], value)
        if data.price_minor is not None:
            self._money(upsert.price, data.price_minor)
        if data.seats_left is not None:
            upsert.seats_left = data.seats_left
        if data.language is not None:
            upsert.language = data.language
        if data.opens_ms is not None:
            upsert.enrolment_opens.FromMilliseconds(data.opens_ms)
        if data.closes_ms is not None:
            upsert.enrolment_closes.FromMilliseconds(data.closes_ms)

    def _fill_slate(self, slate: event_pb2.SlateServed, data: SlateData, surface: str) -> None:
        slate.surface = surface
        slate.entity_type = data.entity_type
        slate.item_ids.extend(data.item_ids)
        slate.selling_course_ids.extend(data.selling_course_ids)
        slate.sources.extend(data.sources)
        slate.values.extend(data.values)
        slate.policy = "popular_personal_noise"
        slate.context.locale = "en-US"
        slate.context.device_type = "phone"
        slate.context.session_id = data.session_id
        if data.variant:
            _fill_assignment(slate.assignments.add(), data.variant, data.bucket)


class LogSink:
    """Writes records to a log directory as ``LoggedEvent``. Use as a context manager."""

    def __init__(self, directory: Path, name_ids: NameIds, currency: str, config_hash: str) -> None:
        self._writer = LogWriter(directory)
        self._filler = EventFiller(name_ids, currency)
        self._config_hash = config_hash
        self._pending: list[bytes] = []
        self._first_arrival = self._writer.next_arrival
        self.written = 0

    def write(self, records: Iterable[Record]) -> None:
        """Appends records in the given order; arrival is their place in the log."""
        for record in records:
            logged = event_pb2.LoggedEvent()
            self._filler.fill(logged.event, record)
            logged.arrival = self._first_arrival + self.written
            logged.arrival_time.seconds = record.time_ms // 1_000
            logged.arrival_time.nanos = record.time_ms % 1_000 * 1_000_000
            logged.producer = PRODUCER
            logged.config_hash = self._config_hash
            logged.sequence = self.written
            self._pending.append(logged.SerializeToString(deterministic=True))
            self.written += 1
        if len(self._pending) >= _BATCH:
            self._flush()

    def __enter__(self) -> LogSink:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._flush()
            self._writer.sync()
        finally:
            self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.append(self._pending)
            self._pending = []


def _set_value(target: common_pb2.AttributeValue, value: AttributeScalar | tuple[str, ...]) -> None:
    if isinstance(value, tuple):
        # Also when there is none: a list of nothing is said.
        target.string_list_value.SetInParent()
        target.string_list_value.values.extend(value)
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    else:
        target.string_value = value


def _fill_assignment(target: common_pb2.Assignment, variant: str, bucket: float) -> None:
    target.experiment_key = EXPERIMENT_KEY
    target.variant_key = variant
    target.reason = common_pb2.ASSIGNMENT_REASON_SPLIT
    target.bucket = bucket
    target.unit_type = "user"
    target.revision = 1
