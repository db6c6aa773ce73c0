"""Stored logs stay readable: a segment written by the first version still says the same.

A kind of payload that came later has a golden log of its own. ``python -m
tests.contract.test_golden_log`` writes those that are missing; they are never to change once events
have been stored.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.event_log import LogWriter, frame, read_log, segment_path

GOLDEN = Path(__file__).parents[1] / "golden"
LOGS = (
    "event_log_v1",
    "event_log_v1_profile",
    "event_log_v1_alias",
    "event_log_v1_erasure",
    "event_log_v1_sticky",
)


def _first_payloads() -> dict[str, event_pb2.Event]:
    """One event of every kind of payload of the first version, every field set."""
    money = common_pb2.Money(amount_minor=12_345, currency_code="USD")
    part = common_pb2.Money(amount_minor=2_345, currency_code="USD")
    assignment = common_pb2.Assignment(
        experiment_key="ranking_weights",
        variant_key="engagement",
        reason=common_pb2.ASSIGNMENT_REASON_SPLIT,
        bucket=0.5135662767047533,
        unit_type="user",
        revision=1,
    )
    value = common_pb2.AttributeValue
    return {
        "click": event_pb2.Event(),
        "purchase": event_pb2.Event(
            purchase=event_pb2.Purchase(
                order_id="o1", line_id="1", amount=money, coupon_id="spring"
            )
        ),
        "refund": event_pb2.Event(
            refund=event_pb2.Refund(
                refund_id="r1",
                order_id="o1",
                line_id="1",
                amount=part,
                purchase_event_id="e1",
                purchase_amount=money,
            )
        ),
        "room_started": event_pb2.Event(
            room_state=event_pb2.RoomState(
                state=event_pb2.RoomState.STATE_STARTED, selling_course_id="c1", viewers=0
            )
        ),
        "entity_upsert": event_pb2.Event(
            entity_upsert=event_pb2.EntityUpsert(
                attributes={
                    "title": value(string_value="Übung 一"),
                    "level": value(int_value=-3),
                    "score": value(double_value=0.25),
                    "live": value(bool_value=True),
                    "tags": value(string_list_value=common_pb2.StringList(values=["a", "b"])),
                },
                price=money,
                seats_left=0,
                language="zh-CN",
                region="CN",
            )
        ),
        "entity_withdrawal": event_pb2.Event(
            entity_withdrawal=event_pb2.EntityWithdrawal(reason="compliance")
        ),
        "slate_served": event_pb2.Event(
            slate_served=event_pb2.SlateServed(
                surface="rooms",
                entity_type="room",
                item_ids=["x1", "x2"],
                selling_course_ids=["c1", "c2"],
                sources=["personal", "trending"],
                values=[0.5, 0.25],
                objectives=["click", "purchase"],
                predictions=[0.5, 0.125, 0.25, 0.0625],
                bundle_version="20260101T000000-abc",
                policy="top_k",
                assignments=[assignment],
                context=common_pb2.RequestContext(locale="en-US", region="US", session_id="s1"),
                degraded=["USER_FEATURES:TIMEOUT"],
                feature_view_hash="f" * 64,
                feature_log_position=41,
            )
        ),
        "exposure": event_pb2.Event(exposure=event_pb2.Exposure(assignment=assignment)),
        "decision": event_pb2.Event(
            decision=event_pb2.Decision(policy="coupon_random", action="none", propensity=0.5)
        ),
    }


def _profile_payloads() -> dict[str, event_pb2.Event]:
    value = common_pb2.AttributeValue
    profile = event_pb2.Profile(
        version="segments-2026-01-01",
        attributes={
            "segment": value(string_value="regulars"),
            "taste": value(float_list_value=common_pb2.FloatList(values=[0.5, -0.25])),
        },
    )
    return {"profile": event_pb2.Event(profile=profile)}


def _alias_payloads() -> dict[str, event_pb2.Event]:
    return {"alias": event_pb2.Event(alias=event_pb2.Alias())}


def _erasure_payloads() -> dict[str, event_pb2.Event]:
    purchase = _first_payloads()["purchase"]
    return {"erasure": event_pb2.Event(erasure=event_pb2.Erasure()), "purchase": purchase}


def _sticky_payloads() -> dict[str, event_pb2.Event]:
    kept = event_pb2.StickyAssigned(assignments={"ranking_weights__0": "engagement"})
    return {"sticky_assigned": event_pb2.Event(sticky_assigned=kept)}


PAYLOADS = {
    "event_log_v1": _first_payloads,
    "event_log_v1_profile": _profile_payloads,
    "event_log_v1_alias": _alias_payloads,
    "event_log_v1_erasure": _erasure_payloads,
    "event_log_v1_sticky": _sticky_payloads,
}


def _events(log: str) -> list[event_pb2.Event]:
    payloads = PAYLOADS[log]()
    events = []
    for index, (kind, event) in enumerate(payloads.items()):
        event.event_id = f"e{index}"
        event.type = kind
        event.event_time.FromMilliseconds(1_767_225_600_000 + index)
        event.actor.user_id = "p1.user"
        event.actor.device_id = "p1.device"
        event.rank_id = "01JGGG00000000000000000000"
        event.position = index
        event.entities.add(type="course", id="c1")
        event.surface = "courses"
        event.traffic_class = common_pb2.TRAFFIC_CLASS_LIVE
        event.attributes["duration_ms"].int_value = 60_000
        if event.HasField("refund"):
            event.refund.purchase_time.FromMilliseconds(1_767_139_200_000)
        if event.HasField("entity_upsert"):
            event.entity_upsert.enrolment_opens.FromMilliseconds(1_767_225_600_000)
            event.entity_upsert.enrolment_closes.FromMilliseconds(1_769_904_000_000)
        events.append(event)
    return events


def _records(log: str) -> list[event_pb2.LoggedEvent]:
    records = []
    for arrival, event in enumerate(_events(log)):
        record = event_pb2.LoggedEvent(
            event=event,
            arrival=arrival,
            producer="golden",
            config_hash="0" * 64,
            sequence=arrival,
            duplicate=arrival == 7,
            too_late=arrival == 8,
        )
        record.arrival_time.FromMilliseconds(1_767_225_700_000 + arrival)
        if log == "event_log_v1_erasure" and event.HasField("purchase"):
            record.erased, record.padding = bytes(range(16)), b"\0" * 3
        records.append(record)
    return records


@pytest.mark.parametrize("log", LOGS)
def test_a_stored_log_still_says_the_same(log: str) -> None:
    expected = json.loads((GOLDEN / log / "expected.json").read_text(encoding="utf-8"))
    records = list(read_log(GOLDEN / log))
    assert [arrival for arrival, _ in records] == list(range(len(expected)))
    for (arrival, payload), row in zip(records, expected, strict=True):
        record = event_pb2.LoggedEvent.FromString(payload)
        assert record.arrival == arrival
        assert json_format.MessageToDict(record) == row


def test_the_golden_logs_hold_every_kind_of_payload() -> None:
    kinds = {
        event_pb2.LoggedEvent.FromString(payload).event.WhichOneof("payload")
        for log in LOGS
        for _, payload in read_log(GOLDEN / log)
    }
    declared = {field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
    assert kinds == declared | {None}


def test_the_frame_is_frozen() -> None:
    assert frame(b"podium") == bytes.fromhex("06000000534c8b33") + b"podium"


def _write(log: str) -> None:
    directory = GOLDEN / log
    if segment_path(directory, 0).exists():
        return
    with LogWriter(directory) as writer:
        writer.append([record.SerializeToString(deterministic=True) for record in _records(log)])
    (directory / "writer.lock").unlink()
    rows = [json_format.MessageToDict(record) for record in _records(log)]
    text = json.dumps(rows, ensure_ascii=False, indent=1, sort_keys=True)
    (directory / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in LOGS:
        _write(name)
