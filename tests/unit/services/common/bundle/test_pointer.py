"""Which bundles serve: moves of the pointer, and the store that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.bundle.pointer import MOST_PROMOTIONS, Placed, Pointer, pointer_of
from services.common.bundle.store import BundleStore
from services.common.domain import load_domain
from services.common.errors import BundleError, InvalidArgument, NotFound
from tests.support.tiny_bundle import make_tiny_bundle

VERSIONS = st.sampled_from(["v1", "v2", "v3"])
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("promoting"), VERSIONS),
        st.tuples(st.just("with_canary"), VERSIONS, st.floats(0.01, 1)),
        st.tuples(st.just("with_shadow"), VERSIONS, st.floats(0.01, 1)),
        st.tuples(st.just("with_experiment"), VERSIONS),
        st.tuples(st.just("without_experiment"), VERSIONS),
        st.tuples(st.just("rolling_back")),
        st.tuples(st.just("with_canary"), st.none()),
        st.tuples(st.just("with_shadow"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(MOVES)
def test_every_move_has_a_number_and_what_it_did_not_touch_keeps_its_own(
    moves: list[tuple],
) -> None:
    pointer = Pointer()
    for action, *arguments in moves:
        try:
            after = getattr(pointer, action)(*arguments)
        except NotFound:
            continue
        assert after.move == pointer.move + 1
        known = {(entry.version, entry.move) for entry in _entries(pointer)}
        for entry in _entries(after):
            assert (entry.version, entry.move) in known or entry.move == after.move
        pointer = after
        assert pointer_of(pointer.to_text(), "here") == pointer
        if action == "promoting":
            assert pointer.live == arguments[0]
            assert all(
                entry is None or entry.version != pointer.live
                for entry in (pointer.canary, pointer.shadow)
            )


def _entries(pointer: Pointer) -> list[Placed]:
    shares = [entry for entry in (pointer.canary, pointer.shadow) if entry is not None]
    return [*pointer.promoted, *pointer.experiments, *shares]


def test_promotions_are_a_stack_of_bounded_height() -> None:
    pointer = Pointer()
    for number in range(MOST_PROMOTIONS + 5):
        pointer = pointer.promoting(f"v{number}")
    assert len(pointer.promoted) == MOST_PROMOTIONS
    assert pointer.rolling_back().live == f"v{MOST_PROMOTIONS + 3}"
    again = pointer.promoting(pointer.live or "")
    assert [entry.version for entry in again.promoted] == [e.version for e in pointer.promoted]
    assert again.promoted[-1].move > pointer.promoted[-1].move


def test_a_version_has_the_most_telling_of_its_roles() -> None:
    pointer = Pointer().promoting("v1").promoting("v2").promoting("v3")
    pointer = pointer.with_canary("v2", 0.1).with_shadow("v4").with_experiment("v2")
    assert pointer.roles() == {"v1": "roll-back", "v2": "canary", "v3": "live", "v4": "shadow"}


@pytest.mark.parametrize(
    "text",
    ["{", '{"format_version": 2}', '{"promoted": 3}', Pointer().promoting("v1").to_text()[:40]],
)
def test_what_is_no_pointer_is_named(text: str) -> None:
    with pytest.raises(BundleError, match="here: "):
        pointer_of(text, "here")


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """Two bundles; neither is promoted."""
    domain = load_domain(Path("config/mooccubex.yaml"))
    for seed in range(2):
        make_tiny_bundle(tmp_path, domain, {"course": {"a": {}}}, seed=seed, promote=False)
    return BundleStore(tmp_path)


def test_a_store_from_before_there_was_a_pointer(store: BundleStore) -> None:
    first, second = store.versions()
    (store.directory / "current").write_text(f"{second}\n")
    (store.directory / "history").write_text(f"{first}\n{second}\n")
    before = store.pointer()
    assert (store.current(), store.history()) == (second, (first, second))
    assert before.canary is None
    (store.directory / "current").write_text(f"{second}\n")
    assert store.pointer().promoted[-1] != before.promoted[-1]
    assert store.rollback(by="ann") == first
    assert store.history() == (first,)
    (move,) = store.moves()
    assert (move.by, move.action, move.pointer) == ("ann", "roll-back", store.pointer())


def test_every_move_is_on_record(store: BundleStore) -> None:
    first, second = store.versions()
    store.promote(first, by="ann")
    store.canary(second, 0.05, by="bob")
    store.canary(second, 0.2, by="bob")
    store.shadow(second, 0.1, by="bob")
    store.serve_variants(second, by="bob")
    store.end_variants(second, by="bob")
    store.canary(None, by="bob")
    moves = store.moves()
    assert [move.pointer.move for move in moves] == list(range(1, 8))
    assert [move.share for move in moves] == [None, 0.05, 0.2, 0.1, None, None, None]
    assert [move.action for move in moves][-2:] == ["end experiment", "end canary"]
    assert moves[-1].pointer == store.pointer()
    assert moves[0].at <= moves[-1].at


def test_a_torn_line_of_the_record_costs_no_other(store: BundleStore) -> None:
    first, second = store.versions()
    store.promote(first)
    with (store.directory / "moves.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    store.promote(second)
    assert [move.version for move in store.moves()] == [first, second]


def test_a_torn_pointer_is_an_error_until_a_promotion_mends_it(store: BundleStore) -> None:
    first, second = store.versions()
    store.promote(first)
    store.canary(second, 0.5)
    path = store.directory / "current"
    path.write_text(path.read_text()[:60])
    moves: list[Callable[[], object]] = [store.pointer, store.rollback]
    for move in (*moves, lambda: store.canary(second, 0.6)):
        with pytest.raises(BundleError, match="current"):
            move()
    store.promote(first)
    canary = store.pointer().canary
    assert canary is not None
    assert (store.current(), canary.version, canary.share) == (first, second, 0.5)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_is_above_none_and_at_most_all(store: BundleStore, share: float) -> None:
    first, second = store.versions()
    store.promote(first)
    with pytest.raises(InvalidArgument, match="share"):
        store.canary(second, share)


def test_a_canary_is_another_bundle_than_the_live_one(store: BundleStore) -> None:
    first, second = store.versions()
    with pytest.raises(NotFound, match="promote one first"):
        store.canary(first, 0.1)
    store.promote(first)
    with pytest.raises(InvalidArgument, match="is live"):
        store.canary(first, 0.1)
    with (store.path(second) / "ranker.onnx").open("ab") as file:
        file.write(b"x")
    for place in (store.canary, store.shadow, store.serve_variants):
        with pytest.raises(BundleError, match=r"ranker\.onnx"):
            place(second)
        with pytest.raises(NotFound, match="no bundle 'v9'"):
            place("v9")
    assert store.pointer().roles() == {first: "live"}
