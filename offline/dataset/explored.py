"""Slates that the ranker drew at random, from the log: what off-policy estimates stand on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from podium.event.v1 import event_pb2
from services.common.convert_event import is_live
from services.common.event_log import read_log
from services.common.exploration import Float32s, Floats, Integers, Mask, Steps
from services.common.log_marks import read_duplicate_marks


@dataclass(frozen=True)
class ExploredSlate:
    """One slate with what its draws were made from: C candidates, P positions, O objectives.

    ``log_propensities`` float64 [P], ``weights`` float32 [O], ``terms`` float32 [C, O],
    ``adjustments`` float32 [C] or None, ``similarities`` uint8 [P, C] or None, ``feasible`` bool
    [P, C], ``chosen`` int64 [P], ``earlier`` uint8 [C] or None, the similarities to what earlier
    pages showed; what they mean stands at ``Exploration`` in
    ``protos/podium/event/v1/event.proto``.
    """

    rank_id: str
    surface: str
    entity_type: str
    item_ids: tuple[str, ...]
    objectives: tuple[str, ...]
    log_propensities: Floats
    temperature: float
    similarity_weight: float
    weights: Float32s
    terms: Float32s
    adjustments: Float32s | None
    similarities: Steps | None
    feasible: Mask
    chosen: Integers
    earlier: Steps | None = None


def explored_slates(log_dir: Path, surface: str) -> Iterator[ExploredSlate]:
    """Every slate of LIVE traffic for ``surface`` that explored, in order of arrival."""
    marked = read_duplicate_marks(log_dir)
    for arrival, payload in read_log(log_dir):
        try:
            logged = event_pb2.LoggedEvent.FromString(payload)
        except DecodeError:
            continue
        event = logged.event
        slate = event.slate_served
        if logged.duplicate or arrival in marked or not is_live(event):
            continue
        if slate.surface == surface and slate.HasField("exploration") and slate.item_ids:
            yield _explored(event.rank_id, slate)


def _explored(rank_id: str, slate: event_pb2.SlateServed) -> ExploredSlate:
    drawn = slate.exploration
    positions, candidates = len(slate.item_ids), len(drawn.candidate_ids)
    packed = np.frombuffer(drawn.feasible, np.uint8).reshape(positions, -1)
    feasible = np.unpackbits(packed, axis=1, count=candidates, bitorder="little").astype(np.bool_)
    adjustments = np.frombuffer(drawn.adjustments, "<f4") if drawn.adjustments else None
    similarities = None
    if drawn.similarities:
        similarities = np.frombuffer(drawn.similarities, np.uint8).reshape(positions, candidates)
    return ExploredSlate(
        rank_id=rank_id,
        surface=slate.surface,
        entity_type=slate.entity_type,
        item_ids=tuple(slate.item_ids),
        objectives=tuple(slate.objectives),
        log_propensities=np.array(slate.log_propensities),
        temperature=drawn.temperature,
        similarity_weight=drawn.similarity_weight,
        weights=np.array(drawn.weights, np.float32),
        terms=np.frombuffer(drawn.terms, "<f4").reshape(candidates, len(slate.objectives)),
        adjustments=adjustments,
        similarities=similarities,
        feasible=feasible,
        chosen=np.array(drawn.chosen, np.int64),
        earlier=np.frombuffer(drawn.earlier_similarities, np.uint8)
        if drawn.earlier_similarities
        else None,
    )
