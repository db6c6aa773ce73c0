"""Who a caller is: by certificate, or by its own word where that is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from podium.common.v1.common_pb2 import Actor
from podium.ranker.v1 import ranker_pb2
from services.common.call import Call
from services.common.domain import Surface
from services.common.token_keys import TokenKeys
from services.ranker.calls.answering import Answering
from services.ranker.servicer import RankerServicer
from tests.support.promises import answer_of
from tests.unit.services.ranker.calls.test_answering import FakeQueue
from tests.unit.services.ranker.tokens.test_issuer import key, tokens

SURFACE = Surface.model_validate({"entity": "item", "sources": [{"kind": "personal", "quota": 3}]})
REQUEST = ranker_pb2.RankRequest(actor=Actor(user_id="ann"), surface="feed", idempotency_key="k")


class FakeContext:
    """What the servicer asks of a call."""

    call = Call("r", None)

    def __init__(self, says: str = "", certificates: Sequence[bytes] = ()) -> None:
        self._says, self._certificates = says, certificates

    def peer_identities(self) -> Sequence[bytes]:
        return self._certificates

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return [("x-request-id", "r"), ("x-podium-caller", self._says)]

    def is_active(self) -> bool:
        return True


def rank_id(context: Any, *, trust_metadata: bool) -> str:
    """Under which a new process answers the one request."""
    queue = FakeQueue()
    servicer = RankerServicer(
        Answering(queue, tokens(), TokenKeys({1: key(1)})),
        {"feed": SURFACE},
        {},
        lambda _: None,
        lambda _, __: True,
        trust_metadata=trust_metadata,
        may_debug=lambda _: False,
    )
    answer_of(servicer.Rank(REQUEST, context))
    return queue.taken[0].rank_id


@pytest.mark.parametrize("trust_metadata", [True, False])
def test_a_certificate_outweighs_what_a_caller_says(trust_metadata: bool) -> None:
    contexts = [FakeContext(says, [b"web"]) for says in ("web", "app", "")]
    assert len({rank_id(c, trust_metadata=trust_metadata) for c in contexts}) == 1
    other = FakeContext("web", [b"app"])
    assert rank_id(other, trust_metadata=trust_metadata) != rank_id(
        contexts[0], trust_metadata=trust_metadata
    )


@pytest.mark.parametrize(("trust_metadata", "names"), [(True, 3), (False, 1)])
def test_a_callers_word_counts_where_it_is_trusted(
    trust_metadata: bool,
    names: int,
) -> None:
    contexts = [FakeContext(says) for says in ("web", "app", "")]
    assert len({rank_id(c, trust_metadata=trust_metadata) for c in contexts}) == names
