"""Trains the two towers: every position of every history in one causal pass, then positives of
the examples, which carry user features, surfaces and entity types that histories lack."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from offline.dataset.tables import TRAIN
from offline.training.batches import (
    Batch,
    held_out_events,
    training_windows,
    window_batches,
)
from offline.training.budget import CpuBudget, Progression
from offline.training.data import (
    BoolArray,
    Catalogue,
    Examples,
    FloatArray,
    Histories,
    IntArray,
    ItemRows,
    Vocabularies,
)
from offline.training.encode import encode_items, encode_users, item_tensors
from offline.training.layout import Layout
from offline.training.losses import full_softmax_loss, sampled_softmax_loss, taken_before
from offline.training.strength import fit_strengths
from offline.training.towers import MASKED, ItemTower, ServingUserTower, TowerShape, UserTower
from offline.training.transforms import FeatureTransform, logarithmic_columns
from offline.training.trend import Trend
from services.common.domain import Domain

# Catalogues up to this size are scored whole at every position.
FULL_SOFTMAX_ITEMS = 20_000
SAMPLED_ITEMS = 4_096
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
# Held-out events that the strengths are fitted on: two numbers need no more.
STRENGTH_EVENTS = 1_000
# How often a field is hidden in training, so that an item is placed by its other fields too.
FIELD_DROPOUT = 0.1

Advance = Callable[[float], None]


@dataclass(frozen=True)
class RetrievalData:
    """What the towers learn from.

    ``positives``: training examples with a good outcome, empty where histories say it all.
    ``available``: flags over the catalogue, items that existed when the training split ends.
    ``trend``: what is taken as given, where the domain names a trend.
    """

    layout: Layout
    vocabularies: Vocabularies
    catalogue: Catalogue
    histories: Histories
    positives: Examples
    available: BoolArray
    trend: Trend | None


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
        self.entity = layout.entity_index(layout.sequence_entity)
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
        self.final_actions = torch.tensor(data.layout.final_actions)
        self.windows = training_windows(data.histories, data.layout.sequence_length)
        self.input_rows = vocabulary_items(data)
        self.available = torch.from_numpy(np.flatnonzero(data.available))
        self.softmax_row = torch.full((len(data.available),), -1, dtype=torch.long)
        self.softmax_row[self.available] = torch.arange(len(self.available))
        self.log_share = _log_share(data, self.available.numpy())
        self.positive_log_share = _positive_log_share(data.positives)

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
            metrics = self._evaluate()
            validation.append(metrics.get("ndcg_at_10", 0.0))
            # Without validation events the last epoch stands.
            if not len(self.held_out.targets) or validation[-1] >= max(validation):
                best_metrics = metrics
                best = copy.deepcopy((self.item.state_dict(), self.user.state_dict()))
        if best is not None:
            self.item.load_state_dict(best[0])
            self.user.load_state_dict(best[1])
        self.strengths = self._fit_strengths()
        self.item.eval()
        self.user.eval()
        item, user = copy.deepcopy((self.item, self.user))
        return Towers(
            self.shape,
            item,
            user,
            self._serving_tower(item, user),
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
        serving = self._serving_tower(self.item, self.user)
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
                loss = self._positives_loss(positives.pop())
            else:
                batch = batches.pop()
                loss, positions = self.history_loss(batch)
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

    def history_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Mean loss of a batch of windows, and how many positions it has."""
        targets = torch.from_numpy(batch.targets)
        items = torch.from_numpy(batch.items)
        sampled = len(self.available) > FULL_SOFTMAX_ITEMS
        negatives = self._draw() if sampled else np.arange(len(self.available))
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
                self._given(asked_ms, torch.column_stack([wanted, drawn.expand(len(wanted), -1)])),
            )
        else:
            excluded = None
            if len(self.final_actions):
                gone = torch.isin(torch.from_numpy(batch.actions), self.final_actions)
                excluded = taken_before(place[self.input_rows[items * gone]], keep, place[wanted])
            # Row 0 of the vectors stands for unknown items; the softmax is over the catalogue.
            excluded = None if excluded is None else excluded - torch.tensor([[0], [1]])
            given = self._given(asked_ms, self.available)
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

    def _given(self, asked_ms: IntArray, rows: Tensor) -> Tensor | None:
        """What the trend says at ``asked_ms [N]`` of catalogue rows ``[V]`` or ``[N, V]``: a part
        of the logits ``[N, V]`` that the towers need not learn."""
        if self.data.trend is None:
            return None
        logs = self.data.trend.at(asked_ms[:, None], rows.numpy())
        return self.user.trend[self.entity] * torch.from_numpy(logs)

    def _draw(self) -> IntArray:
        """Negatives for a large catalogue: places in ``available``, drawn by their share."""
        return self.random.choice(
            len(self.available), SAMPLED_ITEMS, replace=True, p=np.exp(self.log_share)
        )

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

    def _positives_loss(self, rows: IntArray) -> Tensor:
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

    def _serving_tower(self, item: ItemTower, user: UserTower) -> ServingUserTower:
        vectors = torch.from_numpy(encode_items(item, self.data.catalogue.items))
        rows = self.input_rows
        table = torch.where((rows >= 0).unsqueeze(1), vectors[rows], 0.0)
        return ServingUserTower(user, table, self.strengths[0]).eval()

    def _evaluate(self) -> dict[str, float]:
        """Full ranking of the held-out events over the available catalogue."""
        if not len(self.held_out.targets):
            return {}
        scores, given = self._held_out_scores()
        # Candidates are retrieved without the trend; what is ranked first has it.
        retrieved = rank_metrics(_ranks(scores, self.held_out.targets))
        found = rank_metrics(_ranks(scores + given, self.held_out.targets))
        return found | {"recall_at_500": retrieved["recall_at_500"]}

    @torch.no_grad()
    def _held_out_scores(self) -> tuple[FloatArray, FloatArray]:
        """Scores of the held-out events by the towers ``[N, V]``, and by the trend ``[1, V]``."""
        self.item.eval()
        self.user.eval()
        held_out = self.held_out
        neutral = self.user.features.neutral().expand(len(held_out.targets), -1)
        users = encode_users(
            self._serving_tower(self.item, self.user),
            held_out.items,
            held_out.actions,
            neutral.numpy(),
            held_out.surfaces,
        )
        scores = users @ encode_items(self.item, self.data.catalogue.items).T
        scores[:, ~self.data.available] = MASKED
        if len(self.final_actions):
            scores[held_out.taken[0], held_out.taken[1]] = MASKED
        given = self._given(np.array([held_out.asked_ms]), torch.arange(scores.shape[1]))
        self.item.train()
        self.user.train()
        return scores, np.zeros(
            (1, scores.shape[1]), np.float32
        ) if given is None else given.numpy()

    def _fit_strengths(self) -> tuple[float, float]:
        """What the held-out events say of the towers' and the trend's weight against each other."""
        if self.data.trend is None or not len(self.held_out.targets):
            return 1.0, 1.0
        scores, given = self._held_out_scores()
        some = slice(0, STRENGTH_EVENTS)
        open_to = scores[some] > MASKED
        rows = np.flatnonzero(open_to[np.arange(len(open_to)), self.held_out.targets[some]])
        both = np.where(open_to, given, MASKED)[rows]
        return fit_strengths(
            torch.from_numpy(np.where(open_to, scores[some], 0.0)[rows]),
            torch.from_numpy(both),
            torch.from_numpy(self.held_out.targets[some][rows]),
        )


