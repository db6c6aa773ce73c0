"""Histories that change hands while the log is applied: which states that concerns, and how.

In a store that is written in parts the device's states may be emptied already when the batch is
made again and the user's not yet there: what was moved is noted before anything is written. While
a device's history moves there, an event of that device which another replica applies in the same
instant can be lost to both; filling the store again from the logs brings it back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from services.feature.applying.batch_states import BatchStates
from services.feature.definitions import USER_ENTITY, Key, pair_id, pair_members
from services.feature.identity.alias import take_over
from services.feature.identity.forget import forget_actor, names_actors
from services.feature.states.applied_event import AppliedEvent
from services.feature.states.attribute_notes import AttributeNotes
from services.feature.states.codec import decode_state, encode_state
from services.feature.states.entity_plan import EntityPlan
from services.feature.states.keys import KeyRules

_STATE = "*state"
_PAIRS = "*pairs"
_BYTES_AS_TEXT = "latin-1"
"""Notes are text: a character a byte."""


class Histories:
    """Applies events that say whose history something is."""

    def __init__(self, plans: Mapping[str, EntityPlan], keys: KeyRules, log_id: str = "") -> None:
        """``log_id`` tells the log that is applied from others in the same store."""
        self._log_id = log_id
        self._plans = plans
        self._pairs = keys.pairs
        self._naming_actors = [
            entity
            for entity, plan in plans.items()
            if entity != USER_ENTITY and entity not in keys.pairs and names_actors(plan)
        ]

    def change(self, event: AppliedEvent, states: BatchStates, notes: AttributeNotes) -> None:
        """Does what the event says."""
        if event.takes_over:
            self._take_over(event, states, notes)
        for number, actor in enumerate(event.erases):
            self._erase(event, actor, f"nobody:{event.arrival}:{number}", states)

    def _erase(self, event: AppliedEvent, actor: str, nobody: str, states: BatchStates) -> None:
        arrival = event.arrival
        states.forget_refunds(actor, self._pairs, self._log_id, arrival)
        own = [(USER_ENTITY, actor)]
        own += [(pair, found) for pair in self._pairs for found in states.pairs_of(pair, actor)]
        for key in own:
            if not states.is_held(key, arrival):
                states.replace(key, self._plans[key[0]].new_state())
        for entity in self._naming_actors:
            for identity in states.that_name(entity, actor):
                if not states.is_held((entity, identity), arrival):
                    state = states.get((entity, identity))
                    # Who waits to be seen has no place in a list yet.
                    self._plans[entity].settle(state, event.clock_ms)
                    forget_actor(self._plans[entity], state, actor, nobody)

    def _take_over(self, event: AppliedEvent, states: BatchStates, notes: AttributeNotes) -> None:
        """Makes a device's history, its pairs' too, the actor's; the device's is empty then."""
        self._move(event, (USER_ENTITY, event.takes_over), event.actor, states, notes)
        for pair in self._pairs:
            found = states.pairs_of(pair, event.takes_over)
            noted = notes.before(pair, event.takes_over, _PAIRS, event.arrival)
            ids = sorted({*found, *json.loads(noted or "[]")})
            if ids:
                notes.keep(pair, event.takes_over, _PAIRS, event.arrival, json.dumps(ids))
            for identity in ids:
                target = pair_id(event.actor, pair_members(identity)[1])
                self._move(event, (pair, identity), target, states, notes)

    def _move(
        self,
        event: AppliedEvent,
        source: Key,
        target_id: str,
        states: BatchStates,
        notes: AttributeNotes,
    ) -> None:
        plan, target = self._plans[source[0]], (source[0], target_id)
        if states.is_held(source, event.arrival):
            copy = notes.before(*source, _STATE, event.arrival)
        else:
            state = states.get(source)
            states.replace(source, plan.new_state())
            if state.is_empty:
                return
            copy = encode_state(plan.aggregates, state, event.clock_ms).decode(_BYTES_AS_TEXT)
        if copy is None:
            return
        notes.keep(*source, _STATE, event.arrival, copy)
        if not states.is_held(target, event.arrival):
            take_over(
                plan, states.get(target), decode_state(copy.encode(_BYTES_AS_TEXT)), event.clock_ms
            )
