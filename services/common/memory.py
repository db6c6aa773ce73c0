"""How often a process looks for garbage in cycles.

Reference counts free nearly all of what a request or a batch leaves. The collector finds what is
left, but looks through everything that the process keeps to do so: a full collection over a
catalogue and its caches takes tens of milliseconds.
"""

from __future__ import annotations

import gc
from typing import Final

BATCH_THRESHOLDS: Final = (100_000, 20, 100)
"""Objects made since the last collection of the youngest, and how many collections of one
generation bring about one of the next."""


def keep_for_good() -> None:
    """Takes what the process holds now out of the collector's sight: what was loaded to serve."""
    gc.collect()
    gc.freeze()


def collect_for_batches() -> None:
    """For a process that makes and drops many objects by the batch, without cycles."""
    gc.set_threshold(*BATCH_THRESHOLDS)
