"""Deadlines and request ids; logs carry the request id."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.actor import actor_key, split_actor_key
from services.common.call import (
    CallPolicy,
    call_from_metadata,
    current_call,
    enter_call,
)
from services.common.errors import DeadlinePassed
from services.common.ids import new_event_id, new_rank_id
from services.common.telemetry import JsonFormatter

POLICY = CallPolicy(default_deadline_ms=500, max_deadline_ms=2_000)
UNLIMITED = CallPolicy(default_deadline_ms=None, max_deadline_ms=None)


@pytest.fixture(autouse=True)
def _outside_any_call() -> Iterator[None]:
    yield
    enter_call(None)


@pytest.mark.parametrize(
    ("policy", "asked_s", "allowed_s"),
    [
        (POLICY, None, 0.5),
        (POLICY, 0.1, 0.1),
        (POLICY, 1.0, 1.0),
        (POLICY, 60.0, 2.0),
        (UNLIMITED, None, None),
        (UNLIMITED, 7.0, 7.0),
        (CallPolicy(None, 3_000), None, 3.0),
    ],
)
def test_the_allowed_time(
    policy: CallPolicy, asked_s: float | None, allowed_s: float | None
) -> None:
    assert policy.allowed_s(asked_s) == allowed_s


def test_a_passed_deadline() -> None:
    call = call_from_metadata([], POLICY, -1.0)
    with pytest.raises(DeadlinePassed):
        call.check_deadline()
    call_from_metadata([], POLICY, 60.0).check_deadline()
    endless = call_from_metadata([], UNLIMITED, None)
    endless.check_deadline()
    assert endless.remaining_s() is None


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "é", "a\nb", b"bytes"])
def test_request_ids_that_are_not_accepted_are_replaced(bad: str | bytes) -> None:
    call = call_from_metadata([("x-request-id", bad)], POLICY, None)
    assert len(call.request_id) == 32


def test_an_accepted_request_id_is_kept_until_the_call_is_left() -> None:
    call = call_from_metadata([("x-request-id", "mine"), ("other", "x")], POLICY, None)
    assert call.request_id == "mine"
    enter_call(call)
    assert current_call() is call
    enter_call(None)
    assert current_call() is None


def test_log_lines_are_json_with_the_request_id() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("ranker"))
    logger = logging.Logger("podium.test")
    logger.addHandler(handler)
    logger.info("plain %d", 1)
    enter_call(call_from_metadata([("x-request-id", "mine")], POLICY, None))
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed", extra={"surface": "课程"}, exc_info=sys.exc_info())
    plain, failed = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (plain["message"], plain["level"], plain["service"]) == ("plain 1", "INFO", "ranker")
    assert "request_id" not in plain
    assert failed["request_id"] == "mine"
    assert failed["surface"] == "课程"
    assert "ValueError: broken" in failed["exception"]


@given(st.text(min_size=1), st.text())
def test_actor_keys(user: str, device: str) -> None:
    assert actor_key(user, device) == user
    assert actor_key("", "d") == "device:d"
    assert actor_key("", "") == ""
    assert split_actor_key(actor_key("", device or "d")) == ("", device or "d")


def test_ids_are_unique_and_sortable() -> None:
    ids = [make() for make in (new_rank_id, new_event_id) for _ in range(1_000)]
    assert len(set(ids)) == len(ids)
    assert {len(made) for made in ids} == {26}
