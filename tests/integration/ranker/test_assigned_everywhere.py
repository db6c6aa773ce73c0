"""Ten thousand visitors and many definitions: whoever decides, it is the same, reasons included.

Each decides from the messages that it gets: what a Rank request is decided by, Assign and flagd's
methods are called in process, for speed; a few hundred visitors are asked for over the wire, too.
What is expected is what offline commands are told by the definitions, from plain values.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

import grpc
from google.protobuf import struct_pb2

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.flagd.evaluation.v2 import evaluation_pb2, evaluation_pb2_grpc
from podium.ranker.v1 import ranker_pb2
from services.common.assign.assign import (
    Assignment,
    Context,
    Definitions,
    Reason,
    assign,
    evaluate,
    units_of,
)
from services.common.assign.canonical import definitions_of, items_of
from services.common.assign.model import ENTITY_UNITS
from services.common.clock import system_clock_ms
from services.common.convert_assignment import assignment_message
from services.common.yaml_config import yaml_text
from services.experiment.flagd.convert import V2
from services.experiment.flagd.servicer import FlagdServicer
from services.experiment.servicer import ExperimentServicer
from services.experiment.source import InForce
from services.ranker.convert.rank import rank_command
from services.ranker.definitions.assigning import assigned_to
from tests.integration.ranker.conftest import make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.experiment_server import ExperimentServer
from tests.support.experiment_worlds import Visitor, definitions_of_file, file_of, visitor
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService

WORLDS, VISITORS, WIRED = 50, 200, 200
NO_CALL: Any = None
NEVER = {
    # Nobody forces or keeps anything here, and nothing is of a later version.
    Reason.FORCED,
    Reason.STICKY,
    Reason.STICKY_BLOCKED,
    Reason.UNSUPPORTED,
}
NOW_MS = 1_800_000_000_000

Assigned = list[common_pb2.Assignment]


def _offline(definitions: Definitions, who: Visitor, now_ms: int) -> list[Assignment]:
    units = units_of(who.user_id, who.device_id)
    return assign(definitions, units, attributes=_attributes(who), now_ms=now_ms)


def _with_documents(definitions: Definitions, who: Visitor, now_ms: int) -> list[Assignment]:
    """The same of a visitor who may keep variants and has none yet, as Rank sees everybody."""
    units = units_of(who.user_id, who.device_id)
    context = Context(units, _attributes(who), {}, {}, now_ms)
    return evaluate(definitions, context).assignments


def _messages(assignments: list[Assignment]) -> Assigned:
    return [assignment_message(assignment) for assignment in assignments]


def _attributes(who: Visitor) -> dict[str, Any]:
    return {"locale": who.locale, "region": who.region, **who.attributes}


def _actor(who: Visitor) -> common_pb2.Actor:
    return common_pb2.Actor(user_id=who.user_id, device_id=who.device_id)


def _context(who: Visitor) -> common_pb2.RequestContext:
    context = common_pb2.RequestContext(locale=who.locale, region=who.region)
    for name, value in who.attributes.items():
        attribute = context.attributes[name]
        match value:
            case bool():
                attribute.bool_value = value
            case str():
                attribute.string_value = value
            case int():
                attribute.int_value = value
            case float():
                attribute.double_value = value
            case _:
                attribute.string_list_value.values.extend(value)
    return context


def _assign_request(who: Visitor) -> experiment_pb2.AssignRequest:
    attributes = struct_pb2.Struct()
    attributes.update(_attributes(who))
    context = experiment_pb2.EvaluationContext(attributes=attributes)
    return experiment_pb2.AssignRequest(actor=_actor(who), context=context)


def _flagd_context(who: Visitor, request: experiment_pb2.AssignRequest) -> struct_pb2.Struct:
    context = struct_pb2.Struct()
    context.CopyFrom(request.context.attributes)
    context.update({"targetingKey": who.user_id, "device": who.device_id})
    return context


def _ranked(definitions: Definitions, who: Visitor) -> list[Assignment]:
    """What Rank's request is decided by."""
    sent = ranker_pb2.RankRequest(actor=_actor(who), surface="home", context=_context(who))
    command = rank_command(ranker_pb2.RankRequest.FromString(sent.SerializeToString()), ["home"])
    return assigned_to(command, definitions, NOW_MS).assignments


def _visitors_only(assignments: list[Assignment]) -> list[Assignment]:
    """Without those of hosts, which Rank keeps beside the catalogue."""
    return [a for a in assignments if a.unit_type not in ENTITY_UNITS]


def _in_force(definitions: Definitions) -> Any:
    class Source:
        def current(self) -> InForce:
            return InForce(definitions, NOW_MS)

    return Source()


def _told(flag: Any) -> tuple[object, ...]:
    """Experiment, variant, reason and bucket of a flag."""
    metadata = flag.metadata.fields
    assert metadata["variant_key"].string_value == flag.variant
    return (
        metadata["experiment_key"].string_value,
        flag.variant,
        metadata["assignment_reason"].string_value,
        metadata["bucket"].number_value if "bucket" in metadata else None,
    )


