"""Training windows of the causal pass: cut, bucketed by length, batched by token count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from offline.dataset.tables import TRAIN, VALIDATION
from offline.training.data import BoolArray, Histories, IntArray


@dataclass(frozen=True)
class Batch:
    """Right-aligned windows ``[B, T]``; ``targets`` -1 and 0 elsewhere where there is nothing.

    Position t predicts ``targets[:, t]`` on ``surfaces[:, t]`` from ``items[:, :t + 1]``: one of
    the user's next training events. A user's first input is 0, the state before anything happened.
    ``asked_ms``: when that event came, epoch ms.
    """

    items: IntArray
    actions: IntArray
    surfaces: IntArray
    asked_ms: IntArray
    targets: IntArray


@dataclass(frozen=True)
class Windows:
    """Stretches of histories whose every event is predicted: ``start``, ``stop`` into the flat
    arrays, ``end`` of the user's training events, and whether the event before ``start`` is the
    user's too."""

    start: IntArray
    stop: IntArray
    end: IntArray
    continued: BoolArray


def training_windows(histories: Histories, length: int) -> Windows:
    """Cuts each user's training events into windows of at most ``length``, the last one full.

    Cut from the end: the latest events, which say most about what comes next, get full context.
    """
    starts, stops, ends, continued = [], [], [], []
    in_training = histories.split == TRAIN
    before = np.r_[0, np.cumsum(in_training)]
    for first, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        last = stop = first + before[end] - before[first]
        while stop > first:
            start = max(first, stop - length)
            starts.append(start)
            stops.append(stop)
            ends.append(last)
            continued.append(start > first)
            stop = start
    return Windows(
        np.array(starts, np.int64),
        np.array(stops, np.int64),
        np.array(ends, np.int64),
        np.array(continued, bool),
    )


def window_batches(
    histories: Histories,
    windows: Windows,
    *,
    tokens: int,
    ahead: int,
    random: np.random.Generator,
) -> Iterator[Batch]:
    """Batches of similar lengths, about ``tokens`` positions each, in random order.

    Each position's target is drawn anew from the user's next ``ahead`` training events.
    """
    lengths = windows.stop - windows.start
    # Jitter below one item mixes windows of equal and neighbouring length anew each epoch.
    order = np.argsort(lengths + random.uniform(0, 2, len(lengths)), kind="stable")
    groups: list[IntArray] = []
    first = 0
    widest = 0
    for place, row in enumerate(order):
        widest_now = max(widest, int(lengths[row]))
        if place > first and widest_now * (place - first + 1) > tokens:
            groups.append(order[first:place])
            first, widest_now = place, int(lengths[row])
        widest = widest_now
    if len(order):
        groups.append(order[first:])
    for group in random.permutation(len(groups)):
        yield _window_batch(histories, windows, groups[group], ahead, random)


def _window_batch(
    histories: Histories,
    windows: Windows,
    rows: IntArray,
    ahead: int,
    random: np.random.Generator,
) -> Batch:
    start, stop = windows.start[rows], windows.stop[rows]
    width = int((stop - start).max())
    place = stop[:, None] - np.arange(width, 0, -1)[None, :]
    inside = place >= start[:, None]
    choices = np.minimum(ahead, windows.end[rows][:, None] - place)
    drawn = place + np.floor(random.random(place.shape) * choices).astype(np.int64)
    predicted = np.where(inside, drawn, 0)
    # The input of a position is the event before its target; a user's first has none.
    has_input = inside & ((place > start[:, None]) | windows.continued[rows][:, None])
    source = np.where(has_input, place - 1, 0)
    return Batch(
        items=np.where(has_input, histories.items[source], 0),
        actions=np.where(has_input, histories.actions[source], 0),
        surfaces=np.where(inside, histories.surfaces[predicted], 0),
        asked_ms=histories.times_ms[predicted],
        targets=np.where(inside, histories.targets[predicted], -1),
    )


@dataclass(frozen=True)
class HeldOut:
    """Held-out events to rank: right-aligned inputs ``[N, L]`` and the catalogue row of each.

    ``asked_ms``: as of when, epoch ms. ``taken``: (row, catalogue row) pairs ``[2, E]`` of what
    the user can't be shown any more.
    """

    items: IntArray
    actions: IntArray
    surfaces: IntArray
    asked_ms: int
    targets: IntArray
    taken: IntArray


def held_out_events(
    histories: Histories,
    *,
    length: int,
    limit: int,
    final_actions: tuple[int, ...],
    random: np.random.Generator,
) -> HeldOut:
    """At most ``limit`` validation events with a catalogue item, asked for as training ends.

    Each user is what the training events say, whenever in the validation split the event comes.
    ``final_actions`` are what a user does to an item once, such as a purchase: where validation
    has any, only they are asked for. Items met with one before are taken, and not asked for.
    """
    held_out = (histories.split == VALIDATION) & (histories.targets >= 0)
    final = held_out & np.isin(histories.actions, final_actions)
    places = np.flatnonzero(final if final.any() else held_out)
    if len(places) > limit:
        places = np.sort(random.choice(places, limit, replace=False))
    owner = np.searchsorted(histories.offsets, places, side="right") - 1
    first = histories.offsets[owner]
    trained = np.r_[0, np.cumsum(histories.split == TRAIN)]
    now = first + trained[histories.offsets[owner + 1]] - trained[first]
    source = now[:, None] - np.arange(length, 0, -1)[None, :]
    inside = source >= first[:, None]
    source = np.where(inside, source, 0)
    rows = np.repeat(np.arange(len(places)), now - first)
    past = np.concatenate(
        [np.arange(a, b) for a, b in zip(first, now, strict=True)] or [np.zeros(0, np.int64)]
    )
    gone = (histories.targets[past] >= 0) & np.isin(histories.actions[past], final_actions)
    taken = np.stack([rows[gone], histories.targets[past[gone]]])
    asked = np.ones(len(places), bool)
    asked[taken[0, taken[1] == histories.targets[places[taken[0]]]]] = False
    new_row = np.cumsum(asked) - 1
    taken = taken[:, asked[taken[0]]]
    return HeldOut(
        items=np.where(inside, histories.items[source], 0)[asked],
        actions=np.where(inside, histories.actions[source], 0)[asked],
        surfaces=histories.surfaces[places][asked],
        asked_ms=_first_time_ms(histories, VALIDATION),
        targets=histories.targets[places][asked],
        taken=np.stack([new_row[taken[0]], taken[1]]),
    )


def _first_time_ms(histories: Histories, split: str) -> int:
    times = histories.times_ms[histories.split == split]
    return int(times.min()) if len(times) else 0
