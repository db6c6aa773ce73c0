"""What ``benchmarks.peers`` gives to another server: the ranker's graph, called bare.

Runs in the environment of that server, which has NumPy and ONNX Runtime but not Podium.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

ROWS = 500
DIM = 64
OBJECTIVES = 5


class Scorer:
    """The graph with the session options that Podium gives it: one thread, no spinning."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Probabilities float32 [B x ROWS, OBJECTIVES] of B calls: users [B, DIM], items
        [B x ROWS, DIM]."""
        owner = np.repeat(np.arange(len(users)), ROWS)
        feed = {"user_vector": users, "owner": owner, "item_vector": items}
        return self._session.run(None, feed)[0]


def encode_or_decode(
    encode: Callable[[np.ndarray, np.ndarray], bytes], decode: Callable[[bytes], np.ndarray]
) -> None:
    """The commands beside ``serve``: "encode CALLS.npz REQUESTS.npy", "decode ANSWER VALUES.npy".

    CALLS has ``users`` [n, DIM] and ``items`` [n, ROWS, DIM]; REQUESTS is uint8 [n, bytes].
    """
    command, source, target = sys.argv[1:4]
    if command == "encode":
        calls = np.load(source)
        pairs = zip(calls["users"], calls["items"], strict=True)
        encoded = [np.frombuffer(encode(user[None], items), np.uint8) for user, items in pairs]
        np.save(target, np.stack(encoded))
    else:
        np.save(target, decode(Path(source).read_bytes()))
