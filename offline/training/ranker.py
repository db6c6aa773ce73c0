"""The multi-task ranker: retrieval's score per objective, plus what features add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from offline.training.data import FloatArray
from offline.training.transforms import FeatureTransform

# Positions above share one bias; a slate has at most this many items.
POSITIONS = 200


@dataclass(frozen=True)
class RankerShape:
    """Sizes of the ranker. ``trend``: the item feature that retrieval leaves to it, by column.

    ``still``: columns of item features that stand still between changes of the catalogue; what the
    first layer makes of them is computed once an item and not once a request. ``crosses``: columns
    of cross features.
    """

    dim: int
    hidden: tuple[int, ...]
    surfaces: int
    objectives: int
    trend: int | None = None
    still: tuple[int, ...] = ()
    crosses: int = 0


class Ranker(nn.Module):
    """Logits of all objectives for items, each with the user it is shown to.

    logit = scale[surface, objective] * <user, item> + bias[surface, objective]
            + trend[surface, objective] * log(1 + trend of the item)
            + residual(<user, item>, features) + position[surface, position, objective]

    and then a line over it, an objective's own, that calibrates it once all else is learned.
    The residual's last layer starts at zero, so that training starts from retrieval's own order.
    Of the vectors only their product is read: the ranker learns beside one pair of towers and
    serves beside another. The user's half of the first layer is computed once a user.
    """

    def __init__(
        self,
        shape: RankerShape,
        user_features: FeatureTransform,
        item_features: FeatureTransform,
        cross_features: FeatureTransform | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.cross_features = cross_features or FeatureTransform([])
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
        self.cross_side = nn.Linear(shape.crosses, first, bias=False) if shape.crosses else None
        layers: list[nn.Module] = [nn.ReLU()]
        for inner, outer in zip(shape.hidden, rest, strict=False):
            layers += [nn.Linear(inner, outer), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(shape.hidden[-1], objectives)
        self.register_buffer("slope", torch.ones(objectives))
        self.register_buffer("intercept", torch.zeros(objectives))
        self.slope: Tensor
        self.intercept: Tensor
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
        cross_features: Tensor | None = None,
    ) -> Tensor:
        """Logits ``[N, O]``; shapes as in ``LoadedBundle.score``."""
        dot = products(user_vector, owner, item_vector)
        item_side = self.item_side(torch.cat([self.item_features(item_features), dot * 0.1], dim=1))
        first = self.user_part(user_features, surface)[owner] + item_side
        if self.cross_side is not None and cross_features is not None:
            first = first + self.cross_side(self.cross_features(cross_features))
        return self.logits(first, dot, item_features, position, surface[owner])

    def user_part(self, user_features: Tensor, surface: Tensor) -> Tensor:
        """What users ``[B, U]`` on surfaces ``[B]`` add to the first layer, ``[B, H]``."""
        part: Tensor = self.surface(surface)
        if self.user_side is not None:
            part = part + self.user_side(self.user_features(user_features))
        return part

    def logits(
        self,
        first: Tensor,
        dot: Tensor,
        item_features: Tensor,
        position: Tensor,
        on_surface: Tensor,
    ) -> Tensor:
        """Logits ``[N, O]`` of sums of the first layer ``[N, H]`` and products ``dot [N, 1]``."""
        residual = self.head(self.body(first))
        shown = self.position[on_surface, position.clamp(0, POSITIONS)]
        base = self.scale[on_surface] * dot + self.bias[on_surface]
        if self.shape.trend is not None:
            column = item_features[:, self.shape.trend : self.shape.trend + 1]
            base = base + self.trend[on_surface] * torch.log1p(column.clamp(min=0.0))
        logits: Tensor = (base + residual + shown) * self.slope + self.intercept
        return logits

    @torch.no_grad()
    def calibrate(self, objective: int, slope: float, intercept: float) -> None:
        """Sets the line that an objective's logits pass last."""
        self.slope[objective], self.intercept[objective] = slope, intercept

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
    """Probabilities float32 ``[N, O]`` in one piece: what the exported graphs are held against."""

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
        cross_features: Tensor,
    ) -> Tensor:
        """See ``LoadedBundle.score``."""
        logits = self.ranker(
            user_vector,
            user_features,
            owner,
            item_vector,
            item_features,
            position,
            surface,
            cross_features,
        )
        return torch.sigmoid(logits)


