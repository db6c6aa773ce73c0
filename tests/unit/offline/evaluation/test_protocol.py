"""Cuts of a simulated log against a plain reading of its events."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from offline.dataset.columns import Columns, compact
from offline.dataset.schema import ColumnSchema
from offline.evaluation.features import CutReader
from offline.evaluation.protocol import Cut, time_cut, with_bars
from offline.evaluation.ragged import Ragged
from offline.simulator.parameters import WorldParameters
from offline.simulator.simulate import simulate
from podium.event.v1 import event_pb2
from services.common.domain import Domain, load_domain
from services.common.event_log import read_log

DOMAIN_FILE = Path(__file__).parents[4] / "config" / "live_courses.yaml"
END_MS = 1_790_000_000_000
DAY_MS = 86_400_000
CUT_MS = END_MS - 5 * DAY_MS
SEQUENCE_EVENTS = ("click", "room_enter", "watch", "cart", "purchase")


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(DOMAIN_FILE)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, domain: Domain) -> Path:
    directory = tmp_path_factory.mktemp("log")
    world = WorldParameters(
        end_ms=END_MS, weeks=3, users=60, hosts=8, courses=40, seed=11, refund_rate=0.5
    )
    simulate(world, directory, name_ids=lambda user: user, config_hash=domain.config_hash)
    return directory


@pytest.fixture(scope="module")
def events(log: Path) -> list[event_pb2.Event]:
    found = [event_pb2.LoggedEvent.FromString(payload).event for _, payload in read_log(log)]
    return sorted(found, key=lambda event: event.event_time.ToMilliseconds())


@pytest.fixture(scope="module")
def columns(log: Path, domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> Columns:
    return compact(log, tmp_path_factory.mktemp("columns"), ColumnSchema.of(domain))


@pytest.fixture(scope="module")
def cut(domain: Domain, columns: Columns) -> Cut:
    return time_cut(domain, columns, "purchase", CUT_MS, END_MS)


def actor(event: event_pb2.Event) -> str:
    return event.actor.user_id or f"device:{event.actor.device_id}"


def course(event: event_pb2.Event) -> str:
    return next((e.id for e in event.entities if e.type == "course"), "")


def refunded(events: list[event_pb2.Event]) -> set[str]:
    back: dict[str, int] = defaultdict(int)
    paid: dict[str, int] = {}
    for event in events:
        if event.type == "refund":
            back[event.refund.purchase_event_id] += event.refund.amount.amount_minor
            paid[event.refund.purchase_event_id] = event.refund.purchase_amount.amount_minor
    return {purchase for purchase, amount in back.items() if amount >= paid[purchase]}


def open_courses(events: list[event_pb2.Event]) -> set[str]:
    found: set[str] = set()
    for event in events:
        if event.event_time.ToMilliseconds() < CUT_MS and event.entities:
            subject = event.entities[0]
            if event.type == "entity_upsert" and subject.type == "course":
                found.add(subject.id)
            elif event.type == "entity_withdrawal" and subject.type == "course":
                found.discard(subject.id)
    return found


def test_histories_truth_and_catalogue_are_those_of_the_log(
    cut: Cut, events: list[event_pb2.Event]
) -> None:
    fold, available = cut.fold, open_courses(events)
    assert {c for c, a in zip(fold.items, fold.available, strict=True) if a} == available
    histories: dict[str, list[tuple[str, str]]] = defaultdict(list)
    bought: dict[str, set[str]] = defaultdict(set)
    given_back = refunded(events)
    for event in events:
        if event.type not in SEQUENCE_EVENTS or not course(event):
            continue
        if event.event_time.ToMilliseconds() < CUT_MS:
            histories[actor(event)].append((course(event), event.type))
        elif event.type == "purchase" and event.event_id not in given_back:
            bought[actor(event)] |= {course(event)} & available
    assert given_back
    for row, user in enumerate(fold.users):
        positions = fold.history.positions(np.array([row]))
        found = [
            (fold.items[fold.history.values[at]], cut.action_names[cut.actions[at]])
            for at in positions
        ]
        assert found == histories[user]
        assert fold.is_target[positions].tolist() == [a == "purchase" for _, a in histories[user]]
    asked = {
        fold.users[int(user)]: {fold.items[i] for i in fold.truth.row(question)}
        for question, user in enumerate(fold.asked)
    }
    assert asked == {user: courses for user, courses in bought.items() if courses}


def test_bars_are_what_was_bought_and_whom_was_blocked(
    domain: Domain, columns: Columns, cut: Cut, events: list[event_pb2.Event]
) -> None:
    host_of: dict[str, str] = {}
    owned: dict[str, set[str]] = defaultdict(set)
    blocked: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.type == "entity_upsert" and "host_id" in event.entity_upsert.attributes:
            host = event.entity_upsert.attributes["host_id"].string_value
            host_of[event.entities[0].id] = host
        if event.event_time.ToMilliseconds() >= CUT_MS:
            continue
        if event.type == "purchase":
            owned[actor(event)].add(course(event))
        if event.type == "block":
            blocked[actor(event)] |= {e.id for e in event.entities if e.type == "host"}
    reader = CutReader(domain, "courses", cut, columns)
    barred = reader.barred()
    fold = cut.fold
    # Both filters must have something to remove, or this shows nothing.
    assert any(blocked[fold.users[int(user)]] for user in fold.asked)
    assert any(owned[fold.users[int(user)]] for user in fold.asked)
    for question, user in enumerate(fold.asked):
        name = fold.users[int(user)]
        expected = owned[name] | {c for c in fold.items if host_of.get(c) in blocked[name]}
        assert {fold.items[row] for row in barred.row(question)} == expected


def test_a_true_item_that_is_barred_is_no_question(cut: Cut) -> None:
    fold = cut.fold
    everything = Ragged.of([fold.truth.row(0), *[[]] * (len(fold.asked) - 1)])
    left = with_bars(cut, everything)
    others = fold.truth.take(np.arange(1, len(fold.asked)))
    assert left.fold.asked.tolist() == fold.asked[1:].tolist()
    assert left.fold.truth.values.tolist() == others.values.tolist()
    assert len(left.time_ms) == len(left.arrival) == len(left.fold.asked)
