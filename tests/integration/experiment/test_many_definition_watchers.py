"""Many watchers of the definitions, ours and flagd's, while calls are answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.flagd.evaluation.v2 import evaluation_pb2, evaluation_pb2_grpc
from tests.support.experiment_server import ExperimentServer

WATCHERS, PROVIDERS = 120, 60
PATIENCE_S = 60.0
DEFINITIONS = """\
experiments:
  layout:
    unit: user
    salt: layout_1
    running: true
    revision: 1
    variants: {a: {weight: 0.5}, b: {weight: 0.5}}
"""


def test_every_one_is_told_of_a_change_while_calls_are_answered(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(DEFINITIONS, encoding="utf-8")
    server = ExperimentServer(path)

    async def watching() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            experiments = experiment_pb2_grpc.ExperimentServiceStub(channel)
            flagd = evaluation_pb2_grpc.ServiceStub(channel)
            begun = asyncio.Semaphore(0)

            async def watch() -> int:
                async for step in experiments.WatchExperiments(
                    experiment_pb2.WatchExperimentsRequest()
                ):
                    if step.HasField("snapshot_end"):
                        begun.release()
                    for definition in step.delta.upserts:
                        return definition.revision
                return 0

            async def listen() -> list[str]:
                async for event in flagd.EventStream(evaluation_pb2.EventStreamRequest()):
                    if event.type == "provider_ready":
                        begun.release()
                    if event.type == "configuration_change":
                        return list(event.data["flags"])
                return []

            watchers = [asyncio.create_task(watch()) for _ in range(WATCHERS)]
            providers = [asyncio.create_task(listen()) for _ in range(PROVIDERS)]
            for _ in range(WATCHERS + PROVIDERS):
                await begun.acquire()
            path.write_text(DEFINITIONS.replace("revision: 1", "revision: 2"), encoding="utf-8")
            told = asyncio.gather(*watchers, *providers)
            calls = 0
            while not told.done() or not calls:
                actor = common_pb2.Actor(user_id=f"user-{calls}")
                answer = await experiments.Assign(experiment_pb2.AssignRequest(actor=actor))
                assert [a.experiment_key for a in answer.assignments] == ["layout"]
                calls += 1
            assert await told == [2] * WATCHERS + [["layout"]] * PROVIDERS

    asyncio.run(asyncio.wait_for(watching(), PATIENCE_S))
    server.close()
