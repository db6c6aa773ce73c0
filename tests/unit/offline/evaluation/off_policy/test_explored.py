"""Explored slates of the event log, under other weights: against a world written out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offline.dataset.explored import explored_slates
from offline.evaluation.off_policy.comparison import compare_on
from offline.evaluation.off_policy.estimate import Estimate, Resampling
from offline.evaluation.off_policy.explored import draws, read_labels, reweighted
from offline.evaluation.off_policy.weights import RewardModel
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.event_log import LogWriter
from services.ranker.convert.events import slate_event
from services.ranker.feature_rows import empty_rows
from services.ranker.selection.bound import BoundSelection
from services.ranker.selection.select import select
from services.ranker.types import Drawn, RankCommand, RankResult, Slate, Traffic
from tests.support.explored_log import SURFACE, ExploredWorld, explored_event, write_examples
from tests.unit.services.ranker.slate_worlds import FIVE, selection, slate_ids

WORLD = ExploredWorld(weights=(0.1, 1.0))
NEW = {"click": 2.0, "purchase": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("explored")
    WORLD.write(place / "log", place / "dataset", slates=2_000)
    return place


def test_probabilities_are_those_of_the_definition(folder: Path) -> None:
    weights = (NEW["click"], NEW["purchase"])
    for number, slate in enumerate(explored_slates(folder / "log", SURFACE)):
        if number == 30:
            break
        drawn = draws(slate, NEW)
        prefix: tuple[int, ...] = ()
        for position, item in enumerate(map(int, slate.item_ids)):
            chances = WORLD.chances(number % WORLD.moods, prefix, weights)
            wanted = [chances.get(candidate, 0.0) for candidate in range(5)]
            assert np.exp(drawn.table[position]) == pytest.approx(wanted, abs=1e-6)
            assert drawn.taken[position] == pytest.approx(np.log(chances[item]), abs=1e-6)
            prefix = (*prefix, item)


def test_other_weights_are_worth_what_the_world_says(folder: Path) -> None:
    labels = read_labels(folder / "dataset", "click")
    slates, predictions = reweighted(
        list(explored_slates(folder / "log", SURFACE)), labels, NEW, "click"
    )
    assert slates.rewards.shape == (2_000, 3)
    assert slates.groups is not None
    assert len(np.unique(slates.groups)) == 1_000
    found = compare_on(
        slates,
        predictions,
        group=SURFACE,
        logged="served",
        new="other",
        resampling=Resampling(resamples=300),
    )
    before, after = WORLD.truth(WORLD.weights), WORLD.truth((NEW["click"], NEW["purchase"]))
    assert after > before + 0.08
    assert found.logged_value.low < before < found.logged_value.high < after
    assert [result.reward_model for result in found.results[::4]] == [
        RewardModel.CASCADE,
        RewardModel.WHOLE_SLATE,
    ]
    errors = {}
    for result in found.results:
        assert isinstance(result, Estimate)
        assert result.low < after < result.high
        assert abs(result.value - after) < 4 * result.standard_error
        errors[str(result.reward_model), str(result.estimator)] = result.standard_error
    # The weaker the assumption, the wider; predictions that know something make it narrower.
    assert errors["cascade", "ips"] < errors["whole slate", "ips"]
    for model in ("cascade", "whole slate"):
        assert errors[model, "dr"] < errors[model, "ips"]


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
@pytest.mark.parametrize("shown", [[], [0]])
def test_what_the_ranker_logs_is_what_is_read(tmp_path: Path, kind: str, shown: list[int]) -> None:
    open_items = [item for item in range(5) if item not in shown]
    found = replace(FIVE.candidates(open_items), shown=np.array(shown, np.int64))
    plan = BoundSelection(selection(lambda_=0.7, temperature=1.2, kind=kind))
    slates = {}
    for seed in range(40):
        selected = select(plan, found, k=3, seed=seed, now_ms=0, explore=True)
        assert selected.drawn is not None
        slates[f"rank-{seed}"] = (slate_ids(found, selected), selected.drawn)
    with LogWriter(tmp_path) as writer:
        for rank_id, (items, drawn) in slates.items():
            event = slate_event(_answer(rank_id, items, drawn), 1)
            writer.append([event_pb2.LoggedEvent(event=event).SerializeToString()])
    read = list(explored_slates(tmp_path, SURFACE))
    assert [slate.rank_id for slate in read] == list(slates)
    for slate in read:
        items, drawn = slates[slate.rank_id]
        assert slate.item_ids == tuple(f"i{item}" for item in items)
        assert np.array_equal(slate.feasible, drawn.feasible)
        assert (slate.earlier is not None) == bool(shown)
        assert draws(slate, {}).taken == pytest.approx(drawn.log_propensities, abs=1e-9)
        assert np.exp(draws(slate, {"click": 0.3}).table).sum(axis=1) == pytest.approx(np.ones(3))


def _answer(rank_id: str, items: list[int], drawn: Drawn) -> RankResult:
    count = len(items)
    return RankResult(
        rank_id=rank_id,
        command=RankCommand(SURFACE, "ann", ""),
        slate=Slate(
            entity_type="course",
            ids=[f"i{item}" for item in items],
            selling_course_ids=[],
            sources=["personal"] * count,
            values=np.zeros(count, np.float32),
            objectives=("click", "purchase"),
            predictions=np.zeros((count, 2), np.float32),
            drawn=drawn,
        ),
        assignments=(),
        bundle_version="v",
        policy="softmax",
        degraded=(),
        timings=(),
        traffic=Traffic.LIVE,
        view_hash="h",
        log_position=0,
        rows=empty_rows(["ann"]),
        row=0,
    )


def test_the_same_weights_change_nothing(folder: Path) -> None:
    labels = read_labels(folder / "dataset", "click")
    slates, _ = reweighted(
        list(explored_slates(folder / "log", SURFACE)), labels, {"purchase": 1.0}, "click"
    )
    assert slates.new_log_propensities == pytest.approx(slates.log_propensities, abs=1e-6)


def test_the_first_positions_can_be_counted_alone(folder: Path) -> None:
    labels = read_labels(folder / "dataset", "click")
    slates = list(explored_slates(folder / "log", SURFACE))[:20]
    (every, expected), (first, alone) = (
        reweighted(slates, labels, NEW, "click", positions=positions) for positions in (None, 2)
    )
    assert first.rewards.shape == (20, 2)
    for name in ("rewards", "log_propensities", "new_log_propensities"):
        assert np.array_equal(getattr(first, name), getattr(every, name)[:, :2])
    # What follows the first two is no part of what is predicted.
    cut = [predictions[RewardModel.CASCADE].logged[:, 1] for predictions in (expected, alone)]
    assert (cut[0] > cut[1]).all()


def test_only_live_slates_that_explored_with_mature_labels_count(tmp_path: Path) -> None:
    WORLD.write(tmp_path / "log", tmp_path / "dataset", slates=6)
    one = next(explored_slates(tmp_path / "log", SURFACE))
    with LogWriter(tmp_path / "log") as writer:
        plain = explored_event("plain", (0, 1), event_pb2.Exploration(), [0.0, 0.0])
        plain.slate_served.ClearField("exploration")
        test = explored_event("test", (0,), event_pb2.Exploration(chosen=[-1]), [0.0])
        test.traffic_class = common_pb2.TRAFFIC_CLASS_TEST
        shadow = event_pb2.Event()
        shadow.CopyFrom(test)
        shadow.traffic_class = common_pb2.TRAFFIC_CLASS_SHADOW
        twice = event_pb2.LoggedEvent(event=test, duplicate=True)
        twice.event.traffic_class = common_pb2.TRAFFIC_CLASS_LIVE
        others = [event_pb2.LoggedEvent(event=event) for event in (plain, test, shadow)]
        records = [*others, twice]
        writer.append([record.SerializeToString() for record in records])
    slates = list(explored_slates(tmp_path / "log", SURFACE))
    assert [slate.rank_id for slate in slates] == [f"rank-{n}" for n in range(6)]
    assert list(explored_slates(tmp_path / "log", "rooms")) == []
    first, second = one.item_ids[:2]
    write_examples(
        tmp_path / "dataset",
        [
            ("rank-0", "a", first, 1, True),
            ("rank-0", "a", first, 0, True),
            ("rank-0", "a", second, 0, True),
            ("rank-1", "b", "0", 1, False),
            ("rank-1", "b", "1", 1, True),
            ("", "c", "1", 1, True),
        ],
    )
    labels = read_labels(tmp_path / "dataset", "click")
    assert set(labels) == {"rank-0"}
    found, _ = reweighted(slates, labels, NEW, "click")
    assert found.rewards.tolist() == [[1.0, 0.0, 0.0]]
    with pytest.raises(InvalidArgument, match="weight: gift is not among"):
        reweighted(slates, labels, {"gift": 1.0}, "click")
    with pytest.raises(FailedPrecondition, match="none of 6 explored slates"):
        reweighted(slates, {}, NEW, "click")
    with pytest.raises(InvalidArgument, match="no labels of purchase"):
        read_labels(tmp_path / "dataset", "purchase")
    with pytest.raises(NotFound, match="examples"):
        read_labels(tmp_path / "nowhere", "click")


def test_a_position_that_nobody_drew_weighs_nothing(tmp_path: Path) -> None:
    WORLD.write(tmp_path / "log", tmp_path / "dataset", slates=1)
    (slate,) = explored_slates(tmp_path / "log", SURFACE)
    drawn = event_pb2.Exploration(
        temperature=1.0,
        weights=[1.0, 1.0],
        candidate_ids=[str(item) for item in range(5)],
        terms=slate.terms.tobytes(),
        feasible=bytes([0, 0b11111]),
        chosen=[-1, 2],
    )
    base = slate.terms.astype(np.float64).sum(axis=1)
    scores = base / base.std()
    logs = [0.0, float(scores[2] - np.log(np.exp(scores).sum()))]
    with LogWriter(tmp_path / "log") as writer:
        event = explored_event("pinned", (9, 2), drawn, logs)
        writer.append([event_pb2.LoggedEvent(event=event).SerializeToString()])
    rows = [("pinned", "u", "9", 1, True), ("pinned", "u", "2", 1, True)]
    write_examples(tmp_path / "dataset", rows)
    slates = list(explored_slates(tmp_path / "log", SURFACE))
    labels = read_labels(tmp_path / "dataset", "click")
    found, predictions = reweighted(slates, labels, NEW, "click")
    assert found.rewards.tolist() == [[1.0, 1.0]]
    assert (found.log_propensities[0, 0], found.new_log_propensities[0, 0]) == (0.0, 0.0)
    assert found.new_log_propensities[0, 1] != pytest.approx(found.log_propensities[0, 1])
    cascade = predictions[RewardModel.CASCADE]
    assert cascade.logged[0, 0] == cascade.new[0, 0]
    event.slate_served.log_propensities[1] = -0.1
    with LogWriter(tmp_path / "other") as writer:
        writer.append([event_pb2.LoggedEvent(event=event).SerializeToString()])
    with pytest.raises(FailedPrecondition, match="pinned: the weights that were logged"):
        reweighted(list(explored_slates(tmp_path / "other", SURFACE)), labels, NEW, "click")