def _as_told(a: Assignment) -> tuple[object, ...]:
    return a.experiment_key, a.variant_key, a.reason.name, a.bucket


def _units(response: experiment_pb2.AssignBatchResponse) -> Iterator[Assigned]:
    """The assignments of each unit of a batch."""
    columns, at = response.assignments, 0
    others = columns.other_variant_keys or [0] * len(columns.reasons)
    for count in columns.counts:
        yield [
            common_pb2.Assignment(
                experiment_key=columns.texts[columns.experiment_keys[row]],
                variant_key=columns.texts[columns.variant_keys[row]],
                reason=columns.reasons[row],
                bucket=None if columns.buckets[row] < 0 else columns.buckets[row],
                unit_type=columns.texts[columns.unit_types[row]],
                revision=columns.revisions[row],
                other_variant_key=columns.texts[others[row]],
            )
            for row in range(at, at + count)
        ]
        at += count


def test_ten_thousand_visitors_are_in_the_same_everywhere() -> None:
    reasons: Counter[Reason] = Counter()

    async def held(draw: Random) -> None:
        definitions = definitions_of_file(file_of(draw, count=4))
        # What watchers are told, from which the ranker decides, is the same.
        watched = definitions_of(items_of(definitions).values())
        source = _in_force(definitions)
        service = ExperimentServicer(source, cast(Any, None), lambda: NOW_MS)
        flagd = FlagdServicer(V2, source, cast(Any, None), lambda: NOW_MS)
        keys = sorted(definitions.experiments)
        visitors = [visitor(draw) for _ in range(VISITORS)]
        requests = [_assign_request(who) for who in visitors]
        units = [experiment_pb2.BatchUnit(actor=r.actor, context=r.context) for r in requests]
        batch = await service.AssignBatch(experiment_pb2.AssignBatchRequest(units=units), NO_CALL)
        for who, request, batched in zip(visitors, requests, _units(batch), strict=True):
            expected = _offline(definitions, who, NOW_MS)
            reasons.update(a.reason for a in expected)
            documented = _with_documents(definitions, who, NOW_MS)
            assert _ranked(watched, who) == _visitors_only(documented)
            answer = await service.Assign(request, NO_CALL)
            assert [*answer.assignments] == _messages(expected) == batched
            context, key = _flagd_context(who, request), draw.choice(keys)
            asked = evaluation_pb2.ResolveStringRequest(flag_key=key, context=context)
            found = await flagd.ResolveString(asked, NO_CALL)
            assert found.HasField("value") == bool(found.variant)
            told = [_as_told(a) for a in expected if a.experiment_key == key]
            # Only Resolve is asked for what is not running.
            assert [_told(found)] == told or (not told and found.reason == "DISABLED")
        everything = evaluation_pb2.ResolveAllRequest(context=context)
        _hold_flags(await flagd.ResolveAll(everything, NO_CALL), expected)

    for seed in range(WORLDS):
        asyncio.run(held(Random(seed)))
    assert set(reasons) == set(Reason) - NEVER


def _hold_flags(found: evaluation_pb2.ResolveAllResponse, expected: list[Assignment]) -> None:
    """All flags at once: the variants that there are, those of experiments in flags, too."""
    told = {}
    for flag in found.flags.values():
        if flag.reason == "SPLIT":
            found_there = _told(flag)
            told[found_there[0]] = found_there
    assert told == {a.experiment_key: _as_told(a) for a in expected if a.variant_key}


def test_a_few_hundred_are_in_the_same_over_the_wire(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    draw = Random(7)
    content = file_of(draw, count=6)
    definitions = definitions_of_file(content)
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml_text(content), encoding="utf-8")
    service = ExperimentServer(path)
    settings = make_settings(
        tmp_path, tiny_bundles, feature_server.target, experiment_target=service.target
    )
    with (
        running_ranker(settings, features) as ranker,
        grpc.insecure_channel(service.target) as channel,
    ):
        eventually(lambda: [*ranker.rank().assignments], "the definitions")
        experiments = experiment_pb2_grpc.ExperimentServiceStub(channel)
        flagd = evaluation_pb2_grpc.ServiceStub(channel)
        for _ in range(WIRED):
            who = visitor(draw)
            expected = _offline(definitions, who, system_clock_ms())
            ranked = ranker.rank(actor=_actor(who), context=_context(who), k=1)
            documented = _with_documents(definitions, who, system_clock_ms())
            assert [*ranked.assignments] == _messages(_visitors_only(documented))
            request = _assign_request(who)
            assert [*experiments.Assign(request).assignments] == _messages(expected)
            request.context.sticky_documents.SetInParent()
            assert [*experiments.Assign(request).assignments] == _messages(documented)
            everything = evaluation_pb2.ResolveAllRequest(context=_flagd_context(who, request))
            _hold_flags(flagd.ResolveAll(everything), expected)
    service.close()
