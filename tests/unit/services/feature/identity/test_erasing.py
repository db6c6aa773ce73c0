"""Who is forgotten is gone from store and log, and both still say the same of everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cli.search import holds, search
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.convert_event import logged_arrival, record_digest
from services.common.event_log import LogWriter, list_segments, read_log
from services.feature.convert.erasure import Erasures, RecordEraser, find_aliases, find_erased
from services.feature.identity.erasing import erase_in_log
from services.feature.identity.forget import forget_actor
from services.feature.rows.rows import NOT_FOUND
from services.feature.states.entity_plan import compile_plans
from tests.support.alias_streams import (
    USER_KEYS,
    alias_event,
    aliased_streams,
    erasure_event,
    long_id,
    pairs_domain,
    pseudonymised,
)
from tests.support.applied_rows import named, rows_of
from tests.support.feature_streams import START_MS, interaction, logged, purchase_event

DOMAIN = pairs_domain()
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
ANN, PHONE = "p1.annannannannannannannannann", "p1.phonephonephonephonephone"


def _payloads(records: Sequence[LoggedEvent]) -> list[tuple[int, bytes]]:
    return [(r.arrival, r.SerializeToString()) for r in records]


def _erasures(payloads: Sequence[tuple[int, bytes]]) -> Erasures:
    erased = find_erased(payloads)
    return Erasures(erased, find_aliases(payloads, erased))


# Each example writes to disk: shrinking a failure would take minutes.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=SLOW,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(stream=aliased_streams(erased=True))
def test_an_erased_log_gives_the_store_that_saw_the_events(stream: list[LoggedEvent]) -> None:
    records = pseudonymised(stream)
    payloads = _payloads(records)
    eraser = RecordEraser(DOMAIN, _erasures(payloads), tombstones=True)
    t_ms = records[-1].arrival_time.ToMilliseconds() + 400_000

    erased = [(arrival, eraser.erase(arrival, payload)) for arrival, payload in payloads]

    seen = rows_of(DOMAIN, records, t_ms, tuple(map(long_id, USER_KEYS)))
    filled = rows_of(
        DOMAIN,
        [LoggedEvent.FromString(payload) for _, payload in erased],
        t_ms,
        tuple(map(long_id, USER_KEYS)),
    )
    # A device that was an erased user's stays a visitor of the courses it met.
    loose = {"visitors"} if any(r.event.HasField("alias") for r in records) else set()
    for key, row in seen.items():
        found, expected = (named(DOMAIN, key[0], rows) for rows in (filled[key], row))
        assert {n: v for n, v in found.items() if n not in loose} == {
            n: v for n, v in expected.items() if n not in loose
        }, key
    for (arrival, before), (_, after) in zip(payloads, erased, strict=True):
        assert len(before) == len(after)
        assert logged_arrival(after) == arrival
        assert record_digest(after) == record_digest(before)
        assert eraser.erase(arrival, after) == after


def test_the_user_is_not_found_and_begins_anew() -> None:
    log = [
        logged(0, interaction("a", "click", START_MS, "ann", "course:c1"), START_MS),
        logged(1, interaction("b", "click", START_MS, "bob", "course:c1"), START_MS),
        logged(2, erasure_event("x", "ann"), START_MS),
    ]
    before = rows_of(DOMAIN, log[:2], START_MS)
    erased = rows_of(DOMAIN, log, START_MS)
    log.append(logged(3, interaction("c", "click", START_MS, "ann", "course:c2"), START_MS))
    later = rows_of(DOMAIN, log, START_MS)

    assert set(erased["user", "ann"].statuses) == {NOT_FOUND}
    assert set(later["user", "ann"].statuses) != {NOT_FOUND}
    assert erased["user", "bob"] == before["user", "bob"]
    # One of two distinct visitors of the course is left.
    visitors = [
        named(DOMAIN, "course", rows["course", "c1"])["visitors"].value for rows in (before, erased)
    ]
    assert visitors == [2, 1]


def test_a_full_list_keeps_the_place() -> None:
    plan = compile_plans(DOMAIN)["course"]
    (index,) = [i for i, recent in enumerate(plan.aggregates.recents) if recent.of == "user"]
    cap = plan.aggregates.recents[index].cap
    state = plan.new_state()
    state.recents[index] = {f"u{n}": n for n in range(cap)}

    assert forget_actor(plan, state, "u3", "nobody:7:0")
    assert not forget_actor(plan, state, "u3", "nobody:7:0")

    assert len(state.recents[index]) == cap
    assert state.recents[index]["nobody:7:0"] == 3


def _log(directory: Path, records: Sequence[LoggedEvent], *, segment_bytes: int = 300) -> Path:
    with LogWriter(directory, segment_bytes=segment_bytes) as writer:
        writer.append([payload for _, payload in _payloads(records)])
    return directory


def _little_log() -> list[LoggedEvent]:
    device = interaction("d", "click", START_MS, "", "course:c1")
    device.actor.device_id = PHONE
    both = interaction("e", "click", START_MS, "p1.somebodyelsesomebodyelse", "course:c1")
    both.actor.device_id = PHONE
    bought = purchase_event("p", START_MS, 250, ANN, "course:c1")
    bought.rank_id, bought.surface = "01JGGG00000000000000000000", "courses"
    events = [
        device,
        alias_event("a", ANN, PHONE),
        bought,
        both,
        interaction("b", "click", START_MS, "p1.bobbobbobbobbob", "course:c1"),
        erasure_event("x", ANN),
        interaction("n", "click", START_MS, "p1.bobbobbobbobbob", "course:c2"),
    ]
    return [logged(arrival, event, START_MS) for arrival, event in enumerate(events)]


def test_files_keep_their_form_and_lose_the_pseudonym(tmp_path: Path) -> None:
    directory = _log(tmp_path / "log", _little_log())
    (directory / "00000000000000000000-9.torn").write_bytes(b"xx" + ANN.encode() + b"yy")
    sizes = {s.path: s.path.stat().st_size for s in list_segments(directory)}
    assert len(sizes) > 2
    payloads = list(read_log(directory))
    eraser = RecordEraser(DOMAIN, _erasures(payloads), tombstones=True)

    changed = erase_in_log(directory, eraser.erase, logged_arrival, [ANN])

    assert changed == 4
    assert {s.path: s.path.stat().st_size for s in list_segments(directory)} == sizes
    assert search(tmp_path, [ANN.encode()]).found == ()
    after = [LoggedEvent.FromString(payload) for _, payload in read_log(directory)]
    assert [record.arrival for record in after] == list(range(7))
    assert [bool(record.erased) for record in after] == [
        True,
        True,
        True,
        False,
        False,
        True,
        False,
    ]
    assert (after[2].event.type, after[2].event.purchase.amount.amount_minor) == ("purchase", 250)
    gone = ("event_id", "rank_id", "surface")
    assert not any(getattr(after[2].event, name) for name in gone)
    assert not after[2].event.purchase.order_id
    # Another user's event on the phone, which is not to be forgotten itself.
    assert after[3].event.actor.device_id == PHONE
    assert erase_in_log(directory, eraser.erase, logged_arrival, [ANN]) == 0


def test_a_device_stays_named_in_what_is_its_users(tmp_path: Path) -> None:
    records = _little_log()
    again = interaction("f", "click", START_MS, "", "course:c3")
    again.actor.device_id = PHONE
    records[4] = logged(4, again, START_MS)
    records[5] = logged(5, erasure_event("x", device=PHONE), START_MS)
    directory = _log(tmp_path / "log", records)
    eraser = RecordEraser(DOMAIN, _erasures(list(read_log(directory))), tombstones=True)

    erase_in_log(directory, eraser.erase, logged_arrival, [])

    after = [LoggedEvent.FromString(payload) for _, payload in read_log(directory)]
    assert [record.arrival for record in after if record.erased] == [4, 5]


def test_what_is_damaged_is_blotted_out(tmp_path: Path) -> None:
    directory = _log(tmp_path / "log", _little_log(), segment_bytes=1 << 20)
    (segment,) = list_segments(directory)
    data = bytearray(segment.path.read_bytes())
    data[data.index(ANN.encode()) - 3] ^= 0xFF
    segment.path.write_bytes(data)
    eraser = RecordEraser(
        DOMAIN, Erasures([*find_erased(_payloads(_little_log()))]), tombstones=True
    )
    erase_in_log(directory, eraser.erase, logged_arrival, [ANN])
    assert not search(directory, [ANN.encode()]).found
    assert segment.path.stat().st_size == len(data)


def test_the_search_finds_across_chunks(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"." * ((8 << 20) - 5) + ANN.encode() + b"." * 10)
    assert holds(path, [ANN.encode()])
    assert not holds(path, [PHONE.encode()])
    looked = search(tmp_path, [ANN.encode()])
    assert (looked.files, looked.found) == (1, (path,))


@given(st.integers(0, 400))
def test_records_are_filled_up_to_any_length(extra: int) -> None:
    event = interaction("i" * extra, "click", START_MS, ANN, "course:c1")
    records = [logged(0, event, START_MS), logged(1, erasure_event("x", ANN), START_MS)]
    payloads = _payloads(records)
    eraser = RecordEraser(DOMAIN, _erasures(payloads), tombstones=False)
    (_, click), (_, tombstone) = payloads
    assert len(eraser.erase(0, click)) == len(click)
    assert eraser.erase(1, tombstone) == tombstone
