"""A log of slates that explored, with a dataset of what came of them, in a world that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import exp
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.event_log import LogWriter

ITEMS, POSITIONS = 5, 3
OBJECTIVES = ("click", "purchase")
SURFACE = "courses"
TEMPERATURE, SIMILARITY_WEIGHT = 1.0, 0.6


@dataclass(frozen=True)
class ExploredWorld:
    """Draws of three from five items: items 0 and 1 are of one host, which may stand once.

    ``terms`` [moods, items, objectives]: what the ranker predicts in a user's mood. A click on an
    item comes with that probability, halved where the item above was clicked.
    """

    weights: tuple[float, float] = (1.0, 1.0)
    moods: int = 3
    terms: np.ndarray = field(init=False)
    similarities: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(8)
        terms = rng.uniform(0.05, 0.9, (self.moods, ITEMS, len(OBJECTIVES))).astype(np.float32)
        alike = rng.integers(0, 256, (ITEMS, ITEMS)).astype(np.uint8)
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "similarities", np.maximum(alike, alike.T))

    def feasible(self, prefix: tuple[int, ...]) -> list[int]:
        """Items that may follow ``prefix``."""
        host_stands = bool({0, 1} & set(prefix))
        return [i for i in range(ITEMS) if i not in prefix and not (host_stands and i in (0, 1))]

    def chances(
        self, mood: int, prefix: tuple[int, ...], weights: tuple[float, float]
    ) -> dict[int, float]:
        """Probability of each item to be drawn after ``prefix``, written out."""
        base = self.terms[mood].astype(np.float64) @ np.array(weights)
        scores = {}
        for item in self.feasible(prefix):
            nearest = max((self.similarities[item, above] / 255 for above in prefix), default=0.0)
            scores[item] = exp(
                (base[item] / base.std() - SIMILARITY_WEIGHT * nearest) / TEMPERATURE
            )
        total = sum(scores.values())
        return {item: score / total for item, score in scores.items()}

    def truth(self, weights: tuple[float, float]) -> float:
        """Expected clicks a slate under ``weights``, over every slate and every click."""
        return sum(self._value(mood, (), False, weights) for mood in range(self.moods)) / self.moods

    def _value(
        self, mood: int, prefix: tuple[int, ...], clicked: bool, weights: tuple[float, float]
    ) -> float:
        if len(prefix) == POSITIONS:
            return 0.0
        value = 0.0
        for item, chance in self.chances(mood, prefix, weights).items():
            click = self.click_chance(mood, item, clicked)
            then = (*prefix, item)
            value += chance * (
                click * (1.0 + self._value(mood, then, True, weights))
                + (1.0 - click) * self._value(mood, then, False, weights)
            )
        return value

    def click_chance(self, mood: int, item: int, clicked_above: bool) -> float:
        """Probability of a click."""
        return float(self.terms[mood, item, 0]) * (0.5 if clicked_above else 1.0)

    def write(self, log: Path, dataset: Path, *, slates: int, seed: int = 0) -> None:
        """A log of ``slates``, two a user, and the examples of a dataset."""
        rng = np.random.default_rng(seed)
        rows: list[tuple[str, str, str, int, bool]] = []
        with LogWriter(log) as writer:
            records = []
            for number in range(slates):
                mood, rank_id, user = number % self.moods, f"rank-{number}", f"user-{number // 2}"
                event = self._event(rng, mood, rank_id)
                clicked = False
                for item in event.slate_served.item_ids:
                    clicked = rng.random() < self.click_chance(mood, int(item), clicked)
                    rows.append((rank_id, user, item, int(clicked), True))
                records.append(event_pb2.LoggedEvent(event=event).SerializeToString())
            writer.append(records)
        write_examples(dataset, rows)

    def _event(self, rng: np.random.Generator, mood: int, rank_id: str) -> event_pb2.Event:
        chosen: tuple[int, ...] = ()
        logs = []
        feasible = np.zeros((POSITIONS, ITEMS), dtype=np.bool_)
        for position in range(POSITIONS):
            chances = self.chances(mood, chosen, self.weights)
            feasible[position, list(chances)] = True
            item = int(rng.choice(list(chances), p=list(chances.values())))
            logs.append(float(np.log(chances[item])))
            chosen = (*chosen, item)
        return explored_event(
            rank_id,
            chosen,
            event_pb2.Exploration(
                share=0.02,
                temperature=TEMPERATURE,
                similarity_weight=SIMILARITY_WEIGHT,
                spread=1.0,
                weights=self.weights,
                candidate_ids=[str(item) for item in range(ITEMS)],
                considered_count=ITEMS,
                terms=self.terms[mood].tobytes(),
                similarities=self.similarities[list(chosen)].tobytes(),
                feasible=np.packbits(feasible, axis=1, bitorder="little").tobytes(),
                chosen=chosen,
            ),
            logs,
        )


def explored_event(
    rank_id: str, items: tuple[int, ...], drawn: event_pb2.Exploration, logs: list[float]
) -> event_pb2.Event:
    """One slate of ``items``, drawn with log-propensities ``logs``."""
    return event_pb2.Event(
        event_id=f"event-{rank_id}",
        type="slate_served",
        rank_id=rank_id,
        traffic_class=common_pb2.TRAFFIC_CLASS_LIVE,
        slate_served=event_pb2.SlateServed(
            surface=SURFACE,
            entity_type="course",
            item_ids=[str(item) for item in items],
            objectives=OBJECTIVES,
            log_propensities=logs,
            exploration=drawn,
        ),
    )


def write_examples(dataset: Path, rows: list[tuple[str, str, str, int, bool]]) -> None:
    """Examples of (rank_id, user, item, clicked, mature)."""
    names = ("rank_id", "user", "entity_id", "y.click", "m.click")
    columns: Iterator[tuple[object, ...]] = zip(*rows, strict=True)
    dataset.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table(dict(zip(names, map(list, columns), strict=True))), dataset / "examples.parquet"
    )
