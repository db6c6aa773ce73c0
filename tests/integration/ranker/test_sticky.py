"""Sticky variants from end to end: Rank gives, the log tells, the user's row keeps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import grpc
from google.protobuf import struct_pb2

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.domain import Domain
from services.feature.definitions import compile_views
from tests.integration.ranker.conftest import make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.experiment_server import ExperimentServer
from tests.support.fake_features import FakeFeatureService

EXPERIMENTS = """\
experiments:
  e:
    unit: user
    salt: e_1
    running: {running}
    revision: {revision}
    sticky: {{fallback_unit: device}}
    variants: {{old: {{weight: {old}}}, new: {{weight: {new}, objective_weights: {{watch: 0.4}}}}}}
"""
STICKY, SPLIT = common_pb2.ASSIGNMENT_REASON_STICKY, common_pb2.ASSIGNMENT_REASON_SPLIT
ENTRY = "e__0"
ANN, DORA = common_pb2.Actor(user_id="ann"), common_pb2.Actor(user_id="dora")
PHONE = common_pb2.Actor(device_id="phone")


def _course(number: int) -> event_pb2.Event:
    upsert = event_pb2.EntityUpsert(seats_left=5)
    upsert.attributes["title"].string_value = f"Course {number}"
    event = event_pb2.Event(event_id=f"course-{number}", type="entity_upsert", entity_upsert=upsert)
    event.entities.add(type="course", id=f"course_{number}")
    event.event_time.FromMilliseconds(time.time_ns() // 1_000_000)
    return event


def test_a_variant_is_kept_through_the_row_until_it_is_forgotten(
    tmp_path: Path, tiny_bundles: Path, domain: Domain, feature_target: str
) -> None:
    path = tmp_path / "experiments.yaml"

    def define(*, running: bool, revision: int, old: float) -> None:
        text = EXPERIMENTS.format(
            running=str(running).lower(), revision=revision, old=old, new=1 - old
        )
        path.write_text(text, encoding="utf-8")

    define(running=True, revision=1, old=1)
    service = ExperimentServer(path)
    settings = make_settings(
        tmp_path, tiny_bundles, feature_target, experiment_target=service.target
    )
    unused = FakeFeatureService(domain, {}, {})
    view = compile_views(domain)["user"]
    with (
        grpc.insecure_channel(feature_target) as to_features,
        grpc.insecure_channel(service.target) as to_experiments,
        running_ranker(settings, unused) as ranker,
    ):
        features = feature_pb2_grpc.FeatureServiceStub(to_features)
        experiments = experiment_pb2_grpc.ExperimentServiceStub(to_experiments)
        features.Ingest(feature_pb2.IngestRequest(events=[_course(0), _course(1)]), timeout=20)

        def ranked(actor: common_pb2.Actor, **fields: object) -> tuple[str, int]:
            (assigned,) = ranker.rank(actor=actor, **fields).assignments
            return assigned.variant_key, assigned.reason

        def kept(*ids: str) -> list[Mapping[str, str]]:
            request = feature_pb2.GetFeaturesRequest(
                entity_type="user",
                ids=["nobody"],
                view_name=view.name,
                view_hash=view.hash,
                sticky_ids=ids,
            )
            return [dict(s.assignments) for s in features.GetFeatures(request, timeout=20).sticky]

        def in_force(revision: int) -> None:
            def watched() -> bool:
                definitions = ranker.rank(actor=ANN, dry_run=True).assignments
                told = experiments.ListExperiments(experiment_pb2.ListExperimentsRequest())
                revisions = [e.revision for e in told.experiments] + [
                    a.revision for a in definitions
                ]
                return set(revisions) == {revision}

            eventually(watched)

        in_force(1)
        first = ranker.rank(actor=ANN)
        (change,) = first.sticky_changes
        assert (change.unit_type, change.unit_id) == ("user", "ann")
        assert dict(change.assignments) == {ENTRY: "old"}
        assert ranked(PHONE) == ("old", SPLIT)
        assert ranked(common_pb2.Actor(user_id="t"), forced_variants={"e": "new"})[0] == "new"
        eventually(lambda: kept("ann", "device:phone") == [{ENTRY: "old"}, {ENTRY: "old"}])
        # Dry runs, and what is not live, keep nothing.
        quiet = common_pb2.Actor(user_id="quiet")
        assert ranker.rank(actor=quiet, dry_run=True).sticky_changes
        ranker.rank(actor=quiet, traffic_class=common_pb2.TRAFFIC_CLASS_LOAD)

        define(running=False, revision=2, old=1)
        eventually(lambda: not ranker.rank(actor=ANN, dry_run=True).assignments)
        define(running=True, revision=3, old=0)
        in_force(3)
        again = ranker.rank(actor=ANN)
        assert [(a.variant_key, a.reason) for a in again.assignments] == [("old", STICKY)]
        assert not again.sticky_changes
        assert ranked(PHONE) == ("old", STICKY)
        assert ranked(quiet) == ("new", SPLIT)
        # What the request says counts before what is stored.
        context = experiment_pb2.EvaluationContext(attributes=struct_pb2.Struct())
        context.sticky_documents.documents.add(
            unit_type="user", unit_id="ann", assignments={ENTRY: "new"}
        )
        assert ranked(ANN, evaluation_context=context) == ("new", STICKY)
        assert ranked(ANN) == ("old", STICKY)

        # Assign has only what it is told.
        def assigned(context: experiment_pb2.EvaluationContext | None) -> str:
            request = experiment_pb2.AssignRequest(actor=ANN, context=context)
            return experiments.Assign(request, timeout=20).assignments[0].variant_key

        told = experiment_pb2.StickyDocuments(documents=first.sticky_changes)
        assert assigned(None) == "new"
        assert assigned(experiment_pb2.EvaluationContext(sticky_documents=told)) == "old"

        # The phone turns out to be dora's, who keeps what it was given.
        alias = feature_pb2.AliasRequest(
            event_id="alias",
            actor=common_pb2.Actor(user_id="dora", device_id="phone"),
        )
        features.Alias(alias, timeout=20)
        eventually(lambda: kept("dora", "device:phone") == [{ENTRY: "old"}, {}])
        assert ranked(DORA) == ("old", STICKY)

        features.EraseUser(feature_pb2.EraseUserRequest(event_id="erase", actor=ANN), timeout=20)
        eventually(lambda: kept("ann", "dora") == [{}, {ENTRY: "old"}])
        assert ranked(ANN) == ("new", SPLIT)
    service.close()
