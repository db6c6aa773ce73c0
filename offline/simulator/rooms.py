"""Live rooms: scheduled by idle hosts so that enough are on air at every hour, started, kept by
heartbeats, switched to another course, ended, and taken out of the catalogue an hour later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.simulator import naming, steps
from offline.simulator.agenda import Agenda
from offline.simulator.catalogue import Catalogue
from offline.simulator.parameters import DAY_MS, HOUR_MS, MINUTE_MS, WorldParameters
from offline.simulator.records import Record, RoomData, UpsertData, WithdrawalData

TICK_MS = 15 * MINUTE_MS
LIVE_AT_END = 12
# A room counts towards the target while it stays on air this long after a tick; with starts at most
# two ticks ahead, the target holds at every moment.
COUNTED_MS = 3 * TICK_MS

Emit = Callable[[int, Record], None]


@dataclass(slots=True)
class Room:
    """One live session. ``selling`` is a course row; ``inside`` counts the simulated people there
    and ``audience`` those beyond them."""

    number: int
    host: int
    starts_ms: int
    ends_ms: int
    selling: int
    audience: int
    live: bool = False
    inside: int = 0


class Rooms:
    """All rooms that are scheduled or on air, and the few that ended within the last hour."""

    def __init__(
        self,
        parameters: WorldParameters,
        catalogue: Catalogue,
        agenda: Agenda[steps.Step],
        emit: Emit,
        rng: np.random.Generator,
    ) -> None:
        self.parameters = parameters
        self.catalogue = catalogue
        self.agenda = agenda
        self.emit = emit
        self.rng = rng
        self.all: dict[int, Room] = {}
        self.live: dict[int, Room] = {}
        self.of_host: dict[int, Room] = {}
        self._next = 0

    def target(self, now_ms: int) -> int:
        """How many rooms should be on air: fewer at night (UTC), many at the end of the log."""
        hour = (now_ms % DAY_MS) / HOUR_MS
        wave = 1.0 + 0.5 * np.cos(2 * np.pi * (hour - 19) / 24)
        wanted = round(self.parameters.rooms_live * float(wave))
        if now_ms >= self.parameters.end_ms - 3 * HOUR_MS:
            wanted = max(wanted, LIVE_AT_END)
        return max(1, min(wanted, max(2, int(0.6 * self.catalogue.hosts))))

    @staticmethod
    def heat(audiences: NDArray[np.integer]) -> NDArray[np.float32]:
        """Popularity float32 [N] of rooms by audience int [N]: centred logarithm."""
        values: NDArray[np.float32] = np.log1p(audiences).astype(np.float32)
        if len(values):
            values -= values.mean()
        return values

    def tick(self, now_ms: int, *, immediately: bool = False) -> None:
        """Schedules rooms of idle hosts until the target is met, ``immediately`` to start now."""
        self.agenda.put(now_ms + TICK_MS, steps.RoomTick())
        counted = sum(1 for room in self.of_host.values() if room.ends_ms > now_ms + COUNTED_MS)
        missing = self.target(now_ms + 2 * TICK_MS) - counted
        if missing <= 0:
            return
        idle = [h for h in range(self.catalogue.hosts) if self._can_go_live(h, now_ms)]
        if not idle:
            return
        weights = np.exp(self.catalogue.host_quality[idle])
        chosen = self.rng.choice(
            idle, min(missing, len(idle)), replace=False, p=weights / weights.sum()
        )
        for host in chosen:
            delay = 0 if immediately else int(self.rng.integers(5, 30)) * MINUTE_MS
            self._schedule(int(host), now_ms, now_ms + delay)

    def start(self, number: int, now_ms: int) -> None:
        """On air; a room whose course is gone sells another, or never starts."""
        room = self.all[number]
        if not self.catalogue.is_sellable(room.selling, now_ms):
            other = self._other_course(room, now_ms)
            if other is None:
                self._forget(room)
                self.removal(number, now_ms, reason="cancelled")
                return
            room.selling = other
        room.live = True
        self.live[number] = room
        self._report(room, now_ms, "room_started", "STARTED", selling=True, viewers=0)
        beat = self.parameters.heartbeat_minutes * MINUTE_MS
        self.agenda.put(now_ms + beat, steps.RoomHeartbeat(number))
        length = room.ends_ms - now_ms
        for part in np.sort(self.rng.random(int(self.rng.integers(0, 3)))):
            self.agenda.put(now_ms + int((0.15 + 0.7 * part) * length), steps.RoomSwitch(number))
        self.agenda.put(room.ends_ms, steps.RoomEnd(number))

    def heartbeat(self, number: int, now_ms: int) -> None:
        """Still on air; nothing once the room has ended."""
        room = self.live.get(number)
        if room is None:
            return
        viewers = room.inside + int(room.audience * self.rng.uniform(0.6, 1.4))
        self._report(room, now_ms, "room_heartbeat", "HEARTBEAT", selling=False, viewers=viewers)
        beat = self.parameters.heartbeat_minutes * MINUTE_MS
        self.agenda.put(now_ms + beat, steps.RoomHeartbeat(number))

    def switch(self, number: int, now_ms: int) -> None:
        """Another course of the host is on sale from now on, if there is one."""
        room = self.live.get(number)
        other = self._other_course(room, now_ms) if room is not None else None
        if room is None or other is None:
            return
        room.selling = other
        self._report(room, now_ms, "room_now_selling", "NOW_SELLING", selling=True, viewers=None)

    def end(self, number: int, now_ms: int) -> None:
        """Off air."""
        room = self.live[number]
        self._report(room, now_ms, "room_ended", "ENDED", selling=False, viewers=None)
        self._forget(room)
        self.agenda.put(now_ms + HOUR_MS, steps.RoomRemoval(number))

    def removal(self, number: int, now_ms: int, *, reason: str = "ended") -> None:
        """Out of the catalogue."""
        del self.all[number]
        self.emit(
            now_ms,
            Record(
                "entity_withdrawal",
                entities=(("room", naming.room_id(number)),),
                payload=WithdrawalData(reason),
            ),
        )

    def course_gone(self, course: int, now_ms: int) -> None:
        """Rooms that sell a course nobody can buy any more move on."""
        for room in list(self.live.values()):
            if room.selling == course:
                self.agenda.put(now_ms + 1, steps.RoomSwitch(room.number))

    def _can_go_live(self, host: int, now_ms: int) -> bool:
        if host in self.of_host or self.catalogue.host_withdrawn[host]:
            return False
        return any(self.catalogue.is_sellable(c, now_ms) for c in self.catalogue.host_courses[host])

    def _schedule(self, host: int, now_ms: int, starts_ms: int) -> None:
        number = self._next
        self._next += 1
        hours = float(np.clip(self.rng.gamma(6.0, 0.42), 1.0, 5.0))
        fame = float(np.exp(self.catalogue.host_quality[host]))
        room = Room(
            number=number,
            host=host,
            starts_ms=starts_ms,
            ends_ms=starts_ms + int(hours * HOUR_MS),
            selling=-1,
            audience=int(20 * fame * self.rng.lognormal(0, 0.5)),
        )
        other = self._other_course(room, now_ms)
        if other is None:
            return
        room.selling = other
        self.all[number] = room
        self.of_host[host] = room
        topic = self.catalogue.topic_names[self.catalogue.topic[other]]
        self.emit(
            now_ms,
            Record(
                "entity_upsert",
                entities=(("room", naming.room_id(number)),),
                payload=UpsertData(
                    {
                        "title": naming.room_title(topic, naming.host_name(host)),
                        "host_id": naming.host_id(host),
                        "category": self.catalogue.category_names[self.catalogue.category[other]],
                        "live": False,
                        "selling_course_id": naming.course_id(other),
                    },
                    language=naming.LANGUAGES[self.catalogue.host_language[host]],
                ),
            ),
        )
        self.agenda.put(starts_ms, steps.RoomStart(number))

    def _other_course(self, room: Room, now_ms: int) -> int | None:
        """A sellable course of the host but the present one; what is new or hot first."""
        own = [
            c
            for c in self.catalogue.host_courses[room.host]
            if c != room.selling and self.catalogue.is_sellable(c, now_ms)
        ]
        if not own:
            return None
        logits = self.catalogue.hotness[own] + 1.5 * np.exp(
            -(now_ms - self.catalogue.launched_ms[own]) / (10 * DAY_MS)
        )
        return own[int(np.argmax(logits + self.rng.gumbel(size=len(own))))]

    def _forget(self, room: Room) -> None:
        room.live = False
        self.live.pop(room.number, None)
        del self.of_host[room.host]

    def _report(
        self, room: Room, now_ms: int, kind: str, state: str, *, selling: bool, viewers: int | None
    ) -> None:
        course = naming.course_id(room.selling)
        self.emit(
            now_ms,
            Record(
                kind,
                entities=(
                    ("room", naming.room_id(room.number)),
                    ("course", course),
                    ("host", naming.host_id(room.host)),
                ),
                payload=RoomData(state, course if selling else "", viewers),
            ),
        )
