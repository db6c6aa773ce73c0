"""A captured request, ranked again from its file alone, has the slate it had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import FailedPrecondition, InvalidArgument, Unavailable
from services.common.exploration import base_values, explores, log_propensities
from services.ranker.explain.capture import Capture
from services.ranker.explain.codec import from_bytes, to_bytes
from services.ranker.explain.replay import differences, replay
from services.ranker.explain.tracing import is_sampled
from services.ranker.filters.tree import And, Compare, In, Not, Operator, Or
from services.ranker.tokens.format import SHOWN_MASK, digest_of
from services.ranker.types import (
    Call,
    Circumstances,
    Following,
    RankCommand,
    RankResult,
    Traffic,
)
from tests.unit.services.ranker.explain.traced_world import NAMES, SURFACES, SomeFactors, World
from tests.unit.services.ranker.fakes import FakeUsers

IDS = st.sampled_from([f"i{n}" for n in range(24)])
HOSTS = st.sampled_from(["h1", "h2", "h3"])
ROW = st.fixed_dictionaries(
    {"clicks": st.integers(0, 5), "score": st.floats(-2, 2, width=16), "live": st.just(1)},
    optional={
        "seats": st.integers(0, 3),
        "closes": st.integers(500, 3_000),
        "host": HOSTS,
        "sells": st.sampled_from(["c1", "c2"]),
        "tags": st.lists(st.sampled_from(["t1", "t2"]), max_size=2).map(tuple),
        "level": st.integers(0, 900),
    },
)
USER = st.fixed_dictionaries(
    {},
    optional={
        "history": st.lists(IDS, max_size=5),
        "bought": st.lists(IDS, max_size=6),
        "blocked": st.lists(HOSTS, max_size=1),
        "spend": st.floats(0.5, 9, width=16),
    },
)
FILTERS = st.sampled_from(
    [
        None,
        Compare("clicks", Operator.LESS, 4),
        Or((In("tags", frozenset({"t1"})), Not(In("host", frozenset({"h1", "h2"}))))),
        And((Compare("score", Operator.GREATER, 0.1), In("level", frozenset(range(600))))),
    ]
)


def followed(result: RankResult, call: Call) -> Following:
    """What the page after an answer, or its refresh, takes over."""
    items = result.hashes if call is Call.REFRESH else result.hashes & SHOWN_MASK
    return Following(
        parent_rank_id=result.rank_id,
        page=1,
        first_position=0 if call is Call.REFRESH else len(items),
        items=items,
        bundle=digest_of("another"),
        variants=frozenset({digest_of("e", "b")}),
    )


@settings(max_examples=25, deadline=None)
@given(
    rows=st.dictionaries(IDS, ROW, min_size=1, max_size=24),
    users=st.lists(USER, min_size=1, max_size=3),
    data=st.data(),
)
def test_a_replay_is_the_original(
    rows: Mapping[str, Mapping[str, Any]], users: list[dict[str, Any]], data: st.DataObject
) -> None:
    world = World(
        rows,
        FakeUsers({f"u{n}": user for n, user in enumerate(users)}),
        factors=data.draw(st.sampled_from([None, SomeFactors()])),
    )
    world.model.broken = data.draw(st.sampled_from([set(), set(), {"score"}, {"user"}]))
    if data.draw(st.booleans()):
        world.governor.answered([2.0] * 100)
    commands = [
        RankCommand(
            data.draw(st.sampled_from(SURFACES)).name,
            f"u{n}",
            "",
            data.draw(st.integers(1, 8)),
            seed=data.draw(st.one_of(st.none(), st.integers(0, 2**64 - 1))),
            filter=data.draw(FILTERS),
            circumstances=Circumstances("en-GB", "eu", {"age": 30, "tags": ["x"]}),
            traffic=data.draw(st.sampled_from([Traffic.LIVE, Traffic.TEST])),
            debug=data.draw(st.booleans()),
            candidate_ids=data.draw(st.lists(IDS, max_size=4, unique=True)),
        )
        for n in range(len(users))
    ]
    first = world.rank(*commands)
    if data.draw(st.booleans()):
        world.users.failure = Unavailable("down")
    call = data.draw(st.sampled_from([Call.RANK, Call.REFRESH]))
    later = world.rank(
        *(
            replace(command, call=call, following=followed(result, call), seed=n)
            for n, (command, result) in enumerate(zip(commands, first, strict=True))
        )
    )
    results = [*first, *later]
    captures = world.captures()
    # It works again when the requests are ranked anew.
    world.model.broken = set()
    assert [capture.rank_id for capture in captures] == [result.rank_id for result in results]
    for capture, result in zip(captures, results, strict=True):
        again = replay(from_bytes(to_bytes(capture)), world.model, world.spec)
        assert differences(capture.slate, again) == []
        assert list(again.slate.ids) == list(result.slate.ids)
        assert set(again.degraded) == set(result.degraded)
        assert again.slate.values == pytest.approx(result.slate.values, rel=1e-6, abs=1e-6)
        assert again.seed == result.seed
        assert again.more == result.more


ROWS = {f"i{n}": {"clicks": n % 4, "live": 1, "score": 0.1 * n, "host": "h1"} for n in range(12)}


def captured(world: World, **fields: Any) -> Capture:
    """The capture of one request of "ann", through its file."""
    world.rank(RankCommand("everything", "ann", "phone", 6, **fields))
    return from_bytes(to_bytes(world.captures()[-1]))


def test_a_capture_holds_pseudonyms_only() -> None:
    world = World(ROWS, FakeUsers({"ann": {"history": ["i3"], "bought": ["i2"]}}))
    capture = captured(world, context=object(), deadline_s=99.0)
    data = to_bytes(capture)
    assert b"ann" not in data
    assert b"phone" not in data
    assert NAMES.encrypt("ann").encode() in data
    assert capture.command.user_id == capture.rows.ids[0] == NAMES.encrypt("ann")
    assert capture.command.device_id == NAMES.encrypt("phone")
    assert capture.command.context is None
    assert capture.rows.strings_of(0, "bought") == ["i2"]


def test_a_replay_tells_what_differs() -> None:
    world = World(ROWS, FakeUsers({}))
    capture = captured(world)
    first, *others = capture.slate.ids
    other = replace(
        capture.slate, ids=["elsewhere", *others], values=capture.slate.values + np.float32(0.1)
    )
    found = differences(other, replay(capture, world.model, world.spec))
    assert ("item", "elsewhere", first) in [(d.what, d.captured, d.replayed) for d in found]
    assert [d.position for d in found if d.what == "value"] == [0, 1]
    shorter = replace(capture.slate, ids=others)
    assert [d.what for d in differences(shorter, replay(capture, world.model, world.spec))] == [
        "items"
    ]


def test_a_log_propensity_may_be_as_far_off_as_its_values_can_make_it() -> None:
    # Values that are close together are drawn by differences between them: what is lost in
    # rounding is many times as large in a log-propensity.
    rows = {f"i{n}": {"clicks": 1, "live": 1, "score": 1 + 0.002 * n} for n in range(12)}
    world = World(rows, FakeUsers({}))
    capture = captured(world, seed=next(seed for seed in range(99) if explores(seed, 0.5)))
    again = replay(capture, world.model, world.spec)
    drawn = again.slate.drawn
    assert drawn is not None
    signs = np.where(np.arange(len(drawn.terms)) % 2, 1, -1)
    base = base_values(drawn.terms, drawn.weights, drawn.adjustments) + 3e-7 * signs
    rounded = log_propensities(
        base,
        drawn.feasible,
        drawn.chosen,
        drawn.similarities,
        temperature=drawn.temperature,
        similarity_weight=drawn.similarity_weight,
    )
    assert np.abs(rounded - capture.slate.log_propensities).max() > 1e-6
    assert differences(replace(capture.slate, log_propensities=rounded), again) == []
    found = differences(replace(capture.slate, log_propensities=rounded - 0.01), again)
    assert {difference.what for difference in found} == {"log-propensity"}


def test_another_bundle_or_domain_is_refused() -> None:
    world = World(ROWS, FakeUsers({}))
    capture = captured(world)
    fewer = replace(SURFACES[0], sources=SURFACES[0].sources[:1])
    for spec in (
        replace(world.spec, version="v2"),
        replace(world.spec, surfaces={}),
        replace(world.spec, surfaces={"everything": fewer}),
    ):
        with pytest.raises(FailedPrecondition):
            replay(capture, world.model, spec)


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_a_damaged_capture_is_refused(cut: int) -> None:
    world = World(ROWS, FakeUsers({}))
    data = to_bytes((captured(world), world.captures()[-1])[1])
    with pytest.raises(InvalidArgument) as caught:
        from_bytes(data[:cut])
    assert caught.value.reason == "BAD_CAPTURE"


def test_the_rank_id_alone_decides_what_is_sampled() -> None:
    world, again = (World(ROWS, FakeUsers({}), share=0.25) for _ in range(2))
    for start in range(0, 400, 16):
        commands = [RankCommand("plain", "ann", "", 2)] * 16
        results = world.rank(*commands)
        # Of another user, on another page: the rank_id is the same.
        again.rank(
            *(
                replace(command, user_id=f"u{at}", rank_id=result.rank_id, seed=start + at)
                for at, (command, result) in enumerate(zip(commands, results, strict=True))
            )
        )
    sampled = {trace.result.rank_id for trace in world.traces}
    assert 60 < len(sampled) < 140
    assert {trace.result.rank_id for trace in again.traces} == sampled
    assert not any(is_sampled(drawn, 0.0) for drawn in (0, 1, 2**64 - 1))
    assert all(is_sampled(drawn, 1.0) for drawn in (0, 1, 2**64 - 1))


def test_what_writes_nothing_or_selects_nothing_is_not_captured() -> None:
    world = World(ROWS, FakeUsers({}))
    world.rank(
        RankCommand("plain", "ann", "", 2, dry_run=True),
        RankCommand("plain", "ann", "", 2, call=Call.SCORE, item_ids=["i1"]),
        RankCommand("plain", "ann", "", 2, call=Call.SIMILAR, item_ids=["i1"]),
    )
    assert world.traces == []
