"""Calls to the three services, as an app backend would make them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from services.common.convert_feature_block import block_columns
from services.common.domain import Domain
from services.common.errors import Unavailable
from services.feature.definitions import compile_views

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Targets:
    """Where the services listen, as host:port."""

    feature: str
    ranker: str
    experiment: str


class Client:
    """One channel a service. Use as a context manager."""

    def __init__(self, domain: Domain, targets: Targets) -> None:
        self._views = compile_views(domain)
        self._channels = [
            grpc.insecure_channel(target)
            for target in (targets.feature, targets.ranker, targets.experiment)
        ]
        self._feature = feature_pb2_grpc.FeatureServiceStub(self._channels[0])
        self._ranker = ranker_pb2_grpc.RankerServiceStub(self._channels[1])
        self._experiment = experiment_pb2_grpc.ExperimentServiceStub(self._channels[2])

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            channel.close()

    def rank(self, actor: common_pb2.Actor, surface: str, k: int) -> ranker_pb2.RankResponse:
        """One slate."""
        context = common_pb2.RequestContext(locale="en-US", device_type="phone")
        request = ranker_pb2.RankRequest(actor=actor, surface=surface, k=k, context=context)
        return self._ranker.Rank(request, timeout=TIMEOUT_SECONDS)

    def assign(self, actor: common_pb2.Actor) -> experiment_pb2.AssignResponse:
        """Variants, as the experiment service sees them."""
        request = experiment_pb2.AssignRequest(actor=actor)
        return self._experiment.Assign(request, timeout=TIMEOUT_SECONDS)

    def ingest(self, events: Sequence[event_pb2.Event]) -> int:
        """Sends events; returns the log position after them. Raises ``Unavailable`` if refused."""
        position = 0
        for start in range(0, len(events), 500):
            request = feature_pb2.IngestRequest(events=events[start : start + 500])
            response = self._feature.Ingest(request, timeout=TIMEOUT_SECONDS)
            if response.rejections:
                raise Unavailable(f"an event was refused: {response.rejections[0].message}")
            position = response.log_position
        return position

    def features(self, entity: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """One dict a row: feature name to value, defaults where there is none."""
        return self._get(entity, ids)[0] if ids else []

    def wait_applied(self, position: int) -> float:
        """Waits until features hold the log up to ``position``; returns the seconds it took."""
        started = time.monotonic()
        while time.monotonic() - started < 30:
            if self._get("user", ["anybody"])[1] >= position:
                return time.monotonic() - started
            time.sleep(0.02)
        raise Unavailable(f"the log was not applied up to {position} within 30 seconds")

    def _get(self, entity: str, ids: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
        view = self._views[entity]
        request = feature_pb2.GetFeaturesRequest(
            entity_type=entity, ids=ids, view_name=view.name, view_hash=view.hash
        )
        response = self._feature.GetFeatures(request, timeout=TIMEOUT_SECONDS)
        columns = block_columns(response.block)
        rows = [columns.values(row) for row in range(columns.rows)]
        return rows, response.log_position
