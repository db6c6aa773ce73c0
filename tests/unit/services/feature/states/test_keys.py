"""Which keys an event touches."""

from __future__ import annotations

from services.feature.states.applied_event import AppliedEvent
from services.feature.states.keys import KeyRules
from tests.support.feature_streams import START_MS, domain_with


def test_a_user_who_acts_on_themselves_is_touched_once() -> None:
    event = AppliedEvent(
        arrival=0,
        clock_ms=START_MS,
        time_ms=START_MS,
        type="click",
        actor="ann",
        entities=[("course", "c1"), ("user", "ann"), ("user", "bob")],
        attributes={},
    )
    touched = KeyRules(domain_with({})).touched(event, [])
    assert touched == [("course", "c1"), ("user", "ann"), ("user", "bob")]
