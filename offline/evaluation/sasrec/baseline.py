"""SASRec as a baseline: trained on a fold's histories, with softmax over all items.

It gets what our model gets: the last item of every history chooses the epoch, and is then learned
from; a fifth of the training is left for that, at a falling rate (``offline.training.retrieval``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline.dataset.tables import TRAIN, VALIDATION
from offline.evaluation.fold import Fold
from offline.evaluation.ragged import Ragged, Rows
from offline.evaluation.sasrec.network import Network, NetworkShape
from offline.training.batches import training_windows, window_batches
from offline.training.budget import CpuBudget, Progression
from offline.training.data import Histories
from offline.training.losses import full_softmax_loss
from offline.training.retrieval import FINAL_RATE, MORE_EPOCHS, MORE_RATE, WARM_UP_SHARE
from services.common.errors import FailedPrecondition

# Histories whose last item chooses the epoch; more are drawn from by seed.
VALIDATION_USERS = 5_000
_USERS_AT_ONCE = 512

Scores = NDArray[np.float32]
Advance = Callable[[float], None]


def _ignore(_share: float) -> None:
    return None


@dataclass(frozen=True)
class Sasrec:
    """Settings. ``budget_s``: CPU seconds that it may train, in place of ``epochs``.

    ``batch_items``: items that a batch of histories of similar length holds, about.
    """

    dim: int = 64
    layers: int = 2
    heads: int = 1
    dropout: float = 0.2
    length: int = 50
    learning_rate: float = 1e-3
    batch_items: int = 2_048
    epochs: int = 20
    budget_s: float | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """Family and settings."""
        return f"SASRec (d {self.dim}, {self.layers} layers, full softmax)"

    def fit(self, fold: Fold) -> SasrecScorer:
        """Learns from ``fold.history``; deterministic for a seed where no budget is set."""
        return self.trained(fold).scorer(fold)

    def trained(self, fold: Fold, *, advance: Advance = _ignore) -> TrainedSasrec:
        """As ``fit``. ``advance`` is told the share of the work done after each step."""
        return _Fit(self, fold, advance).run()


@dataclass(frozen=True)
class TrainedSasrec:
    """A trained network for ``items``; what its epochs said of the items left out (NDCG@10)."""

    network: Network
    items: tuple[str, ...]
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    hit_rate: float
    """HR@10 of the items left out, of the epoch that was kept."""

    def scorer(self, fold: Fold) -> SasrecScorer:
        """Raises ``FailedPrecondition`` for a fold of other items."""
        if fold.items != self.items:
            raise FailedPrecondition("this SASRec was trained for other items")
        return SasrecScorer(self.network, fold.history)

    def save(self, path: Path) -> None:
        """Writes it where ``load`` finds it."""
        described = asdict(self.network.shape)
        told = (self.losses, self.validation, self.hit_rate)
        torch.save((described, self.network.state_dict(), self.items, told), path)

    @classmethod
    def load(cls, path: Path) -> TrainedSasrec:
        """What ``save`` wrote."""
        described, state, items, told = torch.load(path, weights_only=True)
        network = Network(NetworkShape(**described))
        network.load_state_dict(state)
        return cls(network.eval(), items, *told)


@dataclass(frozen=True)
class SasrecScorer:
    """Inner products of all items with the state after a user's last one."""

    network: Network
    history: Ragged

    def score(self, users: Rows) -> Scores:
        """Scores float32 [B, I]. Whoever has no history is scored by padding alone."""
        parts = [np.zeros((0, self.network.shape.items), np.float32)]
        for start in range(0, len(users), _USERS_AT_ONCE):
            histories = self.history.take(users[start : start + _USERS_AT_ONCE])
            parts.append(_scores(self.network, last_items(histories, self.network.shape.length)))
        return np.concatenate(parts)


def last_items(histories: Ragged, length: int) -> Rows:
    """The last items of each history, right-aligned int64 [B, T], T at most ``length`` and at least
    1: item rows from 1, 0 where there is none."""
    used = np.minimum(histories.lengths, length)
    width = max(1, int(used.max(initial=0)))
    back = np.arange(width, 0, -1)
    inside = back[None, :] <= used[:, None]
    place = np.where(inside, histories.offsets[1:, None] - back[None, :], 0)
    if not len(histories.values):
        return np.zeros(place.shape, np.int64)
    return np.where(inside, histories.values[place] + 1, 0)


@torch.inference_mode()
def _scores(network: Network, items: Rows) -> Scores:
    states = network(torch.from_numpy(items))[:, -1]
    scores: Scores = (states @ network.table.T).numpy()
    return scores


