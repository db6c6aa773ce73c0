"""The multi-task ranker: retrieval's score per objective, plus what features add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offline.training.transforms import FeatureTransform

# Positions above share one bias; a slate has at most this many items.
POSITIONS = 200


@dataclass(frozen=True)
class RankerShape:
    """Sizes of the ranker. ``trend``: the item feature that retrieval leaves to it, by column."""

    dim: int
    hidden: tuple[int, ...]
    surfaces: int
    objectives: int
    trend: int | None = None


class Ranker(nn.Module):
    """Logits of all objectives for items, each with the user it is shown to.

    logit = scale[surface, objective] * <user, item> + bias[surface, objective]
            + trend[surface, objective] * log(1 + trend of the item)
            + residual(<user, item>, features) + position[surface, position, objective]

    The residual's last layer starts at zero, so that training starts from retrieval's own order.
    Of the vectors only their product is read: the ranker learns beside one pair of towers and
    serves beside another. The user's half of the first layer is computed once a user.
    """

    def __init__(
        self, shape: RankerShape, user_features: FeatureTransform, item_features: FeatureTransform
    ) -> None:
        super().__init__()
        self.shape = shape
        self.user_features = user_features
        self.item_features = item_features
        surfaces, objectives = shape.surfaces + 1, shape.objectives
        users, items = len(user_features.mean), len(item_features.mean)
        first, *rest = shape.hidden
        self.scale = nn.Parameter(torch.full((surfaces, objectives), 0.3))
        self.bias = nn.Parameter(torch.zeros(surfaces, objectives))
        self.trend = nn.Parameter(torch.zeros(surfaces, objectives))
        self.position = nn.Parameter(torch.zeros(surfaces, POSITIONS + 1, objectives))
        self.surface = nn.Embedding(surfaces, first)
        self.user_side = nn.Linear(users, first, bias=False) if users else None
        self.item_side = nn.Linear(items + 1, first, bias=False)
        layers: list[nn.Module] = [nn.ReLU()]
        for inner, outer in zip(shape.hidden, rest, strict=False):
            layers += [nn.Linear(inner, outer), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(shape.hidden[-1], objectives)
        nn.init.normal_(self.surface.weight, std=0.01)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        user_vector: Tensor,
        user_features: Tensor,
        owner: Tensor,
        item_vector: Tensor,
        item_features: Tensor,
        position: Tensor,
        surface: Tensor,
    ) -> Tensor:
        """Logits ``[N, O]``; shapes as in ``LoadedBundle.score``."""
        user_side: Tensor = self.surface(surface)
        if self.user_side is not None:
            user_side = user_side + self.user_side(self.user_features(user_features))
        dot = (user_vector[owner] * item_vector).sum(dim=1, keepdim=True)
        # The dot product is of the order of ten; the net's other inputs are of the order of one.
        items = torch.cat([self.item_features(item_features), dot * 0.1], dim=1)
        residual = self.head(self.body(user_side[owner] + self.item_side(items)))
        on_surface = surface[owner]
        shown = self.position[on_surface, position.clamp(0, POSITIONS)]
        base = self.scale[on_surface] * dot + self.bias[on_surface]
        if self.shape.trend is not None:
            column = item_features[:, self.shape.trend : self.shape.trend + 1]
            base = base + self.trend[on_surface] * torch.log1p(column.clamp(min=0.0))
        logits: Tensor = base + residual + shown
        return logits

    @torch.no_grad()
    def settle_neutral_position(self, surface: Tensor, position: Tensor) -> None:
        """Gives position 0 the mean bias of the positions logged on its surface.

        ``surface``, ``position`` int64 ``[N]`` of the training rows. What serving predicts is then
        on the level of the log, whatever place an item will take.
        """
        for row in range(self.position.shape[0]):
            logged = position[(surface == row) & (position > 0)].clamp(max=POSITIONS)
            if len(logged):
                self.position[row, 0] = self.position[row, logged].mean(dim=0)


class ServingRanker(nn.Module):
    """The exported ranker: probabilities float32 ``[N, O]``."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(
        self,
        user_vector: Tensor,
        user_features: Tensor,
        owner: Tensor,
        item_vector: Tensor,
        item_features: Tensor,
        position: Tensor,
        surface: Tensor,
    ) -> Tensor:
        """See ``LoadedBundle.score``."""
        logits = self.ranker(
            user_vector, user_features, owner, item_vector, item_features, position, surface
        )
        return torch.sigmoid(logits)


def initial_bias(positives: Sequence[float], rows: Sequence[float]) -> Tensor:
    """Logit of a smoothed base rate, ``[n]``: rare until the rows say otherwise."""
    rate = (torch.tensor(positives) + 0.5) / (torch.tensor(rows) + 100.0)
    return torch.logit(rate.clamp(1e-5, 1 - 1e-5))
