"""Events on their way into records: what is taken at sight, and the bytes that are stored."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from podium.common.v1.common_pb2 import Actor, EntityRef
from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.feature.v1.feature_pb2 import IngestRequest
from services.common.convert_event import logged_arrival
from services.common.domain import load_domain
from services.common.errors import InvalidArgument
from services.feature.convert.events import EventChecker
from services.feature.convert.ingest import EVENTS_A_SLICE, EventConverter, StoredEvent
from services.feature.convert.plain import PlainEvents
from services.feature.convert.records import fingerprint_of

DOMAIN = load_domain(Path(__file__).parents[5] / "config" / "live_courses.yaml")
NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000

IDS = st.one_of(
    st.just(""), st.text(max_size=4), st.sampled_from(["i" * 32, "ü" * 65, "x" * 129, "device:d"])
)
TIMES_MS = st.sampled_from(
    [-1, 0, NOW_MS, NOW_MS + 300_000, NOW_MS + 300_001, NOW_MS - DAY_MS, NOW_MS - DAY_MS - 1]
)


@st.composite
def odd_events(draw: st.DrawFn) -> Event:
    """Events that are nearly plain, or not."""
    event = Event(
        event_id=draw(IDS),
        type=draw(st.sampled_from([*DOMAIN.events, "", "unheard_of"])),
        rank_id=draw(IDS),
        surface=draw(IDS),
    )
    if draw(st.integers(0, 9)):
        event.actor.CopyFrom(Actor(user_id=draw(IDS), device_id=draw(IDS)))
    if draw(st.integers(0, 9)):
        event.event_time.FromMilliseconds(draw(TIMES_MS))
        event.event_time.nanos += draw(st.sampled_from([0, 0, -1, 10**9]))
    if draw(st.booleans()):
        event.position = draw(st.sampled_from([-1, 0, 5]))
    kinds = st.sampled_from([*DOMAIN.entities, "", "planet"])
    for kind in draw(st.lists(kinds, max_size=3)):
        event.entities.append(EntityRef(type=kind, id=draw(IDS)))
    if not draw(st.integers(0, 4)):
        event.attributes[draw(IDS)].int_value = draw(st.integers(-5, 5))
    if not draw(st.integers(0, 4)):
        event.purchase.order_id = "o"
    if not draw(st.integers(0, 4)):
        event.MergeFromString(bytes([9 << 3, draw(st.integers(0, 100))]))
    return event


@settings(max_examples=1_500, deadline=None)
@given(odd_events())
def test_what_is_taken_at_sight_passes_the_whole_check(event: Event) -> None:
    payloads = frozenset({"purchase", "refund", "slate_served", "exposure", "decision", "profile"})
    if not PlainEvents(DOMAIN, payloads).sound(event, NOW_MS):
        return
    assert EventChecker(DOMAIN).check_closely("event", event, NOW_MS) is False


@settings(max_examples=300, deadline=None)
@given(odd_events())
def test_at_sight_or_closely_an_event_is_judged_alike(event: Event) -> None:
    checker = EventChecker(DOMAIN)

    def judged(check: object) -> object:
        try:
            return check("event", event, NOW_MS)  # type: ignore[operator]
        except InvalidArgument as error:
            return str(error)

    assert judged(checker.check) == judged(checker.check_closely)


def test_a_usual_event_is_taken_at_sight() -> None:
    event = Event(event_id="e", type="click", actor=Actor(user_id="ann"))
    event.event_time.FromMilliseconds(NOW_MS)
    event.entities.add(type="course", id="c")
    assert PlainEvents(DOMAIN, frozenset()).sound(event, NOW_MS)


@settings(max_examples=300, deadline=None)
@given(
    event=odd_events(),
    arrival=st.integers(0, 2**62),
    arrival_ms=st.integers(0, 2**42),
    producer=st.text(max_size=5),
    sequence=st.none() | st.integers(0, 2**62),
    duplicate=st.booleans(),
    too_late=st.booleans(),
)
def test_a_record_is_what_protobuf_makes_of_it(
    event: Event,
    arrival: int,
    arrival_ms: int,
    producer: str,
    sequence: int | None,
    duplicate: bool,
    too_late: bool,
) -> None:
    stored = StoredEvent(3, event, "c" * 64, too_late=too_late)
    payload = stored.payload(arrival, arrival_ms, producer, sequence, duplicate=duplicate)
    expected = LoggedEvent(
        event=event,
        arrival=arrival,
        producer=producer,
        config_hash="c" * 64,
        sequence=sequence,
        duplicate=duplicate,
        too_late=too_late and not duplicate,
    )
    expected.arrival_time.FromMilliseconds(arrival_ms)
    assert LoggedEvent.FromString(payload) == expected
    assert len(payload) == expected.ByteSize()
    assert stored.fingerprint == fingerprint_of(
        expected.event.SerializeToString(deterministic=True)
    )
    assert logged_arrival(payload) == arrival


def test_a_request_is_judged_in_slices_with_one_outcome() -> None:
    request = IngestRequest()
    for number in range(100):
        event = request.events.add(event_id=f"e{number}", type="click")
        event.actor.user_id = "ann" if number % 10 else ""
        event.event_time.FromMilliseconds(NOW_MS)
        event.entities.add(type="course", id="c")
    converter = EventConverter(DOMAIN, lambda raw: raw and f"p.{raw}")
    call = converter.open_call(request)
    slices = sum(1 for _ in converter.in_slices(call, request, NOW_MS))
    assert slices == 100 // EVENTS_A_SLICE
    assert len(call.events) == 90
    assert [refused.index for refused in call.refused] == list(range(0, 100, 10))
    assert {event.actor.user_id for event in request.events} == {"p.ann", ""}


def test_no_arrival_is_told_by_what_is_no_record() -> None:
    assert logged_arrival(b"\xff\xff\xff") is None
