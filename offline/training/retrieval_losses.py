"""The losses of the towers over what they learn from: histories and positives."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from offline.training.batches import Batch
from offline.training.data import IntArray, ItemRows
from offline.training.encode import encode_items, item_tensors
from offline.training.losses import full_softmax_loss, sampled_softmax_loss, taken_before
from offline.training.retrieval_data import (
    RetrievalData,
    log_share,
    positive_log_share,
    vocabulary_items,
)
from offline.training.towers import ItemTower, ServingUserTower, TowerShape, UserTower

# Catalogues up to this size are scored whole at every position.
FULL_SOFTMAX_ITEMS = 20_000
SAMPLED_ITEMS = 4_096
# How often a field is hidden in training, so that an item is placed by its other fields too.
FIELD_DROPOUT = 0.1


class TowerLosses:
    """Losses of one pair of towers on one set of data."""

    def __init__(
        self,
        data: RetrievalData,
        shape: TowerShape,
        item: ItemTower,
        user: UserTower,
        random: np.random.Generator,
    ) -> None:
        self.data = data
        self.shape = shape
        self.item = item
        self.user = user
        self.random = random
        layout = data.layout
        self.entity = layout.entity_index(layout.sequence_entity)
        self.final_actions = torch.tensor(layout.final_actions)
        self.input_rows = vocabulary_items(data)
        self.available = torch.from_numpy(np.flatnonzero(data.available))
        self.log_share = log_share(data, self.available.numpy())
        self.positive_log_share = positive_log_share(data.positives)

    def of_histories(self, batch: Batch) -> tuple[Tensor, int]:
        """Mean loss of a batch of windows, and how many positions it has."""
        targets = torch.from_numpy(batch.targets)
        items = torch.from_numpy(batch.items)
        sampled = len(self.available) > FULL_SOFTMAX_ITEMS
        negatives = self.draw() if sampled else np.arange(len(self.available))
        vectors, place = self._vectors(batch, negatives)
        inputs = vectors[place[self.input_rows[items]]]
        states = self.user.states(inputs, items, torch.from_numpy(batch.actions), last=False)
        states = states + self.user.surfaces(torch.from_numpy(batch.surfaces))
        keep = targets >= 0
        queries, wanted = states[keep], targets[keep]
        asked_ms = batch.asked_ms[keep.numpy()]
        if sampled:
            drawn = self.available[torch.from_numpy(negatives)]
            log_expected = torch.from_numpy(self.log_share[negatives]) + math.log(len(negatives))
            loss = sampled_softmax_loss(
                queries,
                vectors[place[wanted]],
                vectors[place[drawn]],
                log_expected.float(),
                wanted.unsqueeze(1) == drawn.unsqueeze(0),
                self.given(asked_ms, torch.column_stack([wanted, drawn.expand(len(wanted), -1)])),
            )
        else:
            excluded = None
            if len(self.final_actions):
                gone = torch.isin(torch.from_numpy(batch.actions), self.final_actions)
                excluded = taken_before(place[self.input_rows[items * gone]], keep, place[wanted])
            # Row 0 of the vectors stands for unknown items; the softmax is over the catalogue.
            excluded = None if excluded is None else excluded - torch.tensor([[0], [1]])
            given = self.given(asked_ms, self.available)
            loss = full_softmax_loss(queries, vectors[1:], place[wanted] - 1, given, excluded)
        return loss, len(wanted)

    def _vectors(self, batch: Batch, negatives: IntArray) -> tuple[Tensor, Tensor]:
        """Vectors of the catalogue items a batch needs, ``[n + 1, dim]`` with zeros in row 0, and
        where each catalogue row (and -1, by wrapping) is found in them."""
        rows = self.available.numpy()
        if len(negatives) < len(rows):
            inputs = self.input_rows.numpy()[batch.items]
            rows = np.unique(np.r_[rows[negatives], inputs.ravel(), batch.targets.ravel()])
            rows = rows[rows >= 0]
        place = torch.zeros(len(self.data.available) + 1, dtype=torch.long)
        place[torch.from_numpy(rows)] = torch.arange(1, len(rows) + 1)
        vectors = self._item_vectors(self.data.catalogue.items.take(rows))
        return torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors]), place

    def given(self, asked_ms: IntArray, rows: Tensor) -> Tensor | None:
        """What the trend says at ``asked_ms [N]`` of catalogue rows ``[V]`` or ``[N, V]``: a part
        of the logits ``[N, V]`` that the towers need not learn."""
        if self.data.trend is None:
            return None
        logs = self.data.trend.at(asked_ms[:, None], rows.numpy())
        return self.user.trend[self.entity] * torch.from_numpy(logs)

    def draw(self) -> IntArray:
        """Negatives for a large catalogue: places in ``available``, drawn by their share."""
        return self.random.choice(
            len(self.available), SAMPLED_ITEMS, replace=True, p=np.exp(self.log_share)
        )

    def of_positives(self, rows: IntArray) -> Tensor:
        """Softmax among the positives of a batch, corrected for how often each item is one."""
        positives = self.data.positives
        recent = positives.recent_items[rows]
        width = max(1, int((recent > 0).sum(axis=1).max()))
        items = torch.from_numpy(recent[:, -width:])
        actions = torch.from_numpy(positives.recent_actions[rows, -width:])
        needed = np.unique(self.input_rows.numpy()[recent])
        needed = needed[needed >= 0]
        place = torch.zeros(len(self.data.available) + 1, dtype=torch.long)
        place[torch.from_numpy(needed)] = torch.arange(1, len(needed) + 1)
        vectors = self._item_vectors(self.data.catalogue.items.take(needed))
        vectors = torch.cat([vectors.new_zeros(1, self.shape.dim), vectors])
        states = self.user.states(vectors[place[self.input_rows[items]]], items, actions, last=True)
        queries = states[:, 0] + self.user.context(
            torch.from_numpy(positives.user_features[rows]),
            torch.from_numpy(positives.surface[rows]),
        )
        answers = self._item_vectors(positives.items.take(rows))
        same_as = torch.from_numpy(positives.catalogue_row[rows])
        same = (same_as.unsqueeze(1) == same_as.unsqueeze(0)) & (same_as >= 0).unsqueeze(1)
        same = same | torch.eye(len(rows), dtype=torch.bool)
        log_expected = torch.from_numpy(self.positive_log_share[rows]) + math.log(len(rows))
        given = None
        if self.data.trend is not None:
            logs = torch.from_numpy(np.log1p(positives.item_features[rows, self.data.trend.column]))
            own = self.user.trend[torch.from_numpy(positives.entity_type[rows])] * logs
            given = torch.cat([own.unsqueeze(1), own.expand(len(rows), -1)], dim=1)
        return sampled_softmax_loss(queries, answers, answers, log_expected.float(), same, given)

    def _item_vectors(self, items: ItemRows) -> Tensor:
        """Item vectors in training: some fields are hidden where there is more than one."""
        entity_type, fields, numeric = item_tensors(items)
        if fields.shape[1] > 1:
            fields = fields * (torch.rand(fields.shape) >= FIELD_DROPOUT)
        vectors: Tensor = self.item(entity_type, fields, numeric)
        return vectors

    def serving_tower(self, item: ItemTower, user: UserTower, strength: float) -> ServingUserTower:
        """What serves ``user`` over the vectors that ``item`` gives this catalogue."""
        vectors = torch.from_numpy(encode_items(item, self.data.catalogue.items))
        rows = self.input_rows
        table = torch.where((rows >= 0).unsqueeze(1), vectors[rows], 0.0)
        return ServingUserTower(user, table, strength).eval()
