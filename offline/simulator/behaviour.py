"""What a person does with a slate: examine by position, click or enter by appeal, and act on it.

Every function returns steps with an offset in milliseconds. What a person comes to like, follow or
block takes effect at once; money, seats and rooms are settled when a ``BuyAttempt`` happens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.simulator import naming
from offline.simulator.appeal import course_appeal, host_appeal
from offline.simulator.catalogue import Catalogue
from offline.simulator.parameters import WorldParameters
from offline.simulator.people import People
from offline.simulator.policy import Slate
from offline.simulator.records import EntityReference
from offline.simulator.rooms import Rooms
from offline.simulator.scene import Planned, Scene, Sight, Visitor

Floats = NDArray[np.float32]

# Logit of opening an item that was examined = slope x appeal - threshold.
OPEN = {"course": (0.75, 1.0), "room": (0.7, 0.9), "video": (0.7, 0.6), "host": (0.8, 0.7)}
ALREADY_BOUGHT = -6.0


@dataclass(frozen=True)
class Behaviour:
    """Reads, and where the module says so changes, the world's state."""

    parameters: WorldParameters
    people: People
    catalogue: Catalogue
    rooms: Rooms

    def appeal(self, visitor: Visitor, now_ms: int) -> Floats:
        """Logits float32 [courses] for the visitor now; what was bought appeals no more."""
        logits = course_appeal(
            self.parameters,
            self.people,
            self.catalogue,
            visitor.person,
            intent=visitor.intent,
            now_ms=now_ms,
        )
        bought = self.people.bought[visitor.person][: self.catalogue.courses]
        logits[bought] = ALREADY_BOUGHT
        return logits

    def react(
        self,
        visitor: Visitor,
        slate: Slate,
        *,
        surface: str,
        rank_id: str,
        now_ms: int,
        rng: np.random.Generator,
        positions: list[int] | None = None,
    ) -> Planned:
        """Everything that follows from one slate, impressions included.

        ``positions`` are the items' places on the screen, 0 to n - 1 by default.
        """
        scene = self._scene(visitor, now_ms, rng)
        if not slate.items:
            return scene.planned
        kind = slate.entity_type
        appeal = self.appeal(visitor, now_ms)
        if kind == "host":
            worth = host_appeal(
                self.parameters, self.people, self.catalogue, visitor.person, visitor.intent
            )[slate.items]
        else:
            worth = appeal[slate.selling]
        places = positions if positions is not None else list(range(len(slate.items)))
        depth = 2 + int(rng.geometric(0.25))
        seen = sum(place < depth for place in places)
        chance = rng.random((seen, 3))
        slope, threshold = OPEN[kind]
        logits = np.clip(slope * worth[:seen] - threshold, -30, 30)
        examined = chance[:, 0] < (1.0 + np.array(places[:seen])) ** -self.parameters.position_bias
        opened = (examined & (chance[:, 1] < 1.0 / (1.0 + np.exp(-logits)))).tolist()
        pauses = (400 + 500 * chance[:, 2]).astype(np.int64).tolist()
        fits = worth.tolist()
        offset = 300
        for index in range(seen):
            item, course, fit = slate.items[index], slate.selling[index], fits[index]
            offset += pauses[index]
            if kind == "room" and self.rooms.live[item].ends_ms - now_ms < offset + 2_000:
                continue
            entities = self.entities(kind, item, course)
            sight = Sight(visitor, surface, rank_id, places[index], entities)
            scene.planned.append((offset, sight.happen("impression")))
            if not opened[index]:
                if examined[index]:
                    host = item if kind == "host" else int(self.catalogue.host[course])
                    scene.reject(sight, host, fit, offset)
                continue
            offset += 1_500
            if kind == "course":
                offset += scene.open_course(sight, course, fit, offset)
            elif kind == "room":
                offset += scene.enter_room(sight, item, fit, offset)
            elif kind == "video":
                offset += scene.play_video(sight, item, fit, offset)
            else:
                offset += self._open_host(scene, sight, item, appeal, offset)
        return scene.planned

    def search(self, visitor: Visitor, now_ms: int, rng: np.random.Generator) -> Planned:
        """Looks for something particular, opens what fits best, and often buys it."""
        scene = self._scene(visitor, now_ms, rng)
        logits = self.appeal(visitor, now_ms)
        logits[~self.catalogue.sellable(now_ms)] = -1e9
        course = int(np.argmax(1.3 * logits + rng.gumbel(size=len(logits))))
        query = self.catalogue.topic_names[self.catalogue.topic[course]].lower()
        asked = Sight(visitor, "", "", -1, ()).happen("search", {"query": query})
        scene.planned.append((0, asked))
        scene.open_course(self._page(visitor, course), course, float(logits[course]) + 0.5, 6_000)
        return scene.planned

    def join_followed(self, visitor: Visitor, now_ms: int, rng: np.random.Generator) -> Planned:
        """Enters the live room of a followed host without any slate."""
        scene = self._scene(visitor, now_ms, rng)
        following = self.people.following[visitor.person]
        rooms = [room for room in self.rooms.live.values() if room.host in following]
        if rooms:
            room = rooms[int(rng.integers(len(rooms)))]
            fit = float(self.appeal(visitor, now_ms)[room.selling])
            entities = self.entities("room", room.number, room.selling)
            scene.enter_room(Sight(visitor, "", "", -1, entities), room.number, fit, 500)
        return scene.planned

    def entities(self, kind: str, item: int, course: int) -> tuple[EntityReference, ...]:
        """What an event on an item names: the item first, then the course it sells and the host."""
        if kind == "host":
            return (("host", naming.host_id(item)),)
        of_course = (
            ("course", naming.course_id(course)),
            ("host", naming.host_id(int(self.catalogue.host[course]))),
        )
        if kind == "room":
            return (("room", naming.room_id(item)), *of_course)
        if kind == "video":
            return (("video", naming.video_id(item)), *of_course)
        return of_course

    def _scene(self, visitor: Visitor, now_ms: int, rng: np.random.Generator) -> Scene:
        return Scene(self.parameters, self.people, self.catalogue, self.rooms, visitor, now_ms, rng)

    def _page(self, visitor: Visitor, course: int) -> Sight:
        """A course page that was reached without a slate."""
        return Sight(visitor, "", "", -1, self.entities("course", course, course))

    def _open_host(self, scene: Scene, sight: Sight, host: int, appeal: Floats, offset: int) -> int:
        """A host's page, and sometimes the course there that appeals most."""
        stay = scene.open_host(sight, host, offset)
        if not sight.visitor.signed_in or scene.rng.random() >= 0.4:
            return stay
        own = [
            course
            for course in self.catalogue.host_courses[host]
            if self.catalogue.is_sellable(course, scene.now_ms)
        ]
        if not own:
            return stay
        course = own[int(np.argmax(appeal[own]))]
        page = self._page(sight.visitor, course)
        return stay + scene.open_course(page, course, float(appeal[course]), offset + stay)
