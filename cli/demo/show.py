"""What the demo shows: slates on every surface, what feedback changes, variants, timings."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from cli.demo.client import Client
from cli.demo.loop import Loop
from cli.demo.view import Catalogue, print_slate, print_timings, print_variants
from offline.simulator.live import REACTION_MS
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.errors import Unavailable

SLATE_LENGTH = 6
USERS = 3
NEWCOMER = "somebody-new"
TIMED_CALLS = 200
SETTLE_SECONDS = 10.0


def show(loop: Loop) -> None:
    """Ranks, feeds back, ranks again; prints what an app would show and what operators read."""
    users = loop.live.users[:USERS]
    with loop.client() as client:
        with loop.part("rank"):
            first = _first_slates(loop, client, users)
        with loop.part("feed back and rank again"):
            _feedback(loop, client, users, first)
        with loop.part("variants and timings"):
            _variants(loop, client, users)
            responses = [
                client.rank(_actor(users[index % USERS]), "courses", SLATE_LENGTH)
                for index in range(TIMED_CALLS)
            ]
            print_timings(loop.console, responses)
    with loop.part("offline metrics"):
        loop.evaluate()
    with loop.part("served against offline"):
        loop.compare_served()


def _actor(user: str) -> common_pb2.Actor:
    return common_pb2.Actor(user_id=user)


def _first_slates(
    loop: Loop, client: Client, users: Sequence[str]
) -> dict[tuple[str, str], ranker_pb2.RankResponse]:
    """Every surface for every user; prints them all for the first, courses for the others."""
    wanted = [(user, surface) for user in users for surface in loop.domain.surfaces]
    wanted.append((NEWCOMER, "courses"))
    slates = {
        (user, surface): client.rank(_actor(user), surface, SLATE_LENGTH)
        for user, surface in wanted
    }
    catalogue = _catalogue(client, list(slates.values()))
    for (user, surface), response in slates.items():
        if user == users[0] or surface == "courses":
            likes = "" if user == NEWCOMER else ", ".join(loop.live.interests_of(user)[:3])
            title = f"{surface} for {user}" + (f" (in truth likes {likes})" if likes else "")
            _print(loop, surface, title, response, catalogue)
    return slates


def _feedback(
    loop: Loop,
    client: Client,
    users: Sequence[str],
    first: dict[tuple[str, str], ranker_pb2.RankResponse],
) -> None:
    """Lets the users react to what they were shown, ends the first room, and ranks again."""
    now_ms = int(time.time() * 1_000)
    rng = np.random.default_rng(0)
    events = loop.live.advance(now_ms)
    for (user, surface), response in first.items():
        if user != NEWCOMER:
            events += loop.live.respond(
                user,
                surface,
                list(response.slate.ids),
                rank_id=response.rank_id,
                # The reaction takes some seconds; it is told as if it were over by now.
                now_ms=now_ms - REACTION_MS,
                rng=rng,
            )
    room = first[users[0], "rooms"].slate.ids[0]
    events.append(_room_ended(room, now_ms))
    bought = [
        (event.actor.user_id, reference.id)
        for event in events
        if event.type == "purchase"
        for reference in event.entities
        if reference.type == "course"
    ]
    seconds = client.wait_applied(client.ingest(events))
    _wait_gone(client, users[0], room)
    again = {
        (user, surface): client.rank(_actor(user), surface, SLATE_LENGTH)
        for user, surface in first
        if surface in ("courses", "rooms") and user in users
    }
    catalogue = _catalogue(client, [*first.values(), *again.values()])
    loop.console.print(
        f"{len(events)} events sent back, {len(bought)} of them purchases; "
        f"the room '{catalogue.name('room', room)}' ended. "
        f"Features hold it all {seconds:.2f} s after the acknowledgement.",
        markup=False,
        highlight=False,
    )
    for user, course in bought:
        title = _rows(client, "course", {course})[course].get("title")
        loop.console.print(f"  {user} bought {title or course}", markup=False, highlight=False)
    for (user, surface), response in again.items():
        if user != users[0] and surface != "courses":
            continue
        before = list(first[user, surface].slate.ids)
        _print(loop, surface, f"{surface} for {user}, again", response, catalogue, before)
        gone = [item for item in before if item not in response.slate.ids]
        names = ", ".join(catalogue.name(response.slate.entity_type, item) for item in gone)
        loop.console.print(f"  no longer shown: {names or 'nothing'}", markup=False)


def _room_ended(room: str, now_ms: int) -> event_pb2.Event:
    event = event_pb2.Event(event_id=f"demo-end-{room}-{now_ms}", type="room_ended")
    event.event_time.FromMilliseconds(now_ms)
    event.entities.add(type="room", id=room)
    event.room_state.state = event_pb2.RoomState.STATE_ENDED
    return event


def _wait_gone(client: Client, user: str, room: str) -> None:
    give_up = time.monotonic() + SETTLE_SECONDS
    while room in client.rank(_actor(user), "rooms", SLATE_LENGTH).slate.ids:
        if time.monotonic() > give_up:
            raise Unavailable(f"{room} ended and is still shown after {SETTLE_SECONDS} s")
        time.sleep(0.02)


def _variants(loop: Loop, client: Client, users: Sequence[str]) -> None:
    """Rank and Assign must say the same."""
    rows = []
    for user in (*users, NEWCOMER):
        ranked = {a.experiment_key: a for a in client.rank(_actor(user), "courses", 1).assignments}
        for assigned in client.assign(_actor(user)).assignments:
            says = ranked[assigned.experiment_key].variant_key
            if says != assigned.variant_key:
                raise Unavailable(f"Rank and Assign differ for {user}: {says}")
            rows.append(
                (user, assigned.experiment_key, says, assigned.variant_key, assigned.bucket)
            )
    print_variants(loop.console, rows)


def _catalogue(client: Client, responses: Sequence[ranker_pb2.RankResponse]) -> Catalogue:
    """Feature rows of all that was shown, of what it sells, and of its hosts."""
    ids: dict[str, set[str]] = {}
    for response in responses:
        ids.setdefault(response.slate.entity_type, set()).update(response.slate.ids)
        ids.setdefault("course", set()).update(filter(None, response.slate.selling_course_ids))
    rows = {entity: _rows(client, entity, wanted) for entity, wanted in ids.items()}
    hosts = {
        str(row["host_id"])
        for table in rows.values()
        for row in table.values()
        if row.get("host_id")
    }
    rows["host"] = _rows(client, "host", hosts | ids.get("host", set()))
    return Catalogue(rows)


def _rows(client: Client, entity: str, ids: set[str]) -> dict[str, dict[str, object]]:
    ordered = sorted(ids)
    return dict(zip(ordered, client.features(entity, ordered), strict=True))


def _print(
    loop: Loop,
    surface: str,
    title: str,
    response: ranker_pb2.RankResponse,
    catalogue: Catalogue,
    before: Sequence[str] | None = None,
) -> None:
    overrides = loop.domain.surfaces[surface].objective_weights
    weights = {
        name: overrides.get(name, objective.weight)
        for name, objective in loop.domain.objectives.items()
    }
    print_slate(loop.console, title, response, catalogue, weights, before)
