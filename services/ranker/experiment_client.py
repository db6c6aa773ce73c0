"""Calls the experiment service: the watch of the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import grpc

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from services.common.status import error_from_rpc
from services.ranker.convert.definitions import definitions_message
from services.ranker.definitions.replica import DefinitionsMessage


class _Responses(Protocol):
    """What a stream's call offers; gRPC has no public name for it."""

    def __iter__(self) -> Iterator[experiment_pb2.WatchExperimentsResponse]: ...

    def cancel(self) -> bool: ...


class ExperimentClient:
    """One channel to the experiment service."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = experiment_pb2_grpc.ExperimentServiceStub(channel)

    def watch(self, resume_token: bytes) -> _Watch:
        """Opens the definitions' watch."""
        request = experiment_pb2.WatchExperimentsRequest(resume_token=resume_token)
        return _Watch(self._stub.WatchExperiments(request))


class _Watch:
    """An open stream."""

    def __init__(self, call: _Responses) -> None:
        self._call = call

    def __iter__(self) -> Iterator[DefinitionsMessage]:
        try:
            for message in self._call:
                yield definitions_message(message)
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error

    def cancel(self) -> None:
        """Ends the stream."""
        self._call.cancel()
