"""FeatureService over gRPC: convert, call, convert."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.call import CallPolicy
from services.common.courtesy import Courtesy
from services.common.errors import InvalidArgument, Overloaded
from services.feature.convert.features import (
    ViewName,
    feature_keys,
    features_response,
    requested_view,
    sticky_keys,
    watched_views,
)
from services.feature.convert.identity import (
    alias_event,
    alias_response,
    erasure_event,
    erasure_response,
)
from services.feature.convert.ingest import (
    EventConverter,
    IngestCall,
    IngestRequest,
    ingest_response,
    ingest_stream_response,
    request_number,
)
from services.feature.convert.views import (
    list_views_response,
    requested_limit,
    requested_score,
    required_feature,
    top_entities_response,
)
from services.feature.ingest.log import OVERLOAD_RETRY_MS, Ingestor
from services.feature.ingest.pipeline import pipelined
from services.feature.ingest.types import Receipt
from services.feature.metrics import FeatureMetrics
from services.feature.rows.leaders import leaders
from services.feature.views.generations import Generations

SERVICE_NAME = "podium.feature.v1.FeatureService"
POLICIES = {
    f"/{SERVICE_NAME}/Ingest": CallPolicy(default_deadline_ms=5_000, max_deadline_ms=30_000),
    f"/{SERVICE_NAME}/Alias": CallPolicy(default_deadline_ms=5_000, max_deadline_ms=30_000),
    f"/{SERVICE_NAME}/EraseUser": CallPolicy(default_deadline_ms=5_000, max_deadline_ms=30_000),
    f"/{SERVICE_NAME}/GetFeatures": CallPolicy(default_deadline_ms=1_000, max_deadline_ms=10_000),
    f"/{SERVICE_NAME}/TopEntities": CallPolicy(default_deadline_ms=1_000, max_deadline_ms=10_000),
    f"/{SERVICE_NAME}/ListViews": CallPolicy(default_deadline_ms=1_000, max_deadline_ms=10_000),
}
ROWS_ON_THE_LOOP = 256
COMPUTED_ON_THE_LOOP = 32
"""Lookups of more rows, or that have to compute more of them, go to a thread: they would hold the
event loop up."""

LEADERS_ON_THE_LOOP = 2_000
"""The same of more rows to choose leaders from."""

INGEST_STREAMS = 128
"""IngestStreams that are open at once; with their requests under way they bound the memory."""

STREAM_REQUESTS = 8
"""Requests of one stream that are under way at once."""

_Context = grpc.aio.ServicerContext[Any, Any]


class FeatureServicer(feature_pb2_grpc.FeatureServiceServicer):
    """See ``feature.proto``."""

    def __init__(
        self,
        *,
        converter: EventConverter,
        ingestor: Ingestor,
        generations: Generations,
        key_version: int,
        clock_ms: Callable[[], int],
        metrics: FeatureMetrics,
        courtesy: Courtesy,
    ) -> None:
        self._converter = converter
        self._ingestor = ingestor
        self._generations = generations
        self._key_version = key_version
        self._clock_ms = clock_ms
        self._metrics = metrics
        self._courtesy = courtesy
        self._ingest_streams = 0

    async def Ingest(
        self,
        request: feature_pb2.IngestRequest,
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> feature_pb2.IngestResponse:
        """Stores events; returns once they are on disk."""
        call, answer = await self._handed_in(request)
        receipt = await answer
        self._count(call, receipt)
        return ingest_response(call, receipt)

    async def IngestStream(
        self,
        request_iterator: AsyncIterator[feature_pb2.IngestStreamRequest],
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> AsyncIterator[feature_pb2.IngestStreamResponse]:
        """The same for request after request."""
        last = -1

        async def begin(
            request: feature_pb2.IngestStreamRequest,
        ) -> Awaitable[feature_pb2.IngestStreamResponse]:
            nonlocal last
            last = sequence = request_number(request, last)
            call, answer = await self._handed_in(request)

            async def answered() -> feature_pb2.IngestStreamResponse:
                receipt = await answer
                self._count(call, receipt)
                return ingest_stream_response(sequence, call, receipt)

            return answered()

        if self._ingest_streams >= INGEST_STREAMS:
            raise Overloaded(
                f"{INGEST_STREAMS} streams of events are open",
                retry_after_ms=OVERLOAD_RETRY_MS,
                reason="INGEST_STREAMS",
            )
        self._ingest_streams += 1
        try:
            async with aclosing(pipelined(request_iterator, begin, STREAM_REQUESTS)) as answers:
                async for response in answers:
                    yield response
        finally:
            self._ingest_streams -= 1

    async def _handed_in(
        self, request: IngestRequest
    ) -> tuple[IngestCall, asyncio.Future[Receipt]]:
        """The request's events on their way into the log, and what will become of them."""
        call = self._converter.open_call(request)
        for _ in self._converter.in_slices(call, request, self._clock_ms()):
            await self._courtesy.let_pass()
        return call, self._ingestor.submit(call.events, call.producer, call.first_sequence)

    def _count(self, call: IngestCall, receipt: Receipt) -> None:
        rejections = [refused.error.reason for refused in (*call.refused, *receipt.refused)]
        self._metrics.ingested(receipt.accepted, receipt.duplicates, receipt.too_late, rejections)
        self._metrics.unknown_types(call.unknown_types)

    async def GetFeatures(  # type: ignore[override]
        self,
        request: feature_pb2.GetFeaturesRequest,
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> bytes:
        """Reads rows as of now; the answer is encoded."""
        wanted = requested_view(request)
        generation = self._generations.current
        with self._courtesy.short_call(), generation.reading() as lookup:
            served = lookup.view(wanted.entity, wanted.name, wanted.hash)
            pairs = wanted.entity in generation.pairs
            keys = feature_keys(request, generation.pseudonymiser.encrypt, pairs=pairs)
            found = None
            if len(keys) <= ROWS_ON_THE_LOOP:
                found = await lookup.read_soon(served, keys, compute_at_most=COMPUTED_ON_THE_LOOP)
            if found is None:
                found = await asyncio.to_thread(lookup.read, served, keys)
            sticky: Sequence[Mapping[str, str]] = ()
            if request.sticky_ids:
                whose = sticky_keys(request, generation.pseudonymiser.encrypt)
                sticky = await lookup.kept_soon(whose) or ()
                if not sticky:
                    sticky = await asyncio.to_thread(lookup.kept, whose)
        view, times = served.reader.view, request.include_event_times
        return features_response(view, found, sticky, times=times)

    async def Alias(
        self,
        request: feature_pb2.AliasRequest,
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> feature_pb2.AliasResponse:
        """Makes a device's history a user's; returns once that is on disk."""
        event = alias_event(request, self._converter)
        return alias_response(await self._ingestor.ingest([event], "", None))

    async def EraseUser(
        self,
        request: feature_pb2.EraseUserRequest,
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> feature_pb2.EraseUserResponse:
        """Forgets an actor; returns once that is on disk."""
        event = erasure_event(request, self._converter)
        return erasure_response(await self._ingestor.ingest([event], "", None))

    async def WatchEntities(  # type: ignore[override]
        self,
        request: feature_pb2.WatchEntitiesRequest,
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> AsyncIterator[bytes]:
        """Streams a snapshot and changes until the caller leaves or the server drains.

        Steps are encoded already, once for all watchers.
        """
        wanted, token = watched_views(request), request.resume_token
        while True:
            generation = self._generations.current
            lookup = generation.lookup
            readers = [lookup.view(v.entity, v.name, v.hash).reader for v in wanted]
            for view in wanted:
                if not generation.watchable(view.entity):
                    raise InvalidArgument.field(
                        "views", f"{view.entity} is no catalogue entity type"
                    )
            async with (
                generation.watching.streams(readers) as streams,
                aclosing(streams.stream([r.view for r in readers], token)) as steps,
            ):
                async for step in steps:
                    yield step
            # Another store is in force now: the watcher gets its snapshot.
            token = b""

    async def ListViews(
        self,
        request: feature_pb2.ListViewsRequest,  # noqa: ARG002 - gRPC's signature
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> feature_pb2.ListViewsResponse:
        """Lists what is served, and how far a new store is."""
        generation = self._generations.current
        return list_views_response(
            generation.documents,
            self._generations.building,
            generation.stored_position,
            generation.build,
            generation.pseudonymiser.version,
            self._key_version,
        )

    async def TopEntities(
        self,
        request: feature_pb2.TopEntitiesRequest,
        context: _Context,  # noqa: ARG002 - gRPC's signature
    ) -> feature_pb2.TopEntitiesResponse:
        """Reads the leaders from memory."""
        score, limit = requested_score(request), requested_limit(request)
        required = required_feature(request)
        generation = self._generations.current
        wanted = requested_view(request)
        own = self._generations.own_view(wanted.entity)
        if own is not None and not wanted.name and not wanted.hash:
            wanted = ViewName(own.entity, own.name, own.hash)
        reader = generation.lookup.view(wanted.entity, wanted.name, wanted.hash).reader
        if not generation.watchable(reader.view.entity):
            raise InvalidArgument.field(
                "entity_type", f"{reader.view.entity} is no catalogue entity type"
            )
        async with generation.watching.feed([reader]) as feed:
            rows = [(key[1], row) for key, row in feed.hub.snapshot([reader.view.entity])]
            as_of_ms = feed.as_of_ms
        find = partial(leaders, reader.columns, rows, score, limit=limit, required=required)
        found = find() if len(rows) <= LEADERS_ON_THE_LOOP else await asyncio.to_thread(find)
        return top_entities_response(found, as_of_ms, reader.view.hash)
