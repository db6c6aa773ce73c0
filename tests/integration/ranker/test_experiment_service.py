"""A ranker decides by the experiment service's definitions, and by the last when it is gone."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import struct_pb2

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.ranker.v1 import ranker_pb2
from services.common.errors import InvalidArgument
from services.common.status import error_from_rpc
from tests.integration.ranker.conftest import Ranker, make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.experiment_server import ExperimentServer
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService

EXPERIMENTS = """\
experiments:
  weights:
    unit: user
    salt: weights_1
    running: true
    revision: 1
    condition: {plan: pro}
    sticky: {fallback_unit: device}
    variants: {control: {weight: 0.5}, other: {weight: 0.5, objective_weights: {watch: 0.4}}}
"""
PRO = common_pb2.RequestContext(attributes={"plan": common_pb2.AttributeValue(string_value="pro")})
GONE = ranker_pb2.Degradation.PART_EXPERIMENTS


def _revisions(ranker: Ranker) -> list[tuple[str, int]]:
    response = ranker.rank(context=PRO)
    assert response.slate.ids
    return [(a.experiment_key, a.revision) for a in response.assignments if a.variant_key]


def _degraded(ranker: Ranker) -> ranker_pb2.Degradation | None:
    degraded = ranker.rank(context=PRO).degraded
    return next((d for d in degraded if d.part == GONE), None)


def test_definitions_are_watched_and_outlive_the_service_and_a_restart(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(EXPERIMENTS, encoding="utf-8")
    service = ExperimentServer(path)
    settings = make_settings(
        tmp_path,
        tiny_bundles,
        feature_server.target,
        experiment_target=service.target,
        definitions_stale_seconds=3.0,
    )
    with running_ranker(settings, features) as ranker:
        eventually(lambda: _revisions(ranker) == [("weights", 1)], "the definitions")
        assert _degraded(ranker) is None
        assert not [a for a in ranker.rank().assignments if a.variant_key]
        with grpc.insecure_channel(service.target) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            told = stub.Assign(
                experiment_pb2.AssignRequest(
                    actor=common_pb2.Actor(user_id="ann"),
                    context={"attributes": {"plan": "pro"}},
                )
            )
        (ranked,) = ranker.rank(context=PRO).assignments
        assert [*told.assignments] == [ranked]
        path.write_text(EXPERIMENTS.replace("revision: 1", "revision: 2"), encoding="utf-8")
        eventually(lambda: _revisions(ranker) == [("weights", 2)], "the change")
        service.close()
        found = eventually(lambda: _degraded(ranker), "an answer that says so")
        assert found.reason == ranker_pb2.Degradation.REASON_STALE
        assert found.age_ms >= 3_000
        assert _revisions(ranker) == [("weights", 2)]
    feature_server.close()
    with running_ranker(settings, features) as again:
        assert _revisions(again) == [("weights", 2)]
        assert _degraded(again) is not None


def test_without_a_copy_and_the_service_nobody_is_in_an_experiment(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    settings = make_settings(
        tmp_path, tiny_bundles, feature_server.target, experiment_target="127.0.0.1:1"
    )
    with running_ranker(settings, features) as ranker:
        assert _revisions(ranker) == []
        found = _degraded(ranker)
        assert found is not None
        assert found.reason == ranker_pb2.Degradation.REASON_UNAVAILABLE


def test_assign_takes_a_context_and_tells_what_to_keep(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(EXPERIMENTS, encoding="utf-8")
    service = ExperimentServer(path)
    try:
        with grpc.insecure_channel(service.target) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            attributes = struct_pb2.Struct()
            attributes.update({"plan": "pro"})
            context = experiment_pb2.EvaluationContext(
                units={"device": "d"},
                attributes=attributes,
                sticky_documents=experiment_pb2.StickyDocuments(),
            )
            first = stub.Assign(experiment_pb2.AssignRequest(context=context))
            (given,) = first.assignments
            (kept,) = first.sticky_changes
            assert (kept.unit_type, kept.unit_id) == ("device", "d")
            assert dict(kept.assignments) == {"weights__0": given.variant_key}
            context.sticky_documents.documents.append(kept)
            again = stub.Assign(experiment_pb2.AssignRequest(context=context))
            assert again.assignments[0].reason == common_pb2.ASSIGNMENT_REASON_STICKY
            assert not again.sticky_changes
            for wrong, message in (
                (experiment_pb2.EvaluationContext(), "user_id or a device_id"),
                (experiment_pb2.EvaluationContext(units={"planet": "x"}), "'planet' is not one"),
                (experiment_pb2.EvaluationContext(units={"host": ""}), "context.units.host"),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    stub.Assign(experiment_pb2.AssignRequest(context=wrong))
                error = error_from_rpc(refused.value)
                assert isinstance(error, InvalidArgument)
                assert message in str(error)
    finally:
        service.close()


def test_a_batch_decides_by_each_ones_context_as_rank_does(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(EXPERIMENTS, encoding="utf-8")
    actors = [common_pb2.Actor(user_id=f"u{n}") for n in range(6)]
    contexts = []
    for number, actor in enumerate(actors):
        context = experiment_pb2.EvaluationContext()
        context.attributes.update({"plan": "pro" if number % 2 else "free"})
        if number > 3:
            kept = {"weights__0": "control" if number == 4 else "other"}
            documents = context.sticky_documents.documents
            documents.add(unit_type="user", unit_id=actor.user_id, assignments=kept)
        contexts.append(context)
    settings = make_settings(tmp_path, tiny_bundles, feature_server.target, experiments_file=path)
    with running_ranker(settings, features) as ranker:
        asked = ranker_pb2.RankBatchRequest(
            actors=actors, surface="courses", dry_run=True, evaluation_contexts=contexts
        )
        results = ranker.stub.RankBatch(asked, timeout=20).results
        reasons = []
        for actor, context, result in zip(actors, contexts, results, strict=True):
            alone = ranker.rank(actor=actor, evaluation_context=context, dry_run=True)
            assert [*result.ranked.assignments] == [*alone.assignments]
            assert [*result.ranked.sticky_changes] == [*alone.sticky_changes]
            reasons.append(result.ranked.assignments[0].reason)
    split, sticky = common_pb2.ASSIGNMENT_REASON_SPLIT, common_pb2.ASSIGNMENT_REASON_STICKY
    out = common_pb2.ASSIGNMENT_REASON_NOT_TARGETED
    assert reasons == [out, split, out, split, sticky, sticky]
