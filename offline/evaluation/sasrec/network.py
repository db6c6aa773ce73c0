"""The network of SASRec: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation", ICDM,
arXiv:1808.09781.

Item embeddings and learned positions (section 3.1); blocks of causal self-attention and a
point-wise net, each as x + Dropout(g(LayerNorm(x))) (sections 3.2 and 3.3); an item is scored by
the inner product of its embedding, the one the input has, and the last state (section 3.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from offline.training.towers import Dropout


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the network. ``length``: positions it knows; older items are not seen."""

    items: int
    dim: int
    layers: int
    heads: int
    dropout: float
    length: int


class Block(nn.Module):
    """Causal self-attention, then a net at every position."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.dim)
        self.projections = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.net_norm = nn.LayerNorm(shape.dim)
        self.inner = nn.Linear(shape.dim, shape.dim)
        self.outer = nn.Linear(shape.dim, shape.dim)
        self.dropout = Dropout(shape.dropout)

    def forward(self, states: Tensor, visible: Tensor) -> Tensor:
        """``states [B, T, dim]``; ``visible [B, 1, T, T]``: whether a row may see a column."""
        batch, length, dim = states.shape
        parts = self.projections(self.attention_norm(states))
        query, key, value = (
            part.reshape(batch, length, self.heads, dim // self.heads).transpose(1, 2)
            for part in parts.split(dim, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        states = states + self.dropout(mixed.transpose(1, 2).reshape(batch, length, dim))
        hidden = self.dropout(functional.relu(self.inner(self.net_norm(states))))
        result: Tensor = states + self.dropout(self.outer(hidden))
        return result


class Network(nn.Module):
    """States of histories, and the items' embeddings."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.items = nn.Embedding(shape.items + 1, shape.dim, padding_idx=0)
        self.positions = nn.Embedding(shape.length, shape.dim)
        self.dropout = Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.dim)
        nn.init.normal_(self.items.weight, std=1.0 / math.sqrt(shape.dim))
        nn.init.normal_(self.positions.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[0].zero_()

    def forward(self, items: Tensor) -> Tensor:
        """States ``[B, T, dim]`` of right-aligned ``items [B, T]``, T at most ``length``: item rows
        from 1, 0 where there is none. The state at a position knows the items up to it."""
        length = items.shape[1]
        known = items > 0
        # Counted from the right: the last item stands at the last position, as in the paper.
        positions = self.positions.weight[self.shape.length - length :]
        states = self.items(items) * math.sqrt(self.shape.dim) + positions
        states = self.dropout(states) * known.unsqueeze(-1)
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        # Padding sees itself: a row of the softmax must see something.
        visible = (causal & known.unsqueeze(1)) | torch.eye(length, dtype=torch.bool)
        for block in self.blocks:
            states = block(states, visible.unsqueeze(1))
        result: Tensor = self.norm(states)
        return result

    @property
    def table(self) -> Tensor:
        """Embeddings of all items, ``[I, dim]``."""
        return self.items.weight[1:]
