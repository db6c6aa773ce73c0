"""The user tower sees the past only, and prefixes as serving sees histories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from offline.training.towers import Dropout, ItemTower, ServingUserTower, TowerShape, UserTower
from offline.training.transforms import FeatureTransform

SHAPE = TowerShape(
    dim=16,
    layers=2,
    heads=2,
    dropout=0.3,
    length=10,
    entity_types=1,
    vocabularies=(20,),
    sequence_items=20,
    actions=3,
    surfaces=2,
)


@pytest.fixture
def tower() -> UserTower:
    torch.manual_seed(0)
    tower = UserTower(SHAPE, FeatureTransform([True, False])).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        tower.actions.weight[0] = 0.0
        tower.memory.weight[0] = 0.0
    return tower


@pytest.fixture
def table() -> Tensor:
    table = torch.randn(21, SHAPE.dim, generator=torch.Generator().manual_seed(1))
    table[0] = 0.0
    return table


def states(tower: UserTower, table: Tensor, items: list[int]) -> Tensor:
    row = torch.tensor([items])
    with torch.inference_mode():
        return tower.states(table[row], row, (row > 0).long(), last=False)[0]


def test_a_later_item_changes_no_earlier_position(tower: UserTower, table: Tensor) -> None:
    items = [3, 5, 7, 2, 9]
    before = states(tower, table, items)
    for changed in range(len(items)):
        other = [*items[:changed], 11, *items[changed + 1 :]]
        after = states(tower, table, other)
        torch.testing.assert_close(after[:changed], before[:changed], rtol=0, atol=0)
        assert not torch.allclose(after[changed:], before[changed:])


def test_every_prefix_in_training_is_what_serving_computes(tower: UserTower, table: Tensor) -> None:
    items = [3, 5, 7, 2, 9]
    serving = ServingUserTower(tower, table).eval()
    # In training a user's first input is the empty state, then the items one by one.
    trained = states(tower, table, [0, *items])
    for count in range(len(items) + 1):
        padded = torch.tensor([[0] * (SHAPE.length - count) + items[:count]])
        with torch.inference_mode():
            served = serving(padded, (padded > 0).long(), torch.zeros(1, 2), torch.zeros(1).long())
            expected = trained[count] + tower.context(torch.zeros(1, 2), torch.zeros(1).long())[0]
        torch.testing.assert_close(served[0], expected, rtol=1e-5, atol=1e-5)


def test_user_vectors_are_served_times_what_the_towers_are_believed(
    tower: UserTower, table: Tensor
) -> None:
    items, actions = torch.tensor([[0, 4, 7]]), torch.tensor([[0, 1, 2]])
    inputs = (items, actions, torch.ones(1, 2), torch.ones(1).long())
    with torch.inference_mode():
        whole = ServingUserTower(tower, table).eval()(*inputs)
        half = ServingUserTower(tower, table, 0.5).eval()(*inputs)
    assert whole.any()
    torch.testing.assert_close(half, 0.5 * whole)


def test_an_empty_history_gives_a_finite_vector_that_features_move(
    tower: UserTower, table: Tensor
) -> None:
    tower.features.fit(torch.rand(50, 2).numpy())
    serving = ServingUserTower(tower, table).eval()
    empty = torch.zeros(2, SHAPE.length, dtype=torch.long)
    with torch.inference_mode():
        features = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        vectors = serving(empty, empty, features, torch.ones(2).long())
    assert torch.isfinite(vectors).all()
    assert not torch.allclose(vectors[0], vectors[1])


def test_the_item_tower_adds_up_its_fields() -> None:
    torch.manual_seed(0)
    tower = ItemTower(SHAPE, FeatureTransform([]))
    kind = torch.tensor([1, 1])
    vectors = tower(kind, torch.tensor([[4], [0]]), torch.zeros(2, 0))
    expected = tower.entity_type.weight[1] + tower.fields[0].weight[4]
    torch.testing.assert_close(vectors[0], expected)
    torch.testing.assert_close(vectors[1], tower.entity_type.weight[1])


def test_without_layers_a_history_is_the_sums_written_out() -> None:
    torch.manual_seed(0)
    tower = UserTower(replace(SHAPE, layers=0), FeatureTransform([])).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    items, actions = [0, 4, 7, 4], [0, 1, 3, 2]
    vectors = torch.randn(4, SHAPE.dim)
    with torch.inference_mode():
        row, done = torch.tensor([items]), torch.tensor([actions])
        found = tower.states(vectors.unsqueeze(0), row, done, last=False)[0].numpy()
        latest = tower.states(vectors.unsqueeze(0), row, done, last=True)[0, 0].numpy()
    memory, profile = tower.memory.weight.detach().numpy(), tower.profile.weight.detach().numpy()
    through = tower.profile_map.weight.detach().numpy()
    gain = np.abs(tower.profile_gain.detach().numpy())
    decay = np.exp(tower.memory_decay.detach().numpy())
    for place in range(4):
        expected = tower.start.detach().numpy().copy()
        total, mass = np.zeros(SHAPE.dim), 0.0
        for past in range(place + 1):
            expected += decay[place - past] * memory[items[past]]
            if items[past]:
                weight = gain[actions[past]]
                total += weight * (profile[items[past]] + through @ vectors[past].numpy())
                mass += weight
        expected += total / np.sqrt(1.0 + mass)
        np.testing.assert_allclose(found[place], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latest, found[-1], rtol=1e-4, atol=1e-5)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    ones = torch.ones(100_003)
    dropout = Dropout(0.25)
    dropped = dropout(ones)
    assert set(dropped.tolist()) == {0.0, float(torch.tensor(256 / 192))}
    # Five standard deviations of a binomial share.
    assert abs(float((dropped == 0).float().mean()) - 0.25) < 5 * (0.25 * 0.75 / len(ones)) ** 0.5
    # No byte of a word is special: places that are eight apart fare alike.
    for place in range(8):
        assert abs(float((dropped[place::8] == 0).float().mean()) - 0.25) < 0.025
    assert dropout.eval()(ones) is ones
    assert Dropout(0.0)(ones) is ones
