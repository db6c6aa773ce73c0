"""The gRPC face of the ranker: convert, call, convert."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import grpc

from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from services.common.call import current_call
from services.ranker.batcher import Batcher
from services.ranker.convert import rank_command, rank_response
from services.ranker.pipeline import Started
from services.ranker.types import RankCommand, RankResult

SERVICE = "podium.ranker.v1.RankerService"


class RankerServicer(ranker_pb2_grpc.RankerServiceServicer):
    """Answers Rank. ``filterable``: by surface, what callers may filter by and what it holds.
    ``check_forced`` raises for forced variants that do not exist."""

    def __init__(
        self,
        batcher: Batcher[RankCommand, Started, RankResult],
        surfaces: Collection[str],
        filterable: Mapping[str, Mapping[str, str]],
        check_forced: Callable[[Mapping[str, str]], object],
    ) -> None:
        self._batcher = batcher
        self._surfaces = frozenset(surfaces)
        self._filterable = filterable
        self._check_forced = check_forced

    def Rank(
        self, request: ranker_pb2.RankRequest, context: grpc.ServicerContext
    ) -> ranker_pb2.RankResponse:
        """Ranks one surface for one visitor."""
        command = rank_command(request, self._surfaces, self._filterable)
        if command.forced_variants:
            self._check_forced(command.forced_variants)
        call = current_call()
        ticket = self._batcher.submit(
            command, None if call is None else call.deadline_s, context.is_active
        )
        return rank_response(ticket.wait())
