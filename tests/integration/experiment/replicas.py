"""A replica of the experiment service over a registry."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc, registry_pb2
from services.common.channels import open_channel
from services.common.settings import ExperimentSettings
from services.experiment.bootstrap import definitions_of
from tests.integration.experiment.conftest import Database
from tests.support.experiment_server import ExperimentServer

DEFINITION = {
    "unit": "user",
    "salt": "banner_1",
    "coverage": 0.5,
    "variants": {"a": {"weight": 0.5}, "b": {"weight": 0.5}},
}
USERS = [f"user-{number}" for number in range(50)]
Stub = experiment_pb2_grpc.ExperimentServiceStub


class Replica:
    """One replica over a database, with its own directory."""

    def __init__(self, database: Database, directory: Path, **settings: object) -> None:
        made = ExperimentSettings(
            experiment_database_url=database.url,  # type: ignore[arg-type]
            experiment_dir=directory,
            **settings,  # type: ignore[arg-type]
        )
        self._definitions = definitions_of(made)
        self.server = ExperimentServer(definitions=self._definitions)
        self.channel = open_channel(self.server.target, retries=False)
        grpc.channel_ready_future(self.channel).result(timeout=30)
        self.stub = Stub(self.channel)
        self._closed = False

    def close(self) -> None:
        """Drains and ends."""
        if not self._closed:
            self.channel.close()
            self.server.close()
            self._definitions.close()
        self._closed = True

    def gauge(self, name: str) -> float | None:
        """What a metric says."""
        return self.server.registry.get_sample_value(name)

    def health(self, service: str) -> int:
        """What a health check says of a part."""
        asked = health_pb2.HealthCheckRequest(service=service)
        return int(health_pb2_grpc.HealthStub(self.channel).Check(asked).status)

    def variants(self) -> dict[str, str]:
        """The variant of every user who is asked about."""
        found = {}
        for user in USERS:
            context = experiment_pb2.EvaluationContext(units={"user": user})
            answer = self.stub.Assign(experiment_pb2.AssignRequest(context=context))
            for assignment in answer.assignments:
                found[user] = assignment.variant_key
        return found


def create_banner(stub: Stub, **metadata: str) -> registry_pb2.ExperimentRecord:
    """Makes the draft ``banner``."""
    request = registry_pb2.CreateExperimentRequest(
        key="banner", definition_json=json.dumps(DEFINITION)
    )
    return stub.CreateExperiment(request, metadata=[*metadata.items()]).experiment
