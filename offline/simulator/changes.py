"""How the catalogue changes: what comes, gets dearer or cheaper, opens again, leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from offline.simulator import naming, steps
from offline.simulator.agenda import Agenda
from offline.simulator.catalogue import UNLIMITED, Catalogue
from offline.simulator.parameters import DAY_MS, HOUR_MS, WorldParameters
from offline.simulator.records import Record, UpsertData, WithdrawalData
from offline.simulator.rooms import Rooms


class CatalogueChanges:
    """Plans a day's changes of a world's catalogue, and makes them."""

    def __init__(
        self,
        parameters: WorldParameters,
        catalogue: Catalogue,
        rooms: Rooms,
        agenda: Agenda[steps.Step],
        emit: Callable[[int, Record], None],
        rng: np.random.Generator,
    ) -> None:
        self._parameters = parameters
        self._catalogue = catalogue
        self._rooms = rooms
        self._agenda = agenda
        self._emit = emit
        self._rng = rng

    def open(self, now_ms: int) -> None:
        """The catalogue of the first day."""
        parameters, rng = self._parameters, self._rng
        for _ in range(parameters.hosts):
            self._emit_new(now_ms, self._catalogue.add_host(rng))
        for _ in range(parameters.courses):
            self.add_course(now_ms)
        self._catalogue.first_weeks(rng, now_ms)
        for _ in range(parameters.courses):
            self._emit_new(now_ms, self._catalogue.add_video(rng))
        self._catalogue.refresh_hotness(0)

    def _emit_new(self, now_ms: int, record: Record | None) -> None:
        if record is not None:
            self._emit(now_ms, record)

    def add_course(self, now_ms: int) -> None:
        """A new course, where there is room for one; one with few seats opens again later."""
        row = self._catalogue.courses
        record = self._catalogue.add_course(now_ms, self._rng)
        if record is None:
            return
        self._emit(now_ms, record)
        if self._catalogue.seats_left[row] != UNLIMITED:
            self._plan_reopening(row)

    def _plan_reopening(self, row: int) -> None:
        pause = int(self._rng.integers(2, 9)) * DAY_MS
        at = int(self._catalogue.closes_ms[row]) + pause
        self._agenda.put(at, steps.CatalogueChange("reopen", row))

    def plan_day(self, now_ms: int) -> None:
        """New, dearer, cheaper and leaving entities of one day."""
        parameters, rng, catalogue = self._parameters, self._rng, self._catalogue
        active = int((~catalogue.withdrawn[: catalogue.courses]).sum())
        expected = {
            "course": parameters.arrival_rate * parameters.courses / 7,
            "video": 0.02 * active,
            "host": 0.06,
            "price": 0.012 * active,
            "withdraw_course": 0.003 * active,
            "withdraw_video": 0.015 * active,
            "withdraw_host": 0.05 if catalogue.hosts > 10 else 0.0,
        }
        rows = {
            "price": catalogue.courses,
            "withdraw_course": catalogue.courses,
            "withdraw_video": catalogue.videos,
            "withdraw_host": catalogue.hosts,
        }
        for kind, mean in expected.items():
            for _ in range(int(rng.poisson(mean))):
                row = int(rng.integers(rows[kind])) if kind in rows else -1
                at = now_ms + int(rng.integers(DAY_MS))
                self._agenda.put(at, steps.CatalogueChange(kind, row))

    def make(self, now_ms: int, kind: str, row: int) -> None:
        """Makes the change of a ``steps.CatalogueChange``."""
        catalogue, rng = self._catalogue, self._rng
        if kind == "course":
            self.add_course(now_ms)
        elif kind == "host":
            host = catalogue.hosts
            self._emit_new(now_ms, catalogue.add_host(rng))
            if catalogue.hosts > host:
                for _ in range(2):
                    self._agenda.put(
                        now_ms + int(rng.integers(1, 48)) * HOUR_MS, steps.CatalogueChange("course")
                    )
        elif kind == "video":
            self._emit_new(now_ms, catalogue.add_video(rng))
        elif kind == "price" and not catalogue.withdrawn[row]:
            catalogue.set_price(row, float(catalogue.price_minor[row]) * rng.uniform(0.65, 1.3))
            price = int(catalogue.price_minor[row])
            entities = (("course", naming.course_id(row)),)
            changed = UpsertData({}, price_minor=price)
            self._emit(now_ms, Record("entity_upsert", entities=entities, payload=changed))
        elif kind == "reopen" and not catalogue.withdrawn[row]:
            self._emit(now_ms, catalogue.reopen(row, now_ms, rng))
            self._plan_reopening(row)
        elif kind == "withdraw_course":
            self._withdraw_course(now_ms, row, "retired")
        elif kind == "withdraw_video" and not catalogue.video_withdrawn[row]:
            catalogue.video_withdrawn[row] = True
            self._withdraw(now_ms, "video", naming.video_id(row), "expired")
        elif (
            kind == "withdraw_host"
            and row not in self._rooms.of_host
            and not catalogue.host_withdrawn[row]
        ):
            catalogue.host_withdrawn[row] = True
            for course in catalogue.host_courses[row]:
                self._withdraw_course(now_ms, course, "host_left")
            self._withdraw(now_ms, "host", naming.host_id(row), "left")

    def _withdraw_course(self, now_ms: int, course: int, reason: str) -> None:
        catalogue = self._catalogue
        if catalogue.withdrawn[course]:
            return
        catalogue.withdrawn[course] = True
        self._withdraw(now_ms, "course", naming.course_id(course), reason)
        self._rooms.course_gone(course, now_ms)
        videos = np.flatnonzero(
            (catalogue.video_course[: catalogue.videos] == course)
            & ~catalogue.video_withdrawn[: catalogue.videos]
        )
        for video in videos.tolist():
            catalogue.video_withdrawn[video] = True
            self._withdraw(now_ms, "video", naming.video_id(video), reason)

    def _withdraw(self, now_ms: int, kind: str, entity: str, reason: str) -> None:
        record = Record(
            "entity_withdrawal", entities=((kind, entity),), payload=WithdrawalData(reason)
        )
        self._emit(now_ms, record)
