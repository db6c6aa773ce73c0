"""Caps and diversity count what earlier pages of a session showed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.domain_selection import Selection
from services.common.exploration import log_propensities
from services.feature.convert.slates import check_slate
from services.ranker.convert.events import slate_event
from services.ranker.selection.bound import BoundSelection
from services.ranker.selection.candidates import Candidates, Selected
from services.ranker.selection.select import select
from services.ranker.types import RankCommand, RankResult
from tests.unit.services.ranker.calls.test_pages import SURFACE, answered, serving
from tests.unit.services.ranker.slate_worlds import World, selection, similarity, slate_ids
from tests.unit.services.ranker.test_selecting_requests import ALWAYS, DIVERSE
from tests.unit.services.ranker.tokens.test_issuer import tokens

KINDS = pytest.mark.parametrize("kind", ["mmr", "dpp"])
# Hosts 1 and 2 have five items each, the best ones, and may show two.
HOSTS = {f"a{n}": {"host": f"h{n % 2}"} for n in range(10)}
OTHERS = {f"b{n}": {"host": f"o{n}"} for n in range(6)}


def following(world: World, shown: list[int]) -> Candidates:
    """The candidates of a page after ``shown``."""
    found = world.candidates([n for n in range(len(world)) if n not in shown])
    taken = Counter(world.hosts[n] for n in shown if world.hosts[n])
    return replace(found, shown=np.array(shown, np.int64), taken=[dict(taken)])


def second_page(world: World, spec: Selection, shown: list[int], k: int) -> Selected:
    return select(
        BoundSelection(spec), following(world, shown), k=k, seed=5, now_ms=0, explore=True
    )


@settings(max_examples=60, deadline=None)
@given(
    hosts=st.lists(st.integers(0, 4), min_size=1, max_size=14),
    cap=st.integers(1, 3),
    k=st.integers(1, 5),
    lambda_=st.sampled_from([None, 0.7]),
    kind=st.sampled_from(["mmr", "dpp"]),
    temperature=st.sampled_from([None, 0.5]),
)
def test_a_host_is_capped_over_all_pages_while_there_are_others(
    hosts: list[int],
    cap: int,
    k: int,
    lambda_: float | None,
    kind: str,
    temperature: float | None,
) -> None:
    rng = np.random.default_rng(len(hosts))
    world = World(
        terms=[[float(v)] for v in rng.normal(size=len(hosts))],
        weights=[1.0],
        hosts=hosts,
        vectors=rng.normal(size=(len(hosts), 2)).tolist(),
        cap=cap,
    )
    spec = selection(lambda_=lambda_, temperature=temperature, kind=kind)
    shown: list[int] = []
    while len(shown) < len(world):
        found = following(world, shown)
        page = slate_ids(found, second_page(world, spec, shown, k))
        before = Counter(world.hosts[n] for n in shown)
        # What the caps leave over all pages is shown first, in full.
        free, counted = 0, before.copy()
        for n in sorted(set(range(len(world))) - set(shown)):
            host = world.hosts[n]
            if not host or counted[host] < cap:
                counted[host] += 1
                free += 1
        over = [n for n in page if world.hosts[n] and before[world.hosts[n]] >= cap]
        assert len(page) - len(over) >= min(k, free) or not over
        assert not set(page) & set(shown)
        if len(page) < min(k, len(world) - len(shown)):
            # Only the caps of this page alone may leave it short.
            rest = set(range(len(world))) - set(shown) - set(page)
            own = Counter(world.hosts[n] for n in page)
            assert all(world.hosts[n] and own[world.hosts[n]] >= cap for n in rest)
            break
        shown += page


@KINDS
def test_what_is_like_an_earlier_page_comes_later(kind: str) -> None:
    world = World(
        terms=[[1.0], [0.9], [0.89], [0.1]],
        weights=[1.0],
        hosts=[0, 0, 0, 0],
        vectors=[[1.0, 0.0], [1.0, 0.05], [0.0, 1.0], [-1.0, 0.0]],
    )
    spec = selection(lambda_=0.5, kind=kind)
    found = following(world, [0])
    assert slate_ids(found, second_page(world, spec, [0], 1)) == [2]
    fresh = replace(found, shown=np.zeros(0, np.int64), taken=())
    chosen = select(BoundSelection(spec), fresh, k=1, seed=5, now_ms=0)
    assert slate_ids(fresh, chosen) == [1]


def test_the_first_position_of_a_page_is_mmr_beside_the_pages_before() -> None:
    rng = np.random.default_rng(1)
    world = World(
        terms=[[float(v)] for v in rng.normal(size=8)],
        weights=[1.0],
        hosts=[0] * 8,
        vectors=rng.normal(size=(8, 2)).tolist(),
    )
    shown, open_items = [0, 1, 2], range(3, 8)
    base = {n: float(world.values[n]) for n in open_items}
    spread = float(np.std(list(base.values())))
    worth = {
        n: base[n] - (0.4 / 0.6) * spread * max(similarity(world, n, m) for m in shown)
        for n in open_items
    }
    found = following(world, shown)
    chosen = slate_ids(found, second_page(world, selection(lambda_=0.6), shown, 1))
    assert chosen == [max(worth, key=lambda n: worth[n])]


@KINDS
def test_draws_of_a_later_page_can_be_computed_again_from_the_log(kind: str) -> None:
    diversity = DIVERSE.model_copy(update={"kind": kind, "relevance": 0.5})
    surface = replace(
        SURFACE, caps={"host": 2}, selection=Selection(exploration=ALWAYS, diversity=diversity)
    )
    first, second = pages(surface, 2, k=4)
    assert first.slate.drawn is not None
    assert first.slate.drawn.earlier_similarities is None
    event = slate_event(second, 0)
    served = event.slate_served
    check_slate("slate", served)
    logged = served.exploration
    count, positions = len(logged.candidate_ids), len(served.item_ids)
    assert len(logged.earlier_similarities) == count
    assert any(logged.earlier_similarities)
    weights = np.array(logged.weights, np.float32)
    masks = np.frombuffer(logged.feasible, np.uint8).reshape(positions, -1)
    again = log_propensities(
        (np.frombuffer(logged.terms, "<f4").reshape(count, -1) @ weights).astype(np.float64),
        np.unpackbits(masks, axis=1, count=count, bitorder="little").astype(bool),
        np.array(logged.chosen),
        np.frombuffer(logged.similarities, np.uint8).reshape(positions, count),
        temperature=logged.temperature,
        similarity_weight=logged.similarity_weight,
        earlier=np.frombuffer(logged.earlier_similarities, np.uint8),
    )
    assert again == pytest.approx(np.array(served.log_propensities), abs=1e-9)


def pages(surface: object, count: int, k: int) -> list[RankResult]:
    """Pages of one session, each by the token of the one before, from replicas in turn."""
    replicas = [serving({**HOSTS, **OTHERS}, surface) for _ in range(2)]  # type: ignore[arg-type]
    issuer, command = tokens(), RankCommand("feed", "ann", "", k, seed=3)
    results = []
    for number in range(count):
        result = answered(replicas[number % 2], command)
        results.append(result)
        token, _ = issuer.issued(result)
        command = issuer.next_page(token, replace(command, following=None), k)
    return results


def test_pages_by_token_keep_the_cap_together() -> None:
    results = pages(replace(SURFACE, caps={"host": 2}), 2, k=4)
    shown = [id_ for result in results for id_ in result.slate.ids]
    assert len(shown) == len(set(shown)) == 8
    hosts = Counter({**HOSTS, **OTHERS}[id_]["host"] for id_ in shown)
    assert max(hosts.values()) <= 2
