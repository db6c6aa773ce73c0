"""The retrieval model: an item tower, and a user tower over the vectors of what the user did.

User tower: a causal transformer (Kang & McAuley 2018, "Self-Attentive Sequential Recommendation",
arXiv:1808.09781) with pre-normalised blocks and a learned bias by distance in place of absolute
positions (Raffel et al. 2020, arXiv:1910.10683, section 2.1), so that a prefix in training and a
right-aligned history in serving are the same to it. Beside it run two plain sums of one vector per
past item: a memory, weighted by age, which learns item-to-item transitions at once, and a profile,
weighted by the action, which learns what goes with what over a whole history. With no layers the
sums are all there is: enough where the order of events says little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from offline.training.transforms import FeatureTransform

MASKED = -1e9


@dataclass(frozen=True)
class TowerShape:
    """Sizes of the towers. ``vocabularies``: values of each tower field, unknown not counted."""

    dim: int
    layers: int
    heads: int
    dropout: float
    length: int
    entity_types: int
    vocabularies: tuple[int, ...]
    sequence_items: int
    actions: int
    surfaces: int


def initial_memory(length: int) -> Tensor:
    """Log weights by age ``[length]``: mostly the latest items, and a little of all of them."""
    ages = torch.arange(length, dtype=torch.float32)
    return torch.log(torch.exp(-0.5 * ages) + 0.05)


class ItemTower(nn.Module):
    """Item vectors: embeddings of all fields and of the entity type, plus a small numeric net."""

    def __init__(self, shape: TowerShape, numeric: FeatureTransform) -> None:
        super().__init__()
        self.numeric = numeric
        self.entity_type = nn.Embedding(shape.entity_types + 1, shape.dim)
        tables = [nn.Embedding(size + 1, shape.dim, padding_idx=0) for size in shape.vocabularies]
        self.fields = nn.ModuleList(tables)
        columns = len(numeric.mean)
        self.numeric_net = (
            nn.Sequential(nn.Linear(columns, shape.dim), nn.ReLU(), nn.Linear(shape.dim, shape.dim))
            if columns
            else None
        )
        nn.init.normal_(self.entity_type.weight, std=0.01)
        for table in tables:
            nn.init.normal_(table.weight, std=1.0 / math.sqrt(shape.dim))
            with torch.no_grad():
                table.weight[0].zero_()

    def forward(self, entity_type: Tensor, fields: Tensor, numeric: Tensor) -> Tensor:
        """``entity_type [N]``, ``fields [N, F]``, raw ``numeric [N, M]`` to ``[N, dim]``."""
        total: Tensor = self.entity_type(entity_type)
        for column, table in enumerate(self.fields):
            total = total + table(fields[:, column])
        if self.numeric_net is not None:
            total = total + self.numeric_net(self.numeric(numeric))
        return total

    @torch.no_grad()
    def forget(self, column: int, values: Tensor) -> None:
        """Makes values of a field say nothing, as if unknown."""
        self.fields[column].get_parameter("weight")[values] = 0.0


class Dropout(nn.Module):
    """Dropout by random bytes: torch's own draws a number of 32 bits an element, which takes a
    tenth of a training step on a CPU. The share dropped is a multiple of 1/256."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(share * 256)

    def forward(self, values: Tensor) -> Tensor:
        """``values`` of any shape; in training some as 0 and the others scaled up."""
        if not self.training or not self.dropped:
            return values
        count = values.numel()
        words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[:count].view(values.shape)
        return values * ((drawn >= self.dropped) * (256.0 / (256 - self.dropped)))


