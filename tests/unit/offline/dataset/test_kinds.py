"""Every kind of feature: offline tables, their recomputation and the service against the oracle, on
random definitions and random streams."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from tests.support.every_kind import every_kind, refunded_stream, told_stream
from tests.support.feature_streams import START_MS, logged, room_event
from tests.support.feature_worlds import KEYS, world_with, worlds
from tests.support.known_features import assert_offline_agrees, assert_service_agrees
from tests.support.world_points import LATER_MS, few_examples, points
from tests.support.world_streams import world_streams

# Hundreds of queries, each compiled anew.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@settings(few_examples, max_examples=2)
@given(domain=worlds(), log=world_streams(most=60), data=st.data())
def test_offline_the_service_and_the_oracle_agree(
    domain: Domain, log: list[LoggedEvent], data: st.DataObject
) -> None:
    at = data.draw(points(log))
    now_ms = log[-1].arrival_time.ToMilliseconds() + data.draw(st.sampled_from(LATER_MS))
    with TemporaryDirectory() as directory:
        assert_service_agrees(domain, log, KEYS, now_ms, Path(directory) / "store")
        assert_offline_agrees(domain, log, KEYS, [*at, (now_ms, len(log))], Path(directory))


def test_every_kind_agrees_at_many_points(tmp_path: Path) -> None:
    log = told_stream(copies=3)
    seconds = (0, 9, 31, 44, 46, 71, 400, 1_000, 1_900, 100_000)
    at = [(START_MS + s * 1_000, a) for s in seconds for a in (5, 12, 20, len(log))]
    assert_offline_agrees(every_kind(), log, KEYS, at, tmp_path)


def test_refunds_alone_or_together_agree(tmp_path: Path) -> None:
    log = refunded_stream()
    at = [(START_MS + t_ms, a) for t_ms in (9_250, 20_000, 86_405_000) for a in (9, 12, len(log))]
    keys = [("course", "c0"), ("course", "c1"), ("user", "ann"), ("user", "bob")]
    assert_offline_agrees(every_kind(), log, keys, at, tmp_path)


def test_what_rooms_say_of_themselves_agrees(tmp_path: Path) -> None:
    attribute = {"kind": "attribute", "entities": ["room"]}
    said = dict.fromkeys(("heard_at_ms", "viewers", "live"), attribute)
    domain = world_with({**said, "heard": {**attribute, "ttl": "90s"}})
    # The first is ahead of the log's clock: it counts from its arrival.
    events = [
        room_event("s", "room_started", START_MS + 200_000, "r1", course="c1"),
        room_event("b", "room_heartbeat", START_MS + 1_000, "r1"),
        room_event("n", "room_now_selling", START_MS + 2_000, "r1", course="c2", viewers=7),
        room_event("e", "room_ended", START_MS + 3_000, "r1", viewers=3),
    ]
    log = [logged(n, event, START_MS + 1_000 * n) for n, event in enumerate(events)]
    rooms = [("room", "r1")]
    at = [(START_MS + 1_000 * n, n + 1) for n in range(len(log))]
    assert_offline_agrees(domain, log, rooms, at, tmp_path)
    for t_ms, arrival in at:
        assert_service_agrees(domain, log[:arrival], rooms, t_ms, tmp_path / f"store{arrival}")
