"""Asks a running feature service which views it serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.channels import open_channel
from services.common.status import error_from_rpc

TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Served:
    """Hashes of the views that are served and of those to come; log position of the store in force
    and of the one being filled (None when there is none), and the log's end. Versions of the keys
    that the store in force and new events have their pseudonyms under."""

    hashes: frozenset[str]
    coming: frozenset[str]
    position: int
    building_position: int | None
    log_end: int
    build: int
    store_key_version: int
    key_version: int


class FeatureViews:
    """Client of one feature service."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = feature_pb2_grpc.FeatureServiceStub(channel)

    def served(self) -> Served:
        """What is served now. Raises a PodiumError."""
        try:
            found = self._stub.ListViews(feature_pb2.ListViewsRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error
        building = found.building if found.HasField("building") else None
        return Served(
            frozenset(view.view_hash for view in found.views),
            frozenset(view.view_hash for view in building.new_views) if building else frozenset(),
            found.log_position,
            building.log_position if building else None,
            building.log_end if building else found.log_position,
            found.build,
            found.store_key_version,
            found.key_version,
        )


@contextmanager
def feature_views(target: str) -> Iterator[FeatureViews]:
    """A client of the service at ``target``, host:port."""
    channel = open_channel(target)
    try:
        yield FeatureViews(channel)
    finally:
        channel.close()