class _Fit:
    """State of one training run."""

    def __init__(self, settings: Sasrec, fold: Fold, advance: Advance) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.fold, self.advance = settings, fold, advance
        self.random = np.random.default_rng(settings.seed)
        self.budget = None if settings.budget_s is None else CpuBudget(settings.budget_s)
        self.more_epochs = max(1, round(MORE_EPOCHS * settings.epochs))
        self.network = Network(
            NetworkShape(
                items=len(fold.items),
                dim=settings.dim,
                layers=settings.layers,
                heads=settings.heads,
                dropout=settings.dropout,
                length=settings.length,
            )
        )
        self.optimiser = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.98), fused=True)

    def run(self) -> TrainedSasrec:
        lengths = self.fold.history.lengths
        # Of a single item nothing is left to predict the last one from.
        left_out = np.flatnonzero(lengths > 1)
        histories = _histories(self.fold.history, left_out)
        asked = self.random.permutation(left_out)[:VALIDATION_USERS]
        losses: list[float] = []
        validation: list[float] = []
        hit_rate = 0.0
        best = copy.deepcopy(self.network.state_dict())
        share = 1 / (1 + MORE_EPOCHS)
        progression = self._progression(self.settings.epochs, share)
        while not progression.done:
            losses.append(self._epoch(histories, progression, 1.0, (0.0, share)))
            ndcg, hits = self._evaluate(asked)
            validation.append(ndcg)
            if ndcg >= max(validation):
                best, hit_rate = copy.deepcopy(self.network.state_dict()), hits
        self.network.load_state_dict(best)
        progression = self._progression(self.more_epochs, 1.0)
        histories = _histories(self.fold.history, left_out[:0])
        while not progression.done:
            self._epoch(histories, progression, MORE_RATE, (share, 1.0))
        items = self.fold.items
        return TrainedSasrec(self.network.eval(), items, tuple(losses), tuple(validation), hit_rate)

    def _progression(self, epochs: int, share: float) -> Progression:
        return Progression(epochs, None if self.budget is None else self.budget.part(share))

    def _epoch(
        self,
        histories: Histories,
        progression: Progression,
        of_rate: float,
        part: tuple[float, float],
    ) -> float:
        """One pass over all histories, or what the budget leaves of it; the mean loss."""
        self.network.train()
        batches = list(
            window_batches(
                histories,
                training_windows(histories, self.settings.length),
                tokens=self.settings.batch_items,
                ahead=1,
                random=self.random,
            )
        )
        total, count = 0.0, 0
        for done, batch in enumerate(batches):
            share = progression.share(done / len(batches))
            if share >= 1.0:
                break
            rate = self.settings.learning_rate * of_rate * max(FINAL_RATE, 1.0 - share)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * min(1.0, (share + 0.002) / WARM_UP_SHARE)
            loss, predicted = self._loss(
                torch.from_numpy(batch.items), torch.from_numpy(batch.targets)
            )
            if not predicted:
                continue
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()
            total += loss.item() * predicted
            count += predicted
            self.advance(part[0] + share * (part[1] - part[0]))
        progression.epoch += 1
        return total / max(count, 1)

    def _loss(self, items: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        """Mean cross-entropy of every position's next item, and how many positions have one."""
        # Nothing is predicted before the first item.
        keep = (targets >= 0) & (items > 0)
        states = self.network(items)[keep]
        return full_softmax_loss(states, self.network.table, targets[keep]), len(states)

    def _evaluate(self, asked: Rows) -> tuple[float, float]:
        """NDCG@10 and HR@10 of the last items of ``asked``, among what they had not before."""
        if not len(asked):
            return 0.0, 0.0
        self.network.eval()
        histories = self.fold.history.take(asked)
        wanted = histories.last()
        places = np.arange(len(histories.values))
        before = places < histories.offsets[1:][histories.owners] - 1
        inputs = Ragged.grouped(histories.owners[before], histories.values[before], len(asked))
        scores = SasrecScorer(self.network, inputs).score(np.arange(len(asked)))
        own = scores[np.arange(len(asked)), wanted]
        scores[inputs.owners, inputs.values] = -np.inf
        ranks = (scores > own[:, None]).sum(axis=1)
        gains = np.where(ranks < 10, 1.0 / np.log2(ranks + 2.0), 0.0)
        return float(gains.mean()), float((ranks < 10).mean())


def _histories(history: Ragged, left_out: Rows) -> Histories:
    """A fold's histories as training reads them; the last items of ``left_out`` [n] are not of the
    training split."""
    count = len(history.values)
    split = np.full(count, TRAIN, dtype=np.object_)
    split[history.offsets[1:][left_out] - 1] = VALIDATION
    zeros = np.zeros(count, np.int64)
    return Histories(
        items=history.values + 1,
        targets=history.values,
        actions=zeros,
        surfaces=zeros,
        times_ms=zeros,
        split=split,
        offsets=history.offsets,
    )
