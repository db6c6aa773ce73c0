"""What the ranker was served is what the offline tables say: ``podium features diff``."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import typer
from typer.testing import CliRunner

from cli import features
from offline.dataset.served import served_rows
from offline.dataset.skew import skew_of_users
from podium.common.v1 import common_pb2
from services.common.domain import load_domain
from services.feature.definitions import compile_views
from services.feature.views.registry import registry_of
from tests.integration.ranker.conftest import make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureService
from tests.support.feature_server import running_service
from tests.support.feature_streams import interaction, purchase_event, refund_event, upsert_event
from tests.support.more_features import LIVE_COURSES
from tests.support.tiny_bundle import make_tiny_bundle

USERS = [f"user_{number}" for number in range(4)]


def test_what_was_served_is_what_the_offline_tables_say(tmp_path: Path) -> None:
    domain = load_domain(LIVE_COURSES)
    courses = {f"c{n}": {"title": f"Course {n}"} for n in range(8)}
    make_tiny_bundle(tmp_path / "bundles", domain, {"course": courses, "host": {}}, seed=1)
    unused = FakeFeatureService(domain, {}, {})
    with running_service(LIVE_COURSES, tmp_path / "features") as running:
        log_dir = running.files.log_dir
        now_ms = time.time_ns() // 1_000_000
        running.client.ingest(
            *(upsert_event(f"up-{n}", now_ms, f"course:{n}", **said) for n, said in courses.items())
        )
        settings = make_settings(
            tmp_path / "ranker",
            tmp_path / "bundles",
            f"127.0.0.1:{running.port}",
            logged_feature_share=1.0,
        )
        with running_ranker(settings, unused) as ranker:
            eventually(lambda: ranker.rank("courses").slate.ids, "a catalogue")
            for number in range(12):
                now_ms = time.time_ns() // 1_000_000
                user = USERS[number % len(USERS)]
                bought = purchase_event(f"p{number}", now_ms - 9, 500, user, "course:c1")
                running.client.ingest(
                    interaction(f"e{number}", "click", now_ms - 5, user, f"course:c{number % 8}"),
                    interaction(f"w{number}", "watch", now_ms - 90_000, user, "course:c2"),
                    bought,
                    *([refund_event(f"r{number}", now_ms, 500, bought)] if number % 3 else []),
                )
                ranker.rank("courses", actor=common_pb2.Actor(user_id=user))
            rows = eventually(
                lambda: len(found := list(served_rows(log_dir))) > 12 and found, "logged slates"
            )

    app = typer.Typer(pretty_exceptions_enable=False)
    features.register(app)
    arguments = ["features", "diff", "--log", str(log_dir), "--domain", str(LIVE_COURSES)]
    plain = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert plain.exit_code == 0, plain.output
    assert "0 differ" in plain.output
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    # The log of what was served holds no vectors, such as the numbers beside a list of pairs.
    view = compile_views(domain)["user"]
    names = {feature.name for feature in view.features if feature.dtype != "vector"}
    assert {feature["feature"] for feature in report["features"]} == names
    assert report["compared"] == len(names) * report["slates"]
    assert report["differing"] == 0

    # The registered document alone defines the view as well; and skew is seen.
    documents = {d.hash: d.as_domain() for d in registry_of(log_dir).documents()}
    wrong = dict(rows[-1].values) | {"user_clicks_7d": rows[-1].values["user_clicks_7d"] + 2}
    skews = skew_of_users(log_dir, documents, [*rows[:-1], replace(rows[-1], values=wrong)])
    (skewed,) = (skew for skew in skews if skew.differing)
    assert (skewed.feature, skewed.differing) == ("user_clicks_7d", 1)
    assert skewed.largest_difference == 2
    assert skewed.first_rank_id == rows[-1].rank_id
