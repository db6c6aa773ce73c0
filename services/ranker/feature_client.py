"""Calls the feature service: user rows of a micro-batch, and the watch of the catalogue."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import grpc

from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.status import error_from_rpc
from services.ranker.catalogue.replica import WatchMessage
from services.ranker.convert.features import feature_rows, rows_with_kept, watch_message
from services.ranker.feature_rows import FeatureRows, View


class _Responses(Protocol):
    """What a stream's call offers; gRPC has no public name for it."""

    def __iter__(self) -> Iterator[feature_pb2.WatchEntitiesResponse]: ...

    def cancel(self) -> bool: ...


class FeatureClient:
    """One channel to the feature service. Safe for several threads."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = feature_pb2_grpc.FeatureServiceStub(channel)

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> _PendingRows:
        """Asks for rows of users; ``result`` of what it returns waits for them."""
        request = feature_pb2.GetFeaturesRequest(
            entity_type="user",
            ids=ids,
            view_name=view.name,
            view_hash=view.hash,
            sticky_ids=sticky_ids,
        )
        call = self._stub.GetFeatures.future(request, timeout=timeout_s)
        return _PendingRows(call, ids, sticky_ids)

    def probe(self, entity: str, view: View, timeout_s: float) -> None:
        """Asks whether a view is served. Raises ``UnknownFeatureView`` or another PodiumError."""
        request = feature_pb2.GetFeaturesRequest(
            entity_type=entity, ids=["probe"], view_name=view.name, view_hash=view.hash
        )
        try:
            self._stub.GetFeatures(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error

    def watch(self, views: Mapping[str, View], resume_token: bytes) -> _Watch:
        """Opens the catalogue's watch."""
        request = feature_pb2.WatchEntitiesRequest(
            views=[
                feature_pb2.EntityView(entity_type=entity, view_name=view.name, view_hash=view.hash)
                for entity, view in views.items()
            ],
            resume_token=resume_token,
        )
        return _Watch(self._stub.WatchEntities(request))


class _PendingRows:
    """A call under way."""

    def __init__(
        self,
        call: grpc.Future[feature_pb2.GetFeaturesResponse],
        ids: Sequence[str],
        sticky_ids: Sequence[str],
    ) -> None:
        self._call = call
        self._ids = ids
        self._sticky_ids = sticky_ids
        self._ended = threading.Event()
        call.add_done_callback(lambda _: self._ended.set())

    def ready(self, longest_s: float) -> bool:
        """Whether ``result`` is there, for which it waits so many seconds at most."""
        return self._ended.wait(longest_s)

    def result(self) -> FeatureRows:
        """Waits for the rows. Raises a PodiumError."""
        try:
            response = self._call.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            raise error_from_rpc(error) from error
        rows = feature_rows(
            self._ids,
            response.block,
            response.log_position,
            response.evaluated_at.ToMilliseconds(),
        )
        return rows_with_kept(rows, self._sticky_ids, response) if self._sticky_ids else rows


class _Watch:
    """An open stream."""

    def __init__(self, call: _Responses) -> None:
        self._call = call

    def __iter__(self) -> Iterator[WatchMessage]:
        try:
            for message in self._call:
                yield watch_message(message)
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error

    def cancel(self) -> None:
        """Ends the stream."""
        self._call.cancel()