def vocabulary_items(data: RetrievalData) -> Tensor:
    """Catalogue row of each row of the sequence's vocabulary, int64 ``[V + 1]``; -1 where none."""
    ids = pa.array(data.catalogue.ids, pa.string())
    vocabulary = data.layout.sequence_vocabulary
    rows = data.vocabularies.rows(vocabulary, ids)
    found = torch.full((data.vocabularies.size(vocabulary) + 1,), -1, dtype=torch.long)
    found[torch.from_numpy(rows)] = torch.arange(len(rows))
    found[0] = -1
    return found


def _ranks(scores: FloatArray, wanted: IntArray) -> IntArray:
    """Rank from 0 of each row's wanted column; ties count for it."""
    own = np.take_along_axis(scores, wanted[:, None], axis=1)
    ranks: IntArray = (scores > own).sum(axis=1)
    return ranks


def rank_metrics(rank: IntArray) -> dict[str, float]:
    """Metrics of ranks from 0 over the whole catalogue, one relevant item a row."""
    gain = np.where(rank < 10, 1.0 / np.log2(rank + 2.0), 0.0)
    return {
        "hit_rate_at_10": float((rank < 10).mean()),
        "ndcg_at_10": float(gain.mean()),
        "mrr": float((1.0 / (rank + 1.0)).mean()),
        "recall_at_500": float((rank < 500).mean()),
    }


def _log_share(data: RetrievalData, available: IntArray) -> FloatArray:
    """Log of each available item's smoothed share of the training interactions: q of the draws."""
    targets = data.histories.targets[data.histories.split == TRAIN]
    counts = np.bincount(targets[targets >= 0], minlength=len(data.available))[available] + 1.0
    logs: FloatArray = np.log(counts / counts.sum())
    return logs


def _positive_log_share(positives: Examples) -> FloatArray:
    """Log share of each positive's item among the positives of its entity type, ``[N]``."""
    pair = np.stack([positives.entity_type, positives.catalogue_row], axis=1)
    _, item, counts = np.unique(pair, axis=0, return_inverse=True, return_counts=True)
    by_type = np.bincount(positives.entity_type, minlength=1)
    shares: FloatArray = np.log(counts[item.ravel()] / by_type[positives.entity_type])
    return shares
