"""A process of watchers: ``python -m benchmarks.watch_client KIND TARGET WATCHERS CHANNELS``.

Reads the request (hex) from standard input, opens that many streams and prints ``ready`` when each
has begun: of entities and experiments when it has its snapshot, of flags when it is told that the
service is there. From then on every line on standard input asks for what came since the last: one
JSON object with, for every room that ended, or experiment that changed, when (epoch seconds) each
watcher got the step that said so first. A step that many watchers get is decoded once: decoding is
not what is measured. The process stands for other machines: it gives way to everything else on this
one (``give_way``).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import numpy as np

from benchmarks.processes import give_way
from podium.experiment.v1.experiment_pb2 import WatchExperimentsResponse
from podium.feature.v1.feature_pb2 import WatchEntitiesResponse
from podium.flagd.evaluation.v2.evaluation_pb2 import EventStreamResponse

_KEPT_STEPS = 64


class Step(NamedTuple):
    """What a message of a stream says: whether the stream has begun with it, and what of those that
    are waited for has happened."""

    begins: bool
    happened: list[str]


def _of_entities(data: bytes) -> Step:
    """Rooms that are not live any more."""
    step = WatchEntitiesResponse.FromString(data)
    rooms = []
    for rows in step.delta.upserts:
        if rows.entity_type == "room":
            width = len(rows.block.int_features)
            live = list(rows.block.int_features).index("live")
            values = np.frombuffer(rows.block.int_values, "<i8").reshape(-1, width)
            rooms += [rows.ids[at] for at in np.flatnonzero(values[:, live] == 0)]
    return Step(step.WhichOneof("step") == "snapshot_end", rooms)


def _of_experiments(data: bytes) -> Step:
    """Experiments that changed."""
    step = WatchExperimentsResponse.FromString(data)
    begins = step.WhichOneof("step") == "snapshot_end"
    return Step(begins, [definition.key for definition in step.delta.upserts])


def _of_flags(data: bytes) -> Step:
    """Flags, which experiments are among, that changed."""
    event = EventStreamResponse.FromString(data)
    changed = event.data.fields["flags"].struct_value.fields if event.HasField("data") else ()
    return Step(event.type == "provider_ready", list(changed))


class Kind(NamedTuple):
    """What is watched."""

    method: str
    decode: Callable[[bytes], Step]


KINDS = {
    "entities": Kind("/podium.feature.v1.FeatureService/WatchEntities", _of_entities),
    "experiments": Kind(
        "/podium.experiment.v1.ExperimentService/WatchExperiments", _of_experiments
    ),
    "flags": Kind("/flagd.evaluation.v2.Service/EventStream", _of_flags),
}


class Watchers:
    """Streams over some channels, and when each saw what happen."""

    def __init__(self, kind: Kind, target: str, channels: int) -> None:
        self._kind = kind
        # A channel of its own is a connection of its own.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(channels)]
        self._decoded: OrderedDict[bytes, Step] = OrderedDict()
        self.ready = 0
        self.broken = 0
        self.refused = 0
        self.forget()

    def forget(self) -> None:
        """Starts counting anew."""
        self.seen_s: dict[str, list[float]] = defaultdict(list)
        self.steps = self.steps_bytes = 0

    def report(self) -> dict[str, Any]:
        """What was counted."""
        return {
            "seen_s": self.seen_s,
            "steps": self.steps,
            "bytes": self.steps_bytes,
            "broken": self.broken,
            "refused": self.refused,
        }

    async def watch(self, number: int, request: bytes) -> None:
        """One watcher. A stream that a server under pressure refuses is opened again."""
        while not await self._stream(self._channels[number % len(self._channels)], request):
            await asyncio.sleep(1.0)

    async def _stream(self, channel: grpc.aio.Channel, request: bytes) -> bool:
        """One stream; whether it had begun when it ended."""
        seen: set[str] = set()
        begun = False
        try:
            method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
            method = channel.unary_stream(self._kind.method)
            async for data in method(request):
                now_s = time.time()
                self.steps += 1
                self.steps_bytes += len(data)
                step = self._decode(data)
                if step.begins:
                    begun = True
                    self.ready += 1
                for key in step.happened:
                    if key not in seen:
                        seen.add(key)
                        self.seen_s[key].append(now_s)
        except grpc.RpcError:
            self.broken += begun
            self.refused += not begun
        return begun

    def _decode(self, data: bytes) -> Step:
        known = self._decoded.get(data)
        if known is None:
            known = self._decoded[data] = self._kind.decode(data)
            if len(self._decoded) > _KEPT_STEPS:
                self._decoded.popitem(last=False)
        return known


async def main(kind: str, target: str, watchers: int, channels: int) -> None:
    """Runs until standard input ends."""
    give_way()
    request = bytes.fromhex(sys.stdin.readline().strip())
    found = Watchers(KINDS[kind], target, channels)
    tasks = []
    for number in range(watchers):
        tasks.append(asyncio.create_task(found.watch(number, request)))
        if number % 20 == 0:
            await asyncio.sleep(0.02)
    while found.ready < watchers:
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(found.report()), flush=True)
        found.forget()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
