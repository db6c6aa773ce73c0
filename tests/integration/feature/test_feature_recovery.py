"""A feature service that is killed loses nothing it accepted, and counts nothing twice."""

from __future__ import annotations

from pathlib import Path

from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.clock import system_clock_ms as now_ms
from services.common.domain import load_domain
from services.common.event_log import LogWriter, read_log
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from tests.support.feature_oracle import Oracle
from tests.support.feature_server import running_service, service_process
from tests.support.feature_streams import (
    interaction,
    logged,
    purchase_event,
    refund_event,
    upsert_event,
)

ROOT = Path(__file__).parents[3]
DOMAIN_FILE = ROOT / "config" / "live_courses.yaml"


def batch(number: int) -> list[Event]:
    events = [
        interaction(f"b{number}-{n}", "click", now_ms() - n, f"ann{n % 5}", f"course:c{n % 3}")
        for n in range(300)
    ]
    bought = purchase_event(f"b{number}-buy", now_ms() - 500, 100, "ann0", "course:c0")
    return [*events, bought, refund_event(f"b{number}-back", now_ms() - 400, 40, bought)]


def test_what_was_acknowledged_survives_a_killed_server(tmp_path: Path) -> None:
    batches = [batch(number) for number in range(4)]
    with service_process(DOMAIN_FILE, tmp_path) as (process, client):
        for events in batches[:3]:
            assert client.ingest(*events).accepted == len(events)
        process.kill()
        process.wait(30)

    with service_process(DOMAIN_FILE, tmp_path) as (_, client):
        again = client.ingest(*batches[2])
        last = client.ingest(*batches[3])
        assert (again.accepted, again.duplicates) == (0, len(batches[2]))
        # The log keeps the duplicates, too.
        assert last.log_position == sum(map(len, batches)) + len(batches[2])
        found = client.get("course", "c0", "c1", "c2", position=last.log_position)
        (ann,) = client.get("user", "ann0")

    log = [LoggedEvent.FromString(data) for _, data in read_log(tmp_path / "log")]
    oracle = Oracle(load_domain(DOMAIN_FILE), log, now_ms(), len(log))
    key = Pseudonymiser.from_text(DEVELOPMENT_KEYS).encrypt("ann0")
    for identity, row in zip(("c0", "c1", "c2"), found, strict=True):
        expected = oracle.features("course", identity)
        assert row["clicks_1d"][0] == expected["clicks_1d"].value == 400
        assert row["purchases_7d"][0] == expected["purchases_7d"].value
    assert ann["user_spend_30d"][0] == oracle.features("user", key)["user_spend_30d"].value == 240


def test_a_log_written_in_bulk_is_applied_before_serving(tmp_path: Path) -> None:
    start_ms = now_ms() - 3_600_000
    events = [
        upsert_event("bulk-c", start_ms, "course:c", title="Bulk"),
        *(
            interaction(f"bulk-{n}", "click", start_ms + n, "p1.someone", "course:c")
            for n in range(20_000)
        ),
    ]
    with LogWriter(tmp_path / "log", segment_bytes=1 << 20) as writer:
        writer.append(
            [
                logged(n, event, event.event_time.ToMilliseconds()).SerializeToString()
                for n, event in enumerate(events)
            ]
        )
    with running_service(DOMAIN_FILE, tmp_path) as running:
        first = running.client.stub.GetFeatures(running.client.request("course", "c"), timeout=10)
        (row,) = running.client.get("course", "c")
        # Ids from the bulk log are known to Ingest.
        response = running.client.ingest(events[0], events[1])

    assert first.log_position == len(events)
    assert row["clicks_1d"] == (20_000, "PRESENT")
    assert row["title"] == ("Bulk", "PRESENT")
    assert response.accepted == 0
    assert response.duplicates == 1
    # Ingest stores a pseudonym of what it takes to be a raw user id: other content.
    assert [rejection.reason for rejection in response.rejections] == ["EVENT_ID_CONFLICT"]
