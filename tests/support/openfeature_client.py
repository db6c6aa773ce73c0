"""A team's own process with OpenFeature's SDK and flagd's provider, as they come.

    python -m tests.support.openfeature_client PORT FEATURE_TARGET

It has the hook of ``docs/experiments.md``, which tells of exposures at FEATURE_TARGET.
Every line of standard input is a JSON list: ``["boolean" | "string" | "integer" | "float" |
"object", key, default, targeting key, attributes]`` answers with what the SDK says,
``["changed", key]`` once an event has named the key as changed. Answers are lines of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent

from podium.feature.v1 import feature_pb2_grpc
from tests.support.readme import blocks

DOCS = Path(__file__).parents[2] / "docs" / "experiments.md"
PATIENCE_S = 30.0


class Changes:
    """Keys that events have named as changed."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._more = threading.Condition()

    def told(self, details: EventDetails) -> None:
        """Takes an event."""
        with self._more:
            self._keys |= set(details.flags_changed or ())
            self._more.notify_all()

    def wait(self, key: str) -> bool:
        """Whether a key was named in time."""
        with self._more:
            return self._more.wait_for(lambda: key in self._keys, PATIENCE_S)


def add_documented_hook(features: feature_pb2_grpc.FeatureServiceStub) -> None:
    """Runs the block of the documentation that adds the hook."""
    (block,) = [code for code in blocks(DOCS, "python") if "(Hook)" in code]
    exec(block, {"features": features})  # noqa: S102 - it is ours, and what is to be tried


def main(port: int, feature_target: str) -> None:
    """Serves standard input until it ends."""
    changes = Changes()
    channel = grpc.insecure_channel(feature_target)
    add_documented_hook(feature_pb2_grpc.FeatureServiceStub(channel))
    api.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, changes.told)
    # The provider starts with its own settings: a cache among them.
    api.set_provider_and_wait(FlagdProvider("127.0.0.1", port, deadline_ms=10_000))
    client = api.get_client()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        kind, key, *rest = json.loads(line)
        answer: Any
        if kind == "changed":
            answer = changes.wait(key)
        else:
            default, targeting_key, attributes = rest
            context = EvaluationContext(targeting_key, attributes)
            details = getattr(client, f"get_{kind}_details")(key, default, context)
            answer = asdict(details)
        print(json.dumps(answer), flush=True)
    api.shutdown()
    channel.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
