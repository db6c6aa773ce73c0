"""Tokens: what they carry, how far, and why one is refused."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.assign.assign import Assignment
from services.common.assign.assign import Reason as Assigned
from services.common.errors import InvalidArgument
from services.common.ids import new_rank_id
from services.common.token_keys import KEY_BYTES, MAC_BYTES, TokenKeys
from services.ranker.feature_rows import empty_rows
from services.ranker.tokens.format import (
    MAX_PAGE,
    MAX_SHOWN,
    MAX_TOKEN_BYTES,
    MAX_VARIANTS,
    SHOWN_MASK,
    to_text,
)
from services.ranker.tokens.issuer import Tokens
from services.ranker.types import Call, RankCommand, RankResult, Slate, Traffic

ANN = RankCommand("courses", user_id="ann-whose-name-nobody-may-read", device_id="phone")
HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200, unique=True)


def key(byte: int) -> bytes:
    return bytes([byte]) * KEY_BYTES


class Clock:
    """Seconds since the epoch, as set."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


def tokens(*versions: int, clock: Clock | None = None) -> Tokens:
    keys = TokenKeys({version: key(version) for version in versions or (1,)})
    return Tokens(keys, lifetime_s=60, now_s=clock or Clock())


def result(
    hashes: list[int], command: RankCommand = ANN, *, more: bool = True, variants: int = 1
) -> RankResult:
    """An answer whose items have these hashes."""
    count = len(hashes)
    none = np.zeros((count, 0), np.float32)
    slate = Slate("course", [str(n) for n in range(count)], (), (), none[:, :0].sum(1), (), none)
    return RankResult(
        rank_id=new_rank_id(),
        command=command,
        slate=slate,
        assignments=[
            Assignment(f"experiment-{n}", "b", Assigned.SPLIT, 0.5, "user", 1)
            for n in range(variants)
        ],
        bundle_version="v1",
        policy="top_k",
        degraded=(),
        timings=(),
        traffic=Traffic.LOAD,
        view_hash="",
        log_position=0,
        rows=empty_rows(["x"]),
        row=0,
        seed=2**63 + 5,
        hashes=np.array(hashes, np.uint64),
        more=more,
    )


@settings(max_examples=25, deadline=None)
@given(first=HASHES, second=HASHES)
def test_another_replica_reads_what_the_first_one_said(first: list[int], second: list[int]) -> None:
    one, other = tokens(), tokens()
    answer = result(first)
    page_token, refresh_token = one.issued(answer)
    page = other.next_page(page_token, ANN, 20)
    assert page.following is not None
    assert page.following.items.tolist() == [hash_ & int(SHOWN_MASK) for hash_ in first]
    assert page.following.first_position == len(first)
    assert page.following.parent_rank_id == answer.rank_id
    assert (page.call, page.traffic, page.k) == (Call.RANK, Traffic.LOAD, 20)
    again = other.refreshed(refresh_token, ANN)
    assert again.following is not None
    assert again.following.items.tolist() == first
    assert (again.call, again.k) == (Call.REFRESH, len(first))
    assert again.following.first_position == 0
    # Every follower has a seed of its own, the same everywhere.
    assert len({answer.seed, page.seed, again.seed}) == 3
    assert one.next_page(page_token, ANN, 20).seed == page.seed
    later = other.next_page(other.issued(result(second, page))[0], ANN, 20)
    assert later.following is not None
    shown = [hash_ & int(SHOWN_MASK) for hash_ in first + second]
    assert later.following.items.tolist() == shown
    assert later.following.first_position == len(shown)


def test_the_largest_tokens_fit() -> None:
    earlier = result(list(range(200)))
    command = ANN
    for _ in range(2):
        command = tokens().next_page(tokens().issued(earlier)[0], command, 200)
        earlier = result(list(range(200)), command, variants=99)
    # 400 were shown before this page: it may show 100 more, and none follows.
    assert command.k == MAX_SHOWN - 400
    assert tokens().issued(result(list(range(100)), command))[0] == ""
    page_token, refresh_token = tokens().issued(result(list(range(99)), command, variants=99))
    assert 3_900 < len(page_token) <= MAX_TOKEN_BYTES
    last = tokens().next_page(page_token, ANN, 20)
    assert last.k == 1
    assert last.following is not None
    assert len(last.following.variants) == MAX_VARIANTS
    assert len(tokens().issued(result(list(range(200)), variants=99))[1]) <= MAX_TOKEN_BYTES
    assert refresh_token


def test_there_is_no_next_page_of_nothing_and_none_after_the_end() -> None:
    assert tokens().issued(result([])) == ("", "")
    next_page, again = tokens().issued(result([1, 2], more=False))
    assert next_page == ""
    assert again


