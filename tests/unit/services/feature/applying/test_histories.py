"""A merge that was written in part comes to the same when it is made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.feature.applying.batch_states import BatchStates
from services.feature.applying.histories import Histories
from services.feature.convert.records import RecordDecoder
from services.feature.definitions import Key, pair_id
from services.feature.states.applied_event import AppliedEvent
from services.feature.states.attribute_notes import AttributeNotes
from services.feature.states.codec import decode_state, encode_state
from services.feature.states.entity_plan import compile_plans
from services.feature.states.keys import KeyRules
from services.feature.store.protocol import StoreTransaction
from tests.support.alias_streams import aliased_streams, pairs_domain
from tests.support.feature_streams import START_MS

DOMAIN = pairs_domain()
PLANS = compile_plans(DOMAIN)
RULES = KeyRules(DOMAIN)
ALIAS = 10_000
CLOCK_MS = START_MS + 10_000_000_000
EVENT = AppliedEvent(ALIAS, CLOCK_MS, CLOCK_MS, "alias", "ann", [], {}, takes_over="device:d1")
States = Mapping[Key, bytes]


class _Stored:
    """What is asked of a transaction here."""

    def __init__(self, states: States) -> None:
        self.states = states

    def pairs_of(self, entity: str, first: str) -> list[str]:
        beginning = pair_id(first, "")
        return [i for e, i in self.states if e == entity and i.startswith(beginning)]


def _before(stream: list[LoggedEvent]) -> States:
    """States of a stream's users and pairs."""
    decoder = RecordDecoder(DOMAIN)
    folded = {}
    for record in stream:
        decoded = decoder.decode(record.arrival, record.SerializeToString())
        if decoded is None or decoded.applied is None or decoded.applied.takes_over:
            continue
        for key in RULES.touched(decoded.applied, ()):
            if key not in folded:
                folded[key] = PLANS[key[0]].new_state()
            PLANS[key[0]].fold(folded[key], decoded.applied)
    return {
        key: encode_state(PLANS[key[0]].aggregates, state, CLOCK_MS)
        for key, state in folded.items()
    }


def _merged(
    stored: States, notes: AttributeNotes, held: Mapping[Key, int]
) -> dict[Key, bytes | None]:
    """The states that the merge writes; None for one that is removed."""
    touched = {}
    states = BatchStates(
        cast(StoreTransaction, _Stored(stored)),
        touched,
        lambda key: decode_state(stored[key]) if key in stored else PLANS[key[0]].new_state(),
        held,
    )
    Histories(PLANS, RULES).change(EVENT, states, notes)
    return {
        key: None if state.is_empty else encode_state(PLANS[key[0]].aggregates, state, CLOCK_MS)
        for key, state in touched.items()
    }


def _kept(states: Mapping[Key, bytes | None]) -> dict[Key, bytes]:
    return {key: data for key, data in states.items() if data is not None}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stream=aliased_streams(), data=st.data())
def test_made_again_after_part_of_it_was_written(
    stream: list[LoggedEvent], data: st.DataObject
) -> None:
    before = _before(stream)
    notes = AttributeNotes()
    written = _merged(before, notes, {})
    after = _kept({**before, **written})

    found: States = before
    noted, done = notes.encode(ALIAS + 1), set[Key]()
    for _ in range(data.draw(st.integers(1, 3))):
        some = [key for key in sorted(written) if data.draw(st.booleans())]
        done |= set(some)
        found = _kept({**found, **{key: written[key] for key in some}})
        notes = AttributeNotes(noted)
        again = _merged(found, notes, dict.fromkeys(done, ALIAS + 1))
        noted = notes.encode(ALIAS + 1)
        left = {key: state for key, state in again.items() if key not in done}
        assert _kept({**found, **left}) == after
