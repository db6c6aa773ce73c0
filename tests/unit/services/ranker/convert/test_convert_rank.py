"""Requests, and the decoding of feature blocks: what does not fit is refused, not read askew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from podium.common.v1.common_pb2 import Actor
from podium.feature.v1 import feature_pb2
from podium.ranker.v1.ranker_pb2 import RankRequest
from services.common.errors import FailedPrecondition, InvalidArgument
from services.ranker.convert.events import slate_event
from services.ranker.convert.features import feature_rows
from services.ranker.convert.rank import rank_command, rank_response
from services.ranker.feature_rows import empty_rows
from services.ranker.types import Degradation, Part, RankCommand, RankResult, Reason, Slate, Traffic


def block() -> feature_pb2.FeatureBlock:
    """Two rows of one feature of each kind."""
    return feature_pb2.FeatureBlock(
        rows=2,
        float_features=["f"],
        float_values=bytes.fromhex("0000803f00000040"),
        int_features=["i"],
        int_values=bytes.fromhex("0700000000000000ffffffffffffffff"),
        string_features=["s"],
        string_values=["a", "b"],
        list_features=["l"],
        list_offsets=bytes.fromhex("000000000200000003000000"),
        list_values=["x", "y", "z"],
        statuses=bytes([1, 1, 1, 1, 1, 2, 1, 3]),
    )


def test_a_block_is_read_as_it_was_written() -> None:
    rows = feature_rows(["one", "two"], block(), 9)
    assert rows.floats.tolist() == [[1.0], [2.0]]
    assert rows.ints.tolist() == [[7], [-1]]
    assert list(rows.strings) == ["a", "b"]
    assert [list(rows.strings_of(n, "l")) for n in (0, 1)] == [["x", "y"], ["z"]]
    assert list(rows.strings_of(0, "unknown")) == []
    assert [list(found) for found in rows.lists_of([1, 0, 1], "l")] == [["z"], ["x", "y"], ["z"]]
    assert [list(found) for found in rows.lists_of([1, 0], "unknown")] == [[], []]
    assert rows.statuses.tolist() == [[1, 1, 1, 1], [1, 2, 1, 3]]
    assert rows.log_position == 9


def _set(name: str, value: object) -> Callable[[feature_pb2.FeatureBlock], None]:
    def change(found: feature_pb2.FeatureBlock) -> None:
        if isinstance(value, list):
            found.ClearField(name)
            getattr(found, name).extend(value)
        else:
            setattr(found, name, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("rows", 3),
        _set("float_values", b"\x00" * 4),
        _set("float_values", b"\x00" * 7),
        _set("int_values", b"\x00" * 24),
        _set("string_values", ["a"]),
        _set("list_offsets", b"\x00" * 8),
        _set("list_values", ["x"]),
        _set("statuses", b"\x01" * 7),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    change: Callable[[feature_pb2.FeatureBlock], None],
) -> None:
    wrong = block()
    change(wrong)
    with pytest.raises(FailedPrecondition):
        feature_rows(["one", "two"], wrong)


def test_an_empty_block_has_no_rows() -> None:
    rows = feature_rows([], feature_pb2.FeatureBlock(float_features=["f"], string_features=["s"]))
    assert rows.floats.shape == (0, 1)


@pytest.mark.parametrize(
    ("request_message", "refusal"),
    [
        (
            RankRequest(surface="courses", actor=Actor(user_id="device:1")),
            "actor.user_id: must not begin with 'device:'",
        ),
        (
            RankRequest(surface="courses", actor=Actor(user_id="ann"), traffic_class=99),  # type: ignore[arg-type]
            "traffic_class: is 99, must be one of 0 (TRAFFIC_CLASS_UNSPECIFIED)",
        ),
    ],
)
def test_requests_share_the_limits_of_the_contracts(
    request_message: RankRequest, refusal: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        rank_command(request_message, ["courses"])
    assert str(refused.value).startswith(refusal)


def test_candidates_are_bounded_and_taken_only_where_a_source_reads_them() -> None:
    def named(*ids: str) -> RankRequest:
        return RankRequest(surface="courses", actor=Actor(user_id="ann"), candidate_ids=ids)

    def read(request: RankRequest) -> Sequence[str]:
        return rank_command(request, ["courses"], takes_candidates=["courses"]).candidate_ids

    assert read(named("c1", "c2", "c1")) == ["c1", "c2", "c1"]
    assert len(read(named(*map(str, range(500))))) == 500
    with pytest.raises(InvalidArgument, match=r"^candidate_ids: has 501 elements, .* 0 to 500"):
        read(named(*map(str, range(501))))
    with pytest.raises(InvalidArgument, match=r"^candidate_ids\[1\]: .*128"):
        read(named("c1", "x" * 129))
    with pytest.raises(InvalidArgument, match=r"^candidate_ids: surface 'courses' has no source"):
        rank_command(named("c1"), ["courses"])
    assert rank_command(named(), ["courses"]).candidate_ids == ()


def test_candidates_and_their_order_have_a_digest_of_their_own() -> None:
    def digest(*ids: str) -> bytes:
        request = RankRequest(surface="courses", actor=Actor(user_id="ann"), candidate_ids=ids)
        return rank_command(request, ["courses"], takes_candidates=["courses"]).candidates_digest

    assert digest() == bytes(8)
    assert digest("a", "bc") == digest("a", "bc")
    every = [digest("a", "bc"), digest("bc", "a"), digest("ab", "c"), digest("a"), digest()]
    assert len(set(every)) == len(every)
    assert {len(found) for found in every} == {8}


def test_a_degraded_source_is_named_in_the_answer_and_in_the_log() -> None:
    slate = Slate("course", [], [], [], np.zeros(0, np.float32), (), np.zeros((0, 0), np.float32))
    result = RankResult(
        rank_id="r",
        command=RankCommand("courses", "ann", ""),
        slate=slate,
        assignments=(),
        bundle_version="v",
        policy="top_k",
        degraded=(
            Degradation(Part.RETRIEVAL, Reason.TIMEOUT, "item_knn"),
            Degradation(Part.SCORING, Reason.FAILED),
        ),
        timings=(),
        traffic=Traffic.LIVE,
        view_hash="h",
        log_position=0,
        rows=empty_rows(["ann"]),
        row=0,
    )
    source, scoring = rank_response(result).degraded
    assert (source.part, source.reason, source.name) == (3, 2, "item_knn")
    assert scoring.name == ""
    event = slate_event(result, 1)
    assert event.slate_served.degraded == ["RETRIEVAL:TIMEOUT:item_knn", "SCORING:FAILED"]