class ItemFirstLayer(nn.Module):
    """The exported graph of what stands still of items: their share of the first layer."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.columns = list(ranker.shape.still)
        self.transform = ranker.item_features.of(self.columns)
        self.register_buffer("weight", ranker.item_side.weight[:, self.columns].detach().T.clone())
        self.weight: Tensor

    def forward(self, item_features: Tensor) -> Tensor:
        """Raw ``item_features [n, I]`` to ``[n, H]``."""
        part: Tensor = self.transform(_chosen(item_features, self.columns)) @ self.weight
        return part


class SplitRanker(nn.Module):
    """The exported ranker: probabilities float32 ``[N, O]`` of items whose ``item_part`` is known.

    What ``ServingRanker`` answers, but for the order in which the first layer is summed.
    """

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker
        items = len(ranker.item_features.mean)
        self.moving = [column for column in range(items) if column not in ranker.shape.still]
        self.transform = ranker.item_features.of(self.moving)
        weights = [ranker.item_side.weight[:, [*self.moving, items]]]
        weights += [ranker.cross_side.weight] if ranker.cross_side is not None else []
        self.register_buffer("weight", torch.cat(weights, dim=1).detach().T.clone())
        self.weight: Tensor

    def forward(
        self,
        user_vector: Tensor,
        user_features: Tensor,
        owner: Tensor,
        item_vector: Tensor,
        item_features: Tensor,
        position: Tensor,
        surface: Tensor,
        item_part: Tensor,
        cross_features: Tensor,
    ) -> Tensor:
        """See ``LoadedBundle.score``."""
        dot = products(user_vector, owner, item_vector)
        moving = self.transform(_chosen(item_features, self.moving))
        inputs = [moving, dot * 0.1]
        if self.ranker.cross_side is not None:
            inputs.append(self.ranker.cross_features(cross_features))
        first = torch.cat(inputs, dim=1) @ self.weight
        first = first + self.ranker.user_part(user_features, surface)[owner]
        if self.ranker.shape.still:
            first = first + item_part
        logits = self.ranker.logits(first, dot, item_features, position, surface[owner])
        return torch.sigmoid(logits)


def products(user_vector: Tensor, owner: Tensor, item_vector: Tensor) -> Tensor:
    """Inner product ``[N, 1]`` of each item's vector with its user's.

    Of the order of ten; the ranker's net takes a tenth, as its other inputs are of the order of
    one.
    """
    return (user_vector[owner] * item_vector).sum(dim=1, keepdim=True)


def initial_bias(positives: Sequence[float], rows: Sequence[float]) -> Tensor:
    """Logit of a smoothed base rate, ``[n]``: rare until the rows say otherwise."""
    rate = (torch.tensor(positives) + 0.5) / (torch.tensor(rows) + 100.0)
    return torch.logit(rate.clamp(1e-5, 1 - 1e-5))


def initial_position(
    positives: FloatArray, rows: FloatArray, of_surface: FloatArray, surface_rows: FloatArray
) -> Tensor:
    """How much a position raises the logit over its surface's, ``[n]``: from what its rows and the
    surface's counted, each ``[n]``; a position of few rows is drawn to the surface's rate, as if a
    hundred more had it."""
    rate = (of_surface + 0.5) / (surface_rows + 100.0)
    own = (positives + 100.0 * rate) / (rows + 100.0)
    logits = [torch.logit(torch.from_numpy(r).clamp(1e-5, 1 - 1e-5)) for r in (own, rate)]
    return (logits[0] - logits[1]).float()


def _chosen(rows: Tensor, columns: Sequence[int]) -> Tensor:
    return torch.index_select(rows, 1, torch.tensor(columns, dtype=torch.long))
