"""Lists of more than a caller takes in one answer come in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cli.experiments.client import RegistryClient
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc, registry_pb2
from services.common.settings import ExperimentSettings
from services.experiment.bootstrap import definitions_of
from tests.integration.experiment.conftest import sqlite_database
from tests.support.experiment_server import ExperimentServer

KEYS = [f"e{number:02}" for number in range(12)]
LONG = "x" * 400_000


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[grpc.Channel]:
    """To a registry of 4.8 MB, from a caller who takes 4 MiB as gRPC does by default."""
    made = ExperimentSettings(
        experiment_database_url=sqlite_database(tmp_path).url,  # type: ignore[arg-type]
        experiment_dir=tmp_path,
    )
    definitions = definitions_of(made)
    server = ExperimentServer(definitions=definitions)
    try:
        with grpc.insecure_channel(server.target) as opened:
            stub = experiment_pb2_grpc.ExperimentServiceStub(opened)
            for keys in (KEYS[:6], KEYS[6:]):
                file = {"experiments": {key: _definition(key) for key in keys}}
                request = registry_pb2.PutDefinitionsRequest(definitions_json=json.dumps(file))
                stub.PutDefinitions(request, wait_for_ready=True, timeout=30)
            yield opened
    finally:
        server.close()
        definitions.close()


def _definition(key: str) -> dict[str, object]:
    return {
        "description": LONG,
        "unit": "user",
        "salt": f"{key}_1",
        "variants": {"a": {"weight": 1}},
    }


def test_every_list_comes_whole_in_parts(channel: grpc.Channel) -> None:
    stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
    listing, in_force = experiment_pb2.ListExperimentsRequest(), []
    while True:
        listed = stub.ListExperiments(listing)
        in_force.append([one.key for one in listed.experiments])
        listing.after_key = listed.next_after_key
        if not listed.next_after_key:
            break
    assert len(in_force) > 1
    assert [key for keys in in_force for key in keys] == KEYS

    client = RegistryClient(channel, "ann", "")
    assert [one.key for one in client.find([])] == KEYS
    everything = json.loads(client.definitions())
    assert [*everything["experiments"]] == KEYS
    assert {one["description"] for one in everything["experiments"].values()} == {LONG}


def test_a_change_between_two_parts_is_seen(
    channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, readings = RegistryClient(channel, "ann", ""), []
    read = client._parts

    def changing() -> list[registry_pb2.GetDefinitionsResponse]:
        parts = read()
        readings.append(len(parts))
        if len(readings) == 1:
            client.switch(killed=True)
            parts = [parts[0], *read()[1:]]
        return parts

    monkeypatch.setattr(client, "_parts", changing)
    assert json.loads(client.definitions())["killed"] is True
    assert readings == [2, 2]
