"""Trains the two towers: every position of every history in one causal pass, then positives of
the examples, which carry user features, surfaces and entity types that histories lack."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from offline.training.batches import (
    held_out_events,
    training_windows,
    window_batches,
)
from offline.training.budget import CpuBudget, Progression
from offline.training.data import (
    IntArray,
)
from offline.training.retrieval_data import RetrievalData
from offline.training.retrieval_losses import TowerLosses
from offline.training.retrieval_validation import tower_metrics, validated_strengths
from offline.training.towers import ItemTower, ServingUserTower, TowerShape, UserTower
from offline.training.transforms import FeatureTransform, logarithmic_columns
from services.common.domain import Domain

VALIDATION_EVENTS = 5_000
POSITIVES_BATCH = 512
# Positives of an epoch read at most this many times the events that the histories hold: each
# brings a history of its own for a single prediction.
POSITIVES_SHARE = 0.5
# Positions a batch holds per sequence of the configured batch size: histories are mostly short.
TOKENS_PER_SEQUENCE = 16
WARM_UP_SHARE = 0.03
FINAL_RATE = 0.02
# Epochs with the latest data, as a share of those before, and where their rate begins.
MORE_EPOCHS = 0.25
MORE_RATE = 0.5

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Towers:
    """Trained towers, and what validation said epoch by epoch (``validation``: NDCG@10).

    ``strengths``: how much validation believes the towers, whose user vectors are served times
    that, and the trend beside them, in terms of what training made of each.
    """

    shape: TowerShape
    item: ItemTower
    user: UserTower
    serving_user: ServingUserTower
    strengths: tuple[float, float]
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    metrics: dict[str, float]


def fit_towers(
    domain: Domain,
    data: RetrievalData,
    *,
    seed: int,
    advance: Advance,
    latest: RetrievalData | None = None,
    budget: CpuBudget | None = None,
) -> tuple[Towers, Towers]:
    """Trains the towers; returns those of the epoch with the best validation NDCG@10, twice.

    The second pair has gone on with ``latest``, where it is given: the same data with what
    validation held back. What is served should know the latest items and habits; what validation
    says is about the first pair. ``advance`` is told the share of the work done after each step.
    Deterministic for a seed and a number of threads. With a ``budget`` it decides, not the
    domain's number of epochs, when training ends, and the machine's speed what comes out.
    """
    fit = TowerFit(domain, data, seed, advance, goes_on=latest is not None, budget=budget)
    selected = fit.run()
    return selected, fit.go_on(latest, selected) if latest is not None else selected


class TowerFit:
    """State of one training run."""

    def __init__(
        self,
        domain: Domain,
        data: RetrievalData,
        seed: int,
        advance: Advance,
        *,
        goes_on: bool,
        budget: CpuBudget | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.options = domain.model.retrieval
        self.budget = budget
        more = max(1, round(MORE_EPOCHS * self.options.epochs)) if goes_on else 0
        self.more_epochs = more
        self.share_of_run = self.options.epochs / (self.options.epochs + more)
        if budget is not None:
            self.share_of_run = 1 / (1 + MORE_EPOCHS) if goes_on else 1.0
        self.advance = advance
        layout = data.layout
        self.shape = TowerShape(
            dim=self.options.dim,
            layers=self.options.layers,
            heads=self.options.heads,
            dropout=self.options.dropout,
            length=layout.sequence_length,
            entity_types=len(layout.entity_types),
            vocabularies=tuple(data.vocabularies.size(name) for name in layout.tower_fields),
            sequence_items=data.vocabularies.size(layout.sequence_vocabulary),
            actions=len(layout.action_names),
            surfaces=len(layout.surfaces),
        )
        numeric = FeatureTransform([True] * len(layout.tower_numeric))
        numeric.fit(np.concatenate([data.catalogue.items.numeric, data.positives.items.numeric]))
        features = FeatureTransform(logarithmic_columns(domain, layout.user_features))
        features.fit(data.positives.user_features)
        self.item = ItemTower(self.shape, numeric)
        self.user = UserTower(self.shape, features)
        self.optimiser = torch.optim.Adam(
            [*self.item.parameters(), *self.user.parameters()], betas=(0.9, 0.98), fused=True
        )
        self.first_data = data
        self.strengths = (1.0, 1.0)
        self._learn_from(data)
        self._forget_unseen()
        self.held_out = held_out_events(
            data.histories,
            length=layout.sequence_length,
            limit=VALIDATION_EVENTS,
            final_actions=layout.final_actions,
            random=self.random,
        )

    def _learn_from(self, data: RetrievalData) -> None:
        """Makes ``data`` what the next epochs read."""
        self.data = data
        self.windows = training_windows(data.histories, data.layout.sequence_length)
        self.losses = TowerLosses(data, self.shape, self.item, self.user, self.random)

    def _forget_unseen(self) -> None:
        """Zeroes the embeddings of values that nothing trains: chance must not reach a score."""
        known = self.data.catalogue.items.fields[self.data.available]
        fields = np.concatenate([known, self.data.positives.items.fields])
        for column in range(len(self.item.fields)):
            unseen = np.setdiff1d(np.arange(self.shape.vocabularies[column] + 1), fields[:, column])
            self.item.forget(column, torch.from_numpy(unseen))

    def run(self) -> Towers:
        losses: list[float] = []
        validation: list[float] = []
        best: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None
        best_metrics: dict[str, float] = {}
        progression = self._progression(self.options.epochs, self.share_of_run)
        while not progression.done:
            losses.append(self._epoch(progression, self.options.learning_rate))
            metrics = tower_metrics(self.losses, self.held_out)
            validation.append(metrics.get("ndcg_at_10", 0.0))
            # Without validation events the last epoch stands.
            if not len(self.held_out.targets) or validation[-1] >= max(validation):
                best_metrics = metrics
                best = copy.deepcopy((self.item.state_dict(), self.user.state_dict()))
        if best is not None:
            self.item.load_state_dict(best[0])
            self.user.load_state_dict(best[1])
        self.strengths = validated_strengths(self.losses, self.held_out)
        self.item.eval()
        self.user.eval()
        item, user = copy.deepcopy((self.item, self.user))
        return Towers(
            self.shape,
            item,
            user,
            self.losses.serving_tower(item, user, self.strengths[0]),
            self.strengths,
            tuple(losses),
            tuple(validation),
            best_metrics,
        )

    def go_on(self, latest: RetrievalData, selected: Towers) -> Towers:
        """Some more epochs on ``latest``, at a falling rate, from where ``run`` ended."""
        self._learn_from(latest)
        self.item.train()
        self.user.train()
        progression = self._progression(self.more_epochs, 1.0)
        while not progression.done:
            self._epoch(progression, self.options.learning_rate * MORE_RATE)
        self.item.eval()
        self.user.eval()
        serving = self.losses.serving_tower(self.item, self.user, self.strengths[0])
        return replace(selected, item=self.item, user=self.user, serving_user=serving)

    def _progression(self, epochs: int, share: float) -> Progression:
        """Of a run of ``epochs``, or of ``share`` of what is left of the budget."""
        return Progression(epochs, None if self.budget is None else self.budget.part(share))

    def _epoch(self, progression: Progression, learning_rate: float) -> float:
        """One pass over all histories and all positives, or what the budget leaves of it; the mean
        loss of a position."""
        tokens = self.options.batch_size * TOKENS_PER_SEQUENCE
        batches = list(
            window_batches(
                self.data.histories,
                self.windows,
                tokens=tokens,
                ahead=self.options.ahead,
                random=self.random,
            )
        )
        positives = list(self._positive_batches())
        kinds = np.r_[np.zeros(len(batches), int), np.ones(len(positives), int)]
        self.random.shuffle(kinds)
        total, count = 0.0, 0
        for done, kind in enumerate(kinds):
            share = progression.share(done / len(kinds))
            if share >= 1.0:
                break
            rate = learning_rate * max(FINAL_RATE, 1.0 - share)
            rate *= min(1.0, (share + 0.002) / WARM_UP_SHARE)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            if kind:
                loss = self.losses.of_positives(positives.pop())
            else:
                batch = batches.pop()
                loss, positions = self.losses.of_histories(batch)
                total += loss.item() * positions
                count += positions
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(
                [p for g in self.optimiser.param_groups for p in g["params"]], 5.0
            )
            self.optimiser.step()
            first = self.data is self.first_data
            before, part = (0.0, self.share_of_run) if first else (self.share_of_run, 1.0)
            self.advance(before + share * (part - before))
        progression.epoch += 1
        return total / max(count, 1)

    def _positive_batches(self) -> Iterator[IntArray]:
        """Rows of an epoch's positives, one entity type a batch."""
        positives = self.data.positives
        events = int((self.windows.stop - self.windows.start).sum())
        limit = max(POSITIVES_BATCH, int(POSITIVES_SHARE * events / self.shape.length))
        chosen = self.random.permutation(len(positives))[:limit]
        for entity in np.unique(positives.entity_type):
            rows = chosen[positives.entity_type[chosen] == entity]
            for first in range(0, len(rows), POSITIVES_BATCH):
                if len(rows) - first > 1:
                    yield rows[first : first + POSITIVES_BATCH]
