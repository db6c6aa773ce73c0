"""A feature service in memory for tests of the ranker: a real gRPC server whose rows are set."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
import numpy as np

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.domain import Domain
from services.common.errors import PodiumError, UnknownFeatureView
from services.common.status import status_of
from services.feature.definitions import FeatureView, compile_views

Row = Mapping[str, Any]
_Messages = queue.Queue[feature_pb2.WatchEntitiesResponse | None]


def feature_block(view: FeatureView, rows: Sequence[Row]) -> feature_pb2.FeatureBlock:
    """Rows as the wire carries them; a feature that a row lacks is NULL with its default."""
    kinds = ("float32", "int64", "string", "list", "vector")
    columns = {
        kind: [feature for feature in view.features if feature.dtype == kind] for kind in kinds
    }

    def values(kind: str) -> list[Any]:
        return [row.get(f.name, f.default) for row in rows for f in columns[kind]]

    lists = values("list")
    ends = np.cumsum([0, *map(len, lists)])
    return feature_pb2.FeatureBlock(
        rows=len(rows),
        float_features=[f.name for f in columns["float32"]],
        float_values=np.array(values("float32"), "<f4").tobytes(),
        int_features=[f.name for f in columns["int64"]],
        int_values=np.array(values("int64"), "<i8").tobytes(),
        string_features=[f.name for f in columns["string"]],
        string_values=values("string"),
        list_features=[f.name for f in columns["list"]],
        list_offsets=ends.astype("<i4").tobytes() if columns["list"] else b"",
        list_values=[value for found in lists for value in found],
        statuses=bytes(
            feature_pb2.VALUE_STATUS_PRESENT if f.name in row else feature_pb2.VALUE_STATUS_NULL
            for row in rows
            for kind in kinds
            for f in columns[kind]
        ),
        vector_features=[f.name for f in columns["vector"]],
        vector_dims=[f.dim for f in columns["vector"]],
        vector_values=np.array([x for v in values("vector") for x in v], "<f4").tobytes(),
    )


class FakeFeatureService(feature_pb2_grpc.FeatureServiceServicer):
    """Serves ``users`` and ``catalogue`` (by entity type and id) under the domain's views, and
    under those of ``also``."""

    def __init__(
        self, domain: Domain, catalogue: Mapping[str, Mapping[str, Row]], users: Mapping[str, Row]
    ) -> None:
        self.views = compile_views(domain)
        self.also: dict[str, FeatureView] = {}
        self.users = dict(users)
        self.catalogue = {entity: dict(items) for entity, items in catalogue.items()}
        self.failure: PodiumError | None = None
        self.release = threading.Event()
        self.release.set()
        self.requests: list[list[str]] = []
        self.ingested: list[event_pb2.Event] = []
        self._watchers: list[tuple[_Messages, dict[str, FeatureView]]] = []
        self._lock = threading.Lock()

    def get_features(
        self, request: feature_pb2.GetFeaturesRequest, context: grpc.ServicerContext
    ) -> feature_pb2.GetFeaturesResponse:
        view = self._view(request.entity_type, request.view_hash, context)
        if request.entity_type == "user":
            self.requests.append(list(request.ids))
            self.release.wait(10)
            if self.failure is not None:
                _abort(context, self.failure)
        stored = self.users if request.entity_type == "user" else {}
        rows = [stored.get(id_, {}) for id_ in request.ids]
        return feature_pb2.GetFeaturesResponse(
            block=feature_block(view, rows), log_position=7, view_hash=view.hash
        )

    def ingest(
        self, request: feature_pb2.IngestRequest, context: grpc.ServicerContext
    ) -> feature_pb2.IngestResponse:
        del context
        self.ingested.extend(request.events)
        return feature_pb2.IngestResponse(accepted=len(request.events))

    def watch_entities(
        self, request: feature_pb2.WatchEntitiesRequest, context: grpc.ServicerContext
    ) -> Iterator[feature_pb2.WatchEntitiesResponse]:
        views = {
            wanted.entity_type: self._view(wanted.entity_type, wanted.view_hash, context)
            for wanted in request.views
        }
        messages: _Messages = queue.Queue()
        with self._lock:
            snapshot = {entity: dict(self.catalogue.get(entity, {})) for entity in views}
            self._watchers.append((messages, views))
        context.add_callback(lambda: messages.put(None))
        yield _message(reset=feature_pb2.WatchReset())
        for entity, items in snapshot.items():
            yield _message(snapshot_chunk=_rows(views, entity, items))
        total = sum(map(len, snapshot.values()))
        yield _message(snapshot_end=feature_pb2.WatchSnapshotEnd(rows=total))
        while context.is_active():
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                message = _message(heartbeat=feature_pb2.WatchHeartbeat())
            if message is None:
                return
            yield message

    GetFeatures = get_features
    Ingest = ingest
    WatchEntities = watch_entities

    def upsert(self, entity: str, id_: str, row: Row) -> None:
        """Changes a catalogue row and tells the watchers."""
        with self._lock:
            self.catalogue.setdefault(entity, {})[id_] = row
            for messages, views in self._watchers:
                rows = _rows(views, entity, {id_: row})
                messages.put(_message(delta=feature_pb2.EntityDelta(upserts=[rows])))

    def withdraw(self, entity: str, id_: str) -> None:
        """Removes a catalogue row and tells the watchers."""
        with self._lock:
            del self.catalogue[entity][id_]
            gone = common_pb2.EntityRef(type=entity, id=id_)
            for messages, _ in self._watchers:
                messages.put(_message(delta=feature_pb2.EntityDelta(tombstones=[gone])))

    def _view(self, entity: str, hash_: str, context: grpc.ServicerContext) -> FeatureView:
        for views in (self.views, self.also):
            if entity in views and views[entity].hash == hash_:
                return views[entity]
        return _abort(context, UnknownFeatureView(f"no view of {entity} with hash {hash_}"))


class FakeFeatureServer:
    """The service behind a port of its own."""

    def __init__(self, service: FakeFeatureService, port: int = 0) -> None:
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        feature_pb2_grpc.add_FeatureServiceServicer_to_server(service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.stop(0).wait()


def _message(**step: Any) -> feature_pb2.WatchEntitiesResponse:
    message = feature_pb2.WatchEntitiesResponse(resume_token=b"token", **step)
    message.as_of.FromMilliseconds(time.time_ns() // 1_000_000)
    return message


def _rows(
    views: Mapping[str, FeatureView], entity: str, items: Mapping[str, Row]
) -> feature_pb2.EntityRows:
    block = feature_block(views[entity], list(items.values()))
    return feature_pb2.EntityRows(entity_type=entity, ids=list(items), block=block)


def _abort(context: grpc.ServicerContext, error: PodiumError) -> NoReturn:
    status = status_of(error)
    context.set_trailing_metadata(status.trailing_metadata)
    context.abort(status.code, status.message)
    raise AssertionError("abort returned")
