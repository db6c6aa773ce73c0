"""Whatever keys a log has its pseudonyms under, a store has what it would have under one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.erasure import ErasureJob
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.errors import Unavailable
from services.common.event_log import LogWriter, read_log
from services.common.pseudonym import KEY_BYTES, Pseudonymiser
from services.feature.applying.apply import Applier
from services.feature.convert.ingest import StoredEvent
from services.feature.convert.records import RecordDecoder
from services.feature.definitions import remembered_days
from services.feature.store.embedded import EmbeddedStore
from tests.support.alias_streams import (
    alias_event,
    aliased_streams,
    erasure_event,
    pairs_domain,
)
from tests.support.event_streams import write_log
from tests.support.feature_streams import START_MS, interaction, logged

DOMAIN = pairs_domain()
KEYS = {1: b"1" * KEY_BYTES, 2: b"2" * KEY_BYTES}
NAMES = {version: Pseudonymiser(KEYS, version) for version in KEYS}


def _under(record: LoggedEvent, version: int) -> LoggedEvent:
    """The record with its ids as pseudonyms under a key."""
    found = LoggedEvent.FromString(record.SerializeToString())
    if found.event.HasField("actor"):
        actor = found.event.actor
        actor.user_id = NAMES[version].encrypt(actor.user_id)
        actor.device_id = NAMES[version].encrypt(actor.device_id)
    return found


def _stored(
    records: Sequence[LoggedEvent], translate: Callable[[str], str] | None
) -> Mapping[str, object]:
    """Everything that a store holds once the records are applied."""
    with tempfile.TemporaryDirectory() as directory:
        log = write_log(Path(directory) / "log", list(records))
        store = EmbeddedStore(Path(directory) / "store")
        try:
            applier = Applier(DOMAIN, store, lambda: START_MS, translate)
            applier.prepare(log)
            applier.apply(list(read_log(log)))
            with store.read() as view:
                event_ids = [record.event.event_id for record in records]
                return {
                    "states": {
                        kind: dict(view.states(kind)) for kind in ("user", "likes", "course")
                    },
                    "events": view.fingerprints(event_ids, remembered_days(START_MS)),
                    "known by": view.last_record(),
                }
        finally:
            store.close()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(stream=aliased_streams(erased=True), data=st.data())
def test_a_store_keeps_to_its_key(stream: list[LoggedEvent], data: st.DataObject) -> None:
    versions = [data.draw(st.sampled_from((1, 2))) for _ in stream]
    mixed = [_under(record, version) for record, version in zip(stream, versions, strict=True)]
    wanted = data.draw(st.sampled_from((1, 2)))

    found = _stored(mixed, NAMES[wanted].translate)

    assert found == _stored([_under(record, wanted) for record in stream], None)
    assert f"p{3 - wanted}." not in repr(found)


def test_an_event_is_known_under_either_key() -> None:
    events = {
        v: _under(logged(0, interaction("e", "click", START_MS, "ann"), START_MS), v).event
        for v in KEYS
    }
    translations = [NAMES[1].translate]
    again = StoredEvent(0, events[2], "", too_late=False, translations=translations)
    before = StoredEvent(0, events[1], "", too_late=False)
    other = _under(logged(0, interaction("e", "click", START_MS, "bob"), START_MS), 1).event
    assert again.fingerprint != before.fingerprint
    assert again.is_known_by(before.fingerprint)
    assert again.is_known_by(again.fingerprint)
    assert not again.is_known_by(StoredEvent(0, other, "", too_late=False).fingerprint)
    assert not before.is_known_by(again.fingerprint)


def test_applying_waits_for_a_key_that_is_missing() -> None:
    record = _under(logged(0, interaction("e", "click", START_MS, "ann"), START_MS), 1)
    only_new = Pseudonymiser({2: KEYS[2]}, 2)
    with pytest.raises(Unavailable, match=r"record 0: .* no key of version 1") as raised:
        RecordDecoder(DOMAIN, only_new.translate).decode(0, record.SerializeToString())
    assert raised.value.reason == "PSEUDONYM_KEY_MISSING"


def test_who_is_erased_is_found_under_every_key(tmp_path: Path) -> None:
    events = [
        interaction("e0", "click", START_MS, "", "course:c1"),
        interaction("e1", "click", START_MS, "ann", "course:c1"),
        alias_event("e2", "ann", "phone"),
        interaction("e3", "click", START_MS, "bob", "course:c1"),
        erasure_event("e4", "ann"),
    ]
    events[0].actor.device_id = "phone"
    versions = (1, 1, 2, 1, 2)
    with LogWriter(tmp_path / "log") as writer:
        for number, (event, version) in enumerate(zip(events, versions, strict=True)):
            record = _under(logged(number, event, START_MS + number), version)
            writer.append([record.SerializeToString()])
        writer.sync()
    job = ErasureJob(DOMAIN, tmp_path / "log", None, NAMES[2])
    assert job.erase_records() == 3
    left = [LoggedEvent.FromString(payload).event for _, payload in read_log(tmp_path / "log")]
    assert [bool(event.event_id) for event in left] == [False, False, False, True, True]
