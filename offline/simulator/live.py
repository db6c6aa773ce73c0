"""A world that goes on after its log ended, and answers: what would this user do with this slate?

Events come out with raw ids, as ``FeatureService.Ingest`` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offline.simulator import naming
from offline.simulator.parameters import DAY_MS
from offline.simulator.policy import Slate
from offline.simulator.records import Record
from offline.simulator.scene import Visitor
from offline.simulator.world import SURFACES, World
from offline.simulator.writer import EventFiller
from podium.event.v1 import event_pb2
from services.common.errors import InvalidArgument, NotFound

# Ingest refuses what lies more than five minutes ahead: a reaction is told within this time.
REACTION_MS = 10_000


class LiveWorld:
    """Takes over a world that was run up to its end. One owner; calls go forward in time.

    ``run`` names this continuation: event ids start with it, so two continuations of one world
    never send the same id. ``visits`` True keeps background visits going too.
    """

    def __init__(self, world: World, *, run: str, visits: bool = False) -> None:
        self._world = world
        self._filler = EventFiller(lambda raw: raw, world.parameters.currency)
        world.visits = visits
        world.ids.prefix = f"{run}-"
        self._now_ms = world.parameters.end_ms

    @property
    def users(self) -> list[str]:
        """Raw ids of the accounts that exist at the end of the log."""
        people = self._world.people
        open_accounts = people.joins_ms[: people.accounts] <= self._now_ms
        return [naming.user_id(int(person)) for person in np.flatnonzero(open_accounts)]

    @property
    def live_rooms(self) -> list[str]:
        """Ids of the rooms on air, by start."""
        return [naming.room_id(number) for number in self._world.rooms.live]

    def interests_of(self, user: str) -> list[str]:
        """Categories the user likes now, the dearest first. Truth: for display only."""
        names = naming.category_names()
        return [names[category] for category in self._world.people.focus[self._person(user)]]

    def advance(self, now_ms: int) -> list[event_pb2.Event]:
        """What happened up to ``now_ms`` since the last call: rooms start, report, switch and end,
        courses change, refunds fall due; and visits where wanted. Times lie in the past."""
        events: list[event_pb2.Event] = []
        for records in self._world.run_until(now_ms + 1):
            events.extend(self._events(records))
        self._now_ms = max(self._now_ms, now_ms)
        return events

    def respond(
        self,
        user: str,
        surface: str,
        items: Sequence[str],
        *,
        rank_id: str,
        now_ms: int,
        rng: np.random.Generator,
        intent: str | None = None,
    ) -> list[event_pb2.Event]:
        """Events the user sends after a slate with ``items`` (ids, best first) at ``now_ms``.

        Their times keep the order of what happened but lie within ``REACTION_MS``; durations are
        true. What would come days later (late purchases, refunds) comes from ``advance``.
        ``intent`` names the category of the visit; by default the user chooses. Items the world
        does not know, and rooms that are not on air, are passed over but keep their position.
        Raises ``NotFound`` for an unknown user, ``InvalidArgument`` for an unknown surface or
        intent.
        """
        world = self._world
        person = self._person(user)
        if surface not in SURFACES:
            raise InvalidArgument.field("surface", f"must be one of {', '.join(SURFACES)}")
        names = naming.category_names()
        if intent is not None and intent not in names:
            raise InvalidArgument.field("intent", f"must be one of {', '.join(names)}")
        chosen = world.people.choose_intent(person, rng) if intent is None else names.index(intent)
        entity = surface.removesuffix("s")
        rows: list[int] = []
        positions: list[int] = []
        for position, item in enumerate(items):
            row = self._row(entity, item)
            if row >= 0:
                rows.append(row)
                positions.append(position)
        slate = Slate(entity, rows, [self._selling(entity, row) for row in rows], [], [])
        planned = world.behaviour.react(
            Visitor(person, signed_in=True, intent=chosen),
            slate,
            surface=surface,
            rank_id=rank_id,
            now_ms=now_ms,
            rng=rng,
            positions=positions,
        )
        soon = [(offset, step) for offset, step in planned if offset < DAY_MS // 8]
        world.put_planned(now_ms, [p for p in planned if p[0] >= DAY_MS // 8])
        soon.sort(key=lambda pair: pair[0])
        last = max((offset for offset, _ in soon), default=1)
        for offset, step in soon:
            at = now_ms + (offset if last <= REACTION_MS else offset * REACTION_MS // last)
            world.execute(at, step)
        return self._events(world.take_records())

    def _events(self, records: Sequence[Record]) -> list[event_pb2.Event]:
        events = []
        for record in records:
            event = event_pb2.Event()
            self._filler.fill(event, record)
            events.append(event)
        return events

    def _person(self, user: str) -> int:
        prefix, _, number = user.partition("_")
        people = self._world.people
        if prefix == "user" and number.isdecimal() and int(number) < people.accounts:
            return int(number)
        raise NotFound(f"no user {user!r} in this world", reason="UNKNOWN_USER")

    def _row(self, entity: str, item: str) -> int:
        """Row or number of an item, -1 when it can't be seen now."""
        prefix, _, number = item.partition("_")
        if prefix != entity or not number.isdecimal():
            return -1
        row, catalogue = int(number), self._world.catalogue
        if entity == "room":
            return row if row in self._world.rooms.live else -1
        known = {"course": catalogue.courses, "host": catalogue.hosts, "video": catalogue.videos}
        return row if row < known[entity] else -1

    def _selling(self, entity: str, row: int) -> int:
        if entity == "course":
            return row
        if entity == "video":
            return int(self._world.catalogue.video_course[row])
        return self._world.rooms.live[row].selling if entity == "room" else -1