class Block(nn.Module):
    """Pre-normalised self-attention with a bias by distance, and a feed-forward net."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.dim)
        self.query = nn.Linear(shape.dim, shape.dim)
        self.key_value = nn.Linear(shape.dim, 2 * shape.dim)
        self.output = nn.Linear(shape.dim, shape.dim)
        self.distance_bias = nn.Parameter(torch.zeros(shape.heads, shape.length))
        self.net_norm = nn.LayerNorm(shape.dim)
        self.expand = nn.Linear(shape.dim, 2 * shape.dim)
        self.contract = nn.Linear(2 * shape.dim, shape.dim)
        self.dropout = Dropout(shape.dropout)

    def forward(self, states: Tensor, visible: Tensor, distance: Tensor) -> Tensor:
        """``states [B, T, dim]``; ``visible [B, Q, T]`` bool, ``distance [Q, T]`` int64 >= 0.

        Q is T, or 1 for the last position alone. Returns ``[B, Q, dim]``.
        """
        queries = distance.shape[0]
        dim = states.shape[-1]
        normed = self.attention_norm(states)
        query = self._split(self.query(normed[:, -queries:]))
        key, value = self.key_value(normed).split(dim, dim=-1)
        bias = self.distance_bias[:, distance.clamp(max=self.distance_bias.shape[1] - 1)]
        logits = query @ self._split(key).transpose(-1, -2) / math.sqrt(dim // self.heads)
        logits = (logits + bias).masked_fill(~visible.unsqueeze(1), MASKED)
        mixed = functional.softmax(logits, dim=-1) @ self._split(value)
        joined = mixed.transpose(1, 2).reshape(-1, queries, dim)
        states = states[:, -queries:] + self.dropout(self.output(joined))
        hidden = self.dropout(functional.gelu(self.expand(self.net_norm(states))))
        result: Tensor = states + self.dropout(self.contract(hidden))
        return result

    def _split(self, states: Tensor) -> Tensor:
        batch, length, dim = states.shape
        return states.reshape(batch, length, self.heads, dim // self.heads).transpose(1, 2)


class UserTower(nn.Module):
    """User vectors from the last items and actions, user features and the asking surface."""

    def __init__(self, shape: TowerShape, features: FeatureTransform) -> None:
        super().__init__()
        self.shape = shape
        self.features = features
        self.actions = nn.Embedding(shape.actions + 1, shape.dim, padding_idx=0)
        self.start = nn.Parameter(torch.randn(shape.dim) * 0.02)
        self.input_dropout = Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dim)
        self.surfaces = nn.Embedding(shape.surfaces + 1, shape.dim)
        self.memory = nn.Embedding(shape.sequence_items + 1, shape.dim, padding_idx=0)
        self.memory_decay = nn.Parameter(initial_memory(shape.length))
        self.profile = nn.Embedding(shape.sequence_items + 1, shape.dim, padding_idx=0)
        self.profile_map = nn.Linear(shape.dim, shape.dim, bias=False)
        self.profile_gain = nn.Parameter(torch.ones(shape.actions + 1))
        # Weight of the trend by entity type: part of the losses' logits, and the ranker's start.
        self.trend = nn.Parameter(torch.full((shape.entity_types + 1,), 0.5))
        columns = len(features.mean)
        self.feature_map = nn.Linear(columns, shape.dim, bias=False) if columns else None
        nn.init.normal_(self.actions.weight, std=0.02)
        with torch.no_grad():
            self.actions.weight[0].zero_()
        nn.init.zeros_(self.surfaces.weight)
        nn.init.zeros_(self.memory.weight)
        nn.init.zeros_(self.profile.weight)
        nn.init.normal_(self.profile_map.weight, std=0.1 / math.sqrt(shape.dim))
        if self.feature_map is not None:
            nn.init.zeros_(self.feature_map.weight)

    def states(self, item_vectors: Tensor, items: Tensor, actions: Tensor, last: bool) -> Tensor:
        """What the history says: ``[B, T, dim]``, or ``[B, 1, dim]`` for the last position.

        ``item_vectors [B, T, dim]`` are the item tower's of ``items [B, T]`` (0 is padding, and the
        state before the first item). Position t sees items up to t only.
        """
        places = torch.arange(items.shape[1], device=items.device)
        distance = (places.unsqueeze(1) - places.unsqueeze(0)).clamp(min=0)
        age_weight = torch.exp(self.memory_decay)[distance] * (places.unsqueeze(1) >= places)
        if last:
            age_weight = age_weight[-1:]
        sums = age_weight @ self.memory(items) + self._profile(item_vectors, items, actions, last)
        if not len(self.blocks):
            plain: Tensor = self.start + self.input_dropout(sums)
            return plain
        both: Tensor = self._attended(item_vectors, items, actions, last) + sums
        return both

    def _attended(self, item_vectors: Tensor, items: Tensor, actions: Tensor, last: bool) -> Tensor:
        """The transformer's part of ``states``."""
        length = items.shape[1]
        known = items > 0
        scale = math.sqrt(self.shape.dim)
        states = item_vectors * known.unsqueeze(-1) * scale + self.actions(actions)
        states = self.input_dropout(states + self.start * (~known).unsqueeze(-1))
        places = torch.arange(length, device=items.device)
        distance = places.unsqueeze(1) - places.unsqueeze(0)
        # Padding is seen by nobody but itself: a row of the softmax must see something.
        visible = (known.unsqueeze(1) & (distance >= 0)) | (distance == 0)
        distance = distance.clamp(min=0)
        for number, block in enumerate(self.blocks, start=1):
            if last and number == len(self.blocks):
                states = block(states, visible[:, -1:], distance[-1:])
            else:
                states = block(states, visible, distance)
        result: Tensor = self.norm(states)
        return result

    def _profile(self, item_vectors: Tensor, items: Tensor, actions: Tensor, last: bool) -> Tensor:
        """Sum of a vector per past item, whatever its age, weighted by what was done with it.

        Divided by the root of the total weight, as in FISM (Kabbur et al. 2013, alpha = 1/2).
        """
        weight = (self.profile_gain[actions].abs() * (items > 0)).unsqueeze(-1)
        kept = (self.profile(items) + self.profile_map(item_vectors)) * weight
        if last:
            total, mass = kept.sum(dim=1, keepdim=True), weight.sum(dim=1, keepdim=True)
        else:
            total, mass = kept.cumsum(dim=1), weight.cumsum(dim=1)
        profile: Tensor = total / torch.sqrt(1.0 + mass)
        return profile

    def context(self, user_features: Tensor, surface: Tensor) -> Tensor:
        """What the request adds: raw ``user_features [B, U]``, ``surface [B]`` to ``[B, dim]``."""
        total: Tensor = self.surfaces(surface)
        if self.feature_map is not None:
            total = total + self.feature_map(self.features(user_features))
        return total


class ServingUserTower(nn.Module):
    """The exported user tower: item vectors of the sequence's vocabulary are baked in."""

    table: Tensor
    strength: Tensor

    def __init__(self, tower: UserTower, table: Tensor, strength: float = 1.0) -> None:
        """``table [V + 1, dim]``: the item tower's vectors by vocabulary row; row 0 is unused.
        ``strength``: what user vectors are multiplied by."""
        super().__init__()
        self.tower = tower
        self.register_buffer("table", table.detach().clone())
        self.register_buffer("strength", torch.tensor(strength))

    def forward(
        self, items: Tensor, actions: Tensor, user_features: Tensor, surface: Tensor
    ) -> Tensor:
        """User vectors ``[B, dim]``; inputs as in ``LoadedBundle.encode_users``."""
        states = self.tower.states(self.table[items], items, actions, last=True)
        vectors: Tensor = states[:, 0] + self.tower.context(user_features, surface)
        return vectors * self.strength
