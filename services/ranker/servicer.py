"""The gRPC face of the ranker: convert, call, convert."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podium.ranker.v1 import ranker_pb2
from services.common.call import CALLER_KEY, CallPolicy
from services.common.domain import Surface
from services.common.domain_filters import context_numbers
from services.common.errors import NotFound, PermissionDenied
from services.common.ids import new_rank_id
from services.common.serving.methods import CallContext
from services.ranker.calls.answering import Answering, Caller
from services.ranker.convert.calls import (
    batch_commands,
    batch_response,
    idempotency,
    refresh_command,
    refresh_response,
    repeatable,
    score_command,
    score_response,
    similar_command,
    similar_response,
)
from services.ranker.convert.filter import require_numbers
from services.ranker.convert.rank import rank_command, rank_response
from services.ranker.types import RankCommand, RankResult

SERVICE = "podium.ranker.v1.RankerService"
_ONE = CallPolicy(default_deadline_ms=1_000, max_deadline_ms=10_000)
POLICIES = {
    f"/{SERVICE}/Rank": _ONE,
    f"/{SERVICE}/Refresh": _ONE,
    f"/{SERVICE}/Similar": _ONE,
    f"/{SERVICE}/Score": _ONE,
    f"/{SERVICE}/RankBatch": CallPolicy(default_deadline_ms=30_000, max_deadline_ms=120_000),
}


class RankerServicer:
    """See ``ranker.proto``. ``filterable``: by surface, what callers may filter by and what it
    holds. ``check_forced`` raises for forced variants that do not exist,
    ``knows`` tells whether a surface's catalogue has an item; ``trust_metadata``: whether callers
    may name themselves in it, ``may_debug`` which of them may ask for explanations."""

    def __init__(
        self,
        answering: Answering,
        surfaces: Mapping[str, Surface],
        filterable: Mapping[str, Mapping[str, str]],
        check_forced: Callable[[Mapping[str, str]], object],
        knows: Callable[[str, str], bool],
        *,
        trust_metadata: bool,
        may_debug: Callable[[str], bool],
    ) -> None:
        self._answering = answering
        self._tokens = answering.tokens
        self._surfaces = surfaces
        self._entity_of = {name: surface.entity for name, surface in surfaces.items()}
        self._filterable = filterable
        self._takes_candidates = {name for name, s in surfaces.items() if s.takes_candidates}
        self._numbers = {name: context_numbers(s.filters) for name, s in surfaces.items()}
        self._check_forced = check_forced
        self._knows = knows
        self._trust_metadata = trust_metadata
        self._may_debug = may_debug
        # A device id that no device has.
        self._nobody = new_rank_id()

    async def Rank(
        self, request: ranker_pb2.RankRequest, context: CallContext
    ) -> ranker_pb2.RankResponse:
        """Ranks one surface for one visitor."""
        command = self._command(request, context.call.deadline_s)
        if command.debug and not self._may_debug(self._name(context)):
            raise PermissionDenied(
                "debug: is for the callers that the service is told of", reason="DEBUG_NOT_ALLOWED"
            )
        if request.page_token:
            default_k = self._surfaces[command.surface].default_k
            command = self._tokens.next_page(request.page_token, command, default_k)
        key = repeatable(request, self._name(context)) if request.idempotency_key else None
        result, kept = await self._answering.one(command, _caller(context), key)
        return rank_response(result, self._tokens.issued(result), idempotency(key, kept))

    async def RankBatch(
        self, request: ranker_pb2.RankBatchRequest, context: CallContext
    ) -> ranker_pb2.RankBatchResponse:
        """Ranks one surface for many visitors."""
        commands = batch_commands(request, self._command)
        key = repeatable(request, self._name(context))
        results, kept = await self._answering.many(commands, _caller(context), key)
        return batch_response(results, self._refresh_token, idempotency(key, kept))

    async def Refresh(
        self, request: ranker_pb2.RefreshRequest, context: CallContext
    ) -> ranker_pb2.RefreshResponse:
        """Scores a slate anew."""
        command = refresh_command(request, self._command)
        command = self._tokens.refreshed(request.refresh_token, command)
        result, _ = await self._answering.one(command, _caller(context))
        return refresh_response(result, self._refresh_token(result))

    async def Similar(
        self, request: ranker_pb2.SimilarRequest, context: CallContext
    ) -> ranker_pb2.SimilarResponse:
        """Finds the items nearest to one."""
        command = similar_command(request, self._command, self._entity_of, self._nobody)
        if not self._knows(command.surface, command.item_ids[0]):
            raise NotFound(
                f"item.id: {command.item_ids[0]!r} is not in the catalogue", reason="UNKNOWN_ITEM"
            )
        result, _ = await self._answering.one(command, _caller(context))
        return similar_response(result, named=request.HasField("actor"))

    async def Score(
        self, request: ranker_pb2.ScoreRequest, context: CallContext
    ) -> ranker_pb2.ScoreResponse:
        """Scores given items for one visitor."""
        command = score_command(request, self._command)
        result, _ = await self._answering.one(command, _caller(context))
        return score_response(result)

    def _command(
        self, request: ranker_pb2.RankRequest, deadline_s: float | None = None
    ) -> RankCommand:
        command = rank_command(
            request, self._surfaces, self._filterable, self._takes_candidates, deadline_s
        )
        numbers = self._numbers[command.surface]
        require_numbers("context.attributes", command.circumstances, numbers)
        if command.forced_variants:
            self._check_forced(command.forced_variants)
        return command

    def _refresh_token(self, result: RankResult) -> str:
        return self._tokens.issued(result)[1]

    def _name(self, context: CallContext) -> str:
        """Who calls: as its certificate says, else as it says itself where that is trusted."""
        for identity in context.peer_identities():
            return identity.decode(errors="replace")
        if self._trust_metadata:
            for key, value in context.invocation_metadata():
                if key == CALLER_KEY and isinstance(value, str):
                    return value
        return ""


def _caller(context: CallContext) -> Caller:
    return Caller(context.call.deadline_s, context.is_active)
