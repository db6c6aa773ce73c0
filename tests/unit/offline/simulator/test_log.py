"""The log on disk: complete, reproducible, pseudonymous, in order, written in bounded memory."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offline.simulator.parameters import WorldParameters
from offline.simulator.simulate import Summary, simulate
from podium.event.v1 import event_pb2
from services.common.domain import load_domain
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.event_log import read_log, writer
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser

DOMAIN = Path(__file__).parents[4] / "config" / "live_courses.yaml"
END_MS = 1_780_000_000_000
PARAMETERS = WorldParameters(END_MS, weeks=2, users=120, hosts=20, courses=80, seed=3, activity=4.0)
NAMES = Pseudonymiser.from_text(DEVELOPMENT_KEYS)


def write(parameters: WorldParameters, log: Path, truth: Path | None = None) -> Summary:
    return simulate(
        parameters, log, name_ids=NAMES.encrypt, config_hash="cafe", truth_directory=truth
    )


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("world")
    write(PARAMETERS, directory / "log", directory / "truth")
    return directory


@pytest.fixture(scope="module")
def logged(base: Path) -> list[event_pb2.LoggedEvent]:
    return [event_pb2.LoggedEvent.FromString(data) for _, data in read_log(base / "log")]


def test_every_declared_kind_of_event_happens_and_no_other(
    logged: list[event_pb2.LoggedEvent],
) -> None:
    assert {record.event.type for record in logged} == set(load_domain(DOMAIN).events)


def test_every_kind_of_entity_enters_changes_and_leaves(
    logged: list[event_pb2.LoggedEvent],
) -> None:
    upserted = {r.event.entities[0].type for r in logged if r.event.type == "entity_upsert"}
    withdrawn = {r.event.entities[0].type for r in logged if r.event.type == "entity_withdrawal"}
    assert upserted == {"course", "host", "room", "video"}
    assert withdrawn >= {"course", "room", "video"}
    changes = [
        r.event.entity_upsert
        for r in logged
        if r.event.type == "entity_upsert" and not r.event.entity_upsert.attributes
    ]
    assert any(change.HasField("price") for change in changes)
    assert any(change.HasField("seats_left") for change in changes)
    assert any(change.HasField("enrolment_closes") for change in changes)


def test_payloads_and_attributes_fit_the_domain(logged: list[event_pb2.LoggedEvent]) -> None:
    domain = load_domain(DOMAIN)
    kinds = {"string": "string_value", "int": "int_value", "bool": "bool_value"}
    needed = {
        "purchase": "purchase",
        "refund": "refund",
        "entity_upsert": "entity_upsert",
        "entity_withdrawal": "entity_withdrawal",
        "slate_served": "slate_served",
        "exposure": "exposure",
        "decision": "decision",
        "profile": "profile",
    }
    for record in logged:
        event = record.event
        payload = "room_state" if event.type in ROOM_TYPES else needed.get(event.type)
        assert event.WhichOneof("payload") == payload
        if event.type == "entity_upsert":
            declared = domain.entities[event.entities[0].type].attributes
            for name, value in event.entity_upsert.attributes.items():
                assert value.WhichOneof("kind") == kinds[declared[name]], name
        if event.type == "profile":
            (name,) = event.profile.attributes
            assert name == ("tags" if event.entities else "segment")
            assert event.profile.version
        if event.type in ("watch", "room_leave"):
            assert event.attributes["duration_ms"].int_value > 0
        if event.type in ("gift", "coupon_issued", "coupon_redeemed"):
            assert event.attributes["amount_minor"].int_value > 0
        if event.type == "slate_served":
            slate = event.slate_served
            assert len(slate.item_ids) == len(slate.values) == len(slate.sources)
            assert len(slate.selling_course_ids) in (0, len(slate.item_ids))
            assert list(slate.values) == sorted(slate.values, reverse=True)


ROOM_TYPES = {"room_started", "room_heartbeat", "room_now_selling", "room_ended"}


def test_arrival_is_the_place_in_the_log_and_follows_event_time(base: Path) -> None:
    last = 0
    for arrival, data in read_log(base / "log"):
        record = event_pb2.LoggedEvent.FromString(data)
        assert record.arrival == record.sequence == arrival
        assert record.config_hash == "cafe"
        assert record.arrival_time == record.event.event_time
        time_ms = record.event.event_time.ToMilliseconds()
        assert PARAMETERS.start_ms <= last <= time_ms < END_MS or last == 0
        last = time_ms


def test_actors_are_pseudonyms_and_system_events_have_none(
    base: Path, logged: list[event_pb2.LoggedEvent]
) -> None:
    everything = b"".join(content(base / "log").values())
    assert b"user_0" not in everything
    assert b"device_0" not in everything
    users = set()
    anonymous = 0
    for record in logged:
        event = record.event
        system = event.type in ROOM_TYPES | {"entity_upsert", "entity_withdrawal"}
        system |= event.type == "profile" and len(event.entities) > 0
        assert event.HasField("actor") != system
        if not system:
            assert NAMES.decrypt(event.actor.device_id).startswith("device_")
            anonymous += not event.actor.user_id
            if event.actor.user_id:
                users.add(NAMES.decrypt(event.actor.user_id))
    assert anonymous > 0
    assert users <= {f"user_{number:05d}" for number in range(PARAMETERS.users)}


def test_identical_parameters_give_identical_bytes_with_or_without_truth(
    base: Path, tmp_path: Path
) -> None:
    write(PARAMETERS, tmp_path / "log")
    assert content(tmp_path / "log") == content(base / "log")


def test_another_seed_gives_another_log(tmp_path: Path) -> None:
    for seed in (3, 4):
        tiny = WorldParameters(END_MS, weeks=1, users=10, hosts=4, courses=10, seed=seed)
        write(tiny, tmp_path / str(seed))
    assert content(tmp_path / "3") != content(tmp_path / "4")


def test_truth_stays_out_of_the_log_directory(base: Path) -> None:
    names = {path.suffix for path in (base / "log").rglob("*")}
    assert names <= {".segment", ".lock"}
    truth = base / "truth"
    appeal = np.load(truth / "cut_001_appeal.npy")
    eligible = np.load(truth / "cut_001_eligible.npy")
    probability = np.load(truth / "cut_001_buy_probability.npy")
    assert appeal.shape == eligible.shape == probability.shape
    assert appeal.shape[0] == PARAMETERS.users
    assert 0 < probability.min() < probability.max() < 1
    assert (truth / "cuts.json").is_file()


def test_truth_tells_next_week_better_than_popularity(base: Path) -> None:
    appeal = np.load(base / "truth" / "cut_001_appeal.npy")
    cut_ms = PARAMETERS.end_ms - 7 * 86_400_000
    sold = np.zeros(appeal.shape[1])
    ranks, popular_ranks = [], []
    later = []
    for _, data in read_log(base / "log"):
        event = event_pb2.LoggedEvent.FromString(data).event
        if event.type != "purchase":
            continue
        person = int(NAMES.decrypt(event.actor.user_id).removeprefix("user_"))
        course = int(event.entities[0].id.removeprefix("course_"))
        if event.event_time.ToMilliseconds() < cut_ms:
            sold[course] += 1
        elif course < len(sold):
            later.append((person, course))
    for person, course in later:
        ranks.append((appeal[person] > appeal[person, course]).mean())
        popular_ranks.append((sold > sold[course]).mean())
    assert np.mean(ranks) < np.mean(popular_ranks) - 0.05


@pytest.mark.parametrize("place", ["log", "log/truth", "."])
def test_truth_may_not_lie_with_the_log(tmp_path: Path, place: str) -> None:
    with pytest.raises(InvalidArgument, match="truth"):
        write(PARAMETERS, tmp_path / "log", tmp_path / place)


def test_a_directory_with_a_log_is_refused_and_left_alone(base: Path) -> None:
    before = content(base / "log")
    with pytest.raises(FailedPrecondition, match="holds a log already"):
        write(PARAMETERS, base / "log")
    assert content(base / "log") == before


def test_memory_does_not_grow_with_the_length_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The writer's own buffer of a megabyte would hold the whole of a log this short.
    monkeypatch.setattr(writer, "_BUFFER_BYTES", 1 << 16)
    small = WorldParameters(
        END_MS, weeks=1, users=20, hosts=4, courses=20, arrival_rate=0.0, rooms_live=2
    )

    def peak_bytes(weeks: int) -> tuple[int, int]:
        directory = tmp_path / str(weeks)
        gc.collect()
        tracemalloc.start()
        write(replace(small, weeks=weeks), directory)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak, sum(path.stat().st_size for path in directory.iterdir())

    # What is made once a process, such as caches of NumPy, is no part of it; and what other tests
    # left in memory must not put the collection of garbage off.
    write(small, tmp_path / "first")
    gc.freeze()
    try:
        short_peak, short_size = peak_bytes(1)
        long_peak, long_size = peak_bytes(3)
    finally:
        gc.unfreeze()
    assert long_size > 2 * short_size
    assert long_peak - short_peak < 0.5 * (long_size - short_size)