def test_a_slate_is_refreshed_without_end() -> None:
    issuer = tokens()
    command = issuer.refreshed(issuer.issued(result([1, 2]))[1], ANN)
    assert command.following is not None
    many = replace(command, following=replace(command.following, page=MAX_PAGE))
    again = issuer.refreshed(issuer.issued(result([1, 2], many))[1], ANN)
    assert again.following is not None
    assert (again.following.page, again.following.items.tolist()) == (MAX_PAGE, [1, 2])


def test_a_token_names_nobody() -> None:
    for token in tokens().issued(result([1, 2, 3])):
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        for raw in (ANN.user_id, ANN.device_id, "courses", "experiment-0"):
            assert raw.encode() not in data
            assert raw.encode()[:8] not in data


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_other_text_passes_for_a_token(data: st.DataObject) -> None:
    issuer = tokens()
    token = issuer.issued(result([5, 6]))[0]
    at = data.draw(st.integers(0, len(token) - 1))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = token[:at] + data.draw(st.sampled_from(letters)) + token[at + 1 :]
    if other == token:
        return
    with pytest.raises(InvalidArgument) as refused:
        issuer.next_page(other, ANN, 20)
    assert refused.value.reason in {
        "TOKEN_SIGNATURE_WRONG",
        "TOKEN_MALFORMED",
        "TOKEN_KEY_UNKNOWN",
    }


@pytest.mark.parametrize(("number", "size"), [(1, 40), (3, 400)])
def test_a_token_of_another_format_is_told_from_one_that_is_none(number: int, size: int) -> None:
    data = bytes([number, 1]) + (1).to_bytes(2, "little") + bytes(size)
    text = to_text(data, TokenKeys({1: key(1)}).mac(data, 1))
    with pytest.raises(InvalidArgument, match=f"format {number}, this build reads 2") as refused:
        tokens().next_page(text, ANN, 20)
    assert refused.value.reason == "TOKEN_FORMAT_UNSUPPORTED"
    # Nobody but a holder of the key is told.
    with pytest.raises(InvalidArgument) as refused:
        tokens().next_page(to_text(data, bytes(MAC_BYTES)), ANN, 20)
    assert refused.value.reason == "TOKEN_SIGNATURE_WRONG"


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"user_id": "bob"}, "TOKEN_OF_ANOTHER_ACTOR", "belongs to another actor"),
        ({"surface": "rooms"}, "TOKEN_OF_ANOTHER_SURFACE", "belongs to another surface"),
        ({"filter_digest": b"another1"}, "TOKEN_OF_ANOTHER_FILTER", "another filter"),
        ({"candidates_digest": b"another1"}, "TOKEN_OF_OTHER_CANDIDATES", "other candidate_ids"),
    ],
)
def test_a_token_holds_for_its_request_alone(
    change: dict[str, object], reason: str, said: str
) -> None:
    token = tokens().issued(result([5, 6]))[0]
    with pytest.raises(InvalidArgument, match=said) as refused:
        tokens().next_page(token, replace(ANN, **change), 20)  # type: ignore[arg-type]
    assert refused.value.reason == reason


def test_a_refresh_needs_no_candidates() -> None:
    asked = replace(ANN, candidates_digest=b"some ids")
    page, refresh = tokens().issued(result([5, 6], asked))
    assert tokens().next_page(page, asked, 20).candidates_digest == b"some ids"
    assert tokens().refreshed(refresh, ANN).following is not None


def test_a_token_expires() -> None:
    clock = Clock()
    issuer = tokens(clock=clock)
    token = issuer.issued(result([5, 6]))[1]
    clock.now_s += 59
    issuer.refreshed(token, ANN)
    clock.now_s += 1
    with pytest.raises(InvalidArgument, match=re.escape("has expired; tokens last 60 s")) as late:
        issuer.refreshed(token, ANN)
    assert late.value.reason == "TOKEN_EXPIRED"


def test_keys_rotate_without_a_refusal() -> None:
    old, told, new, cleaned = tokens(1), tokens(1, 2), tokens(2, 1), tokens(2)
    for signer, readers in [(old, (told, new)), (told, (old, new)), (new, (told, cleaned))]:
        token = signer.issued(result([5, 6]))[0]
        for reader in readers:
            assert reader.next_page(token, ANN, 20).following is not None
    with pytest.raises(InvalidArgument, match="is signed by key 2, unknown here") as refused:
        old.next_page(cleaned.issued(result([5]))[0], ANN, 20)
    assert refused.value.reason == "TOKEN_KEY_UNKNOWN"
