"""Ranks micro-batches whose requests are answered by several bundles.

Each bundle ranks its requests as if they had come alone; the users' rows are asked for in one call
a feature view.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.actor import actor_key
from services.common.assign.assign import Definitions, bundle_wanted
from services.common.clock import system_clock_ms
from services.common.errors import PodiumError
from services.ranker.bundles.routing import version_for
from services.ranker.bundles.shared_rows import SharedRows
from services.ranker.definitions.assigning import assigned_to
from services.ranker.definitions.in_force import DefinitionsInForce
from services.ranker.pipeline import Pipeline
from services.ranker.ports import UserFeatures
from services.ranker.state import InForce
from services.ranker.tokens.format import digest_of
from services.ranker.types import Call, Part, RankCommand, RankResult, Reason
from services.ranker.work import Started, degrade


class Answers(Protocol):
    """Who wants to know how the bundles answer."""

    def answered(self, in_force: InForce, version: str, results: Sequence[RankResult]) -> None:
        """A bundle answered; told on the thread that ranks, before the callers have it."""

    def broke(self, in_force: InForce, version: str, requests: int) -> None:
        """A bundle failed altogether; for another than the live one, that one answers."""


@dataclass
class Group:
    """Requests of one bundle, at their indices in the micro-batch."""

    version: str
    places: list[int]
    commands: list[RankCommand]
    started: Started


@dataclass
class Mixed:
    """A micro-batch under way, under what was in force when it began."""

    in_force: InForce
    groups: list[Group]


class MixedPipeline:
    """Ranks micro-batches by the bundles that answer them. Used by one thread."""

    def __init__(
        self,
        in_force: Callable[[], InForce],
        pipeline: Pipeline,
        users: UserFeatures,
        definitions: DefinitionsInForce,
        answers: Answers,
        *,
        idle: threading.Event,
        log_error: Callable[[str, Exception], None],
        clock_ms: Callable[[], int] = system_clock_ms,
    ) -> None:
        """``idle`` is set while no micro-batch is under way."""
        self._in_force = in_force
        self._pipeline = pipeline
        self._users = users
        self._definitions = definitions
        self._answers = answers
        self._idle = idle
        self._idle.set()
        self._latest: Mixed | None = None
        self._log_error = log_error
        self._clock_ms = clock_ms

    def begin(self, commands: Sequence[RankCommand]) -> Mixed:
        """Finds each request's bundle, assigns variants and asks for the users' rows."""
        self._idle.clear()
        self._latest = None
        self._latest = self._begin(commands)
        return self._latest

    def ready(self, mixed: Mixed, longest_s: float) -> bool:
        """Whether ``finish`` has what it would wait for; each group waits so long at most."""
        return all(self._pipeline.ready(group.started, longest_s) for group in mixed.groups)

    def finish(self, mixed: Mixed, kept: Sequence[int]) -> list[RankResult | Exception]:
        """Answers the requests at the indices ``kept``, in that order; an error for those of a
        bundle that could not, while others answered theirs."""
        try:
            return self._finish(mixed, kept)
        finally:
            if mixed is self._latest:
                self._idle.set()

    def _begin(self, commands: Sequence[RankCommand]) -> Mixed:
        in_force = self._in_force()
        definitions = self._definitions.current()
        if not in_force.routes.mixed and not definitions.naming_bundles:
            live = in_force.routes.live
            started = self._pipeline.begin_with(commands, in_force.live, self._users)
            return Mixed(in_force, [Group(live, [*range(len(commands))], [*commands], started)])
        rows = SharedRows()
        digests = {digest_of(version): version for version in in_force.routes.answering}
        places: dict[str, list[int]] = {}
        replaced: set[int] = set()
        for place, command in enumerate(commands):
            version, is_wanted = self._version(in_force, digests, command, definitions)
            places.setdefault(version, []).append(place)
            if not is_wanted:
                replaced.add(place)
        groups = [
            self._begun(in_force, version, among, [commands[place] for place in among], rows)
            for version, among in places.items()
        ]
        for group in groups:
            works = zip(group.places, group.started.works, strict=True)
            lacking = [work for place, work in works if place in replaced]
            degrade(lacking, Part.SCORING, Reason.REPLACED)
        rows.send(self._users)
        return Mixed(in_force, groups)

    def _finish(self, mixed: Mixed, kept: Sequence[int]) -> list[RankResult | Exception]:
        if len(mixed.groups) == 1:
            return [*self._finished(mixed.in_force, mixed.groups[0], kept)]
        answers: dict[int, RankResult | Exception] = {}
        wanted = set(kept)
        for group in mixed.groups:
            among = [at for at, place in enumerate(group.places) if place in wanted]
            if not among:
                continue
            if answers:
                group.started.clock.skip()
            results: Sequence[RankResult | Exception]
            try:
                results = self._finished(mixed.in_force, group, among)
            except Exception as error:
                # The slates of the others are logged: their callers get them.
                results = [error] * len(among)
            answers.update(zip((group.places[at] for at in among), results, strict=True))
        found = [answers[place] for place in kept]
        errors = [answer for answer in found if isinstance(answer, Exception)]
        if len(errors) == len(found):
            raise errors[0]
        return found

    def _version(
        self,
        in_force: InForce,
        digests: dict[bytes, str],
        command: RankCommand,
        definitions: Definitions,
    ) -> tuple[str, bool]:
        routes = in_force.routes
        if command.call is Call.SIMILAR:
            return routes.live, True
        wanted = ""
        if definitions.naming_bundles:
            assigned = assigned_to(
                command, definitions, self._clock_ms(), definitions.naming_bundles
            )
            wanted = bundle_wanted(definitions, assigned.assignments)
        following = command.following
        return version_for(
            routes,
            actor_key(command.user_id, command.device_id),
            wanted=wanted,
            before=None if following is None else digests.get(following.bundle),
        )

    def _begun(
        self,
        in_force: InForce,
        version: str,
        places: list[int],
        commands: list[RankCommand],
        rows: SharedRows,
    ) -> Group:
        try:
            started = self._pipeline.begin_with(commands, in_force.states[version], rows)
        except PodiumError:
            raise
        except Exception as error:
            self._answers.broke(in_force, version, len(commands))
            if version == in_force.routes.live:
                raise
            self._log_replaced(version, error)
            version = in_force.routes.live
            started = self._pipeline.begin_with(commands, in_force.live, rows)
            degrade(started.works, Part.SCORING, Reason.REPLACED)
        return Group(version, places, commands, started)

    def _finished(self, in_force: InForce, group: Group, among: Sequence[int]) -> list[RankResult]:
        """The answers at ``among`` of a group; the live bundle's where its own breaks."""
        version = group.version
        try:
            results = self._pipeline.finish(group.started, among)
        except PodiumError:
            raise
        except Exception as error:
            self._answers.broke(in_force, version, len(among))
            if version == in_force.routes.live:
                raise
            self._log_replaced(version, error)
            version = in_force.routes.live
            again = [group.commands[at] for at in among]
            started = self._pipeline.begin_with(again, in_force.live, self._users)
            degrade(started.works, Part.SCORING, Reason.REPLACED)
            results = self._pipeline.finish(started, range(len(among)))
        self._answers.answered(in_force, version, results)
        return results

    def _log_replaced(self, version: str, error: Exception) -> None:
        self._log_error(f"bundle {version} failed, the live one answers in its place", error)
