"""A service that is killed while it backfills goes on with it, and with the same values."""

from __future__ import annotations

from pathlib import Path

from podium.feature.v1 import feature_pb2
from services.common.clock import system_clock_ms as now_ms
from services.common.domain import load_domain
from services.common.event_log import LogWriter
from services.feature.definitions import compile_views
from services.feature.views.documents import documents_of
from services.feature.views.registry import registry_of
from tests.support.eventually import eventually
from tests.support.feature_server import FeatureClient, service_process
from tests.support.feature_streams import interaction, logged
from tests.support.more_features import LIVE_COURSES, domain_file_with

EVENTS = 20_000
ADDED = {
    "comments_30d": {
        "kind": "count",
        "entities": ["course"],
        "events": ["comment"],
        "window": "30d",
    }
}


def test_a_backfill_goes_on_after_kill_9(tmp_path: Path) -> None:
    start_ms = now_ms() - 86_400_000
    with LogWriter(tmp_path / "log") as writer:
        for number in range(EVENTS):
            event = interaction(
                f"e{number}", "comment", start_ms + number, f"p1.u{number % 500}", "course:c"
            )
            record = logged(number, event, start_ms + number)
            writer.append([record.SerializeToString()])
        writer.sync()
    new = load_domain(domain_file_with(tmp_path / "new.yaml", ADDED))
    view = compile_views(new)["course"]

    def listed(client: FeatureClient) -> feature_pb2.ListViewsResponse:
        return client.stub.ListViews(feature_pb2.ListViewsRequest(), timeout=10)

    kills = 0
    with service_process(LIVE_COURSES, tmp_path) as (process, client):
        registry_of(tmp_path / "log").register(d for d in documents_of(new) if d.entity == "course")
        begun = eventually(
            lambda: listed(client).HasField("building") and listed(client), "a backfill", 60
        )
        assert view.hash in {coming.view_hash for coming in begun.building.new_views}
        process.kill()
        process.wait(30)
        kills += 1

    with service_process(LIVE_COURSES, tmp_path) as (_, client):
        # The old view is there at once, the new one once it is filled.
        (before,) = client.get("course", "c")
        assert "comments_30d" not in before
        hashes = lambda: {served.view_hash for served in listed(client).views}  # noqa: E731
        eventually(lambda: view.hash in hashes(), "the new view", 120)
        after = FeatureClient(client.stub, compile_views(new))
        (row,) = after.get("course", "c")
    assert kills == 1
    assert row["comments_30d"] == (EVENTS, "PRESENT")
