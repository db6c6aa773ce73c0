"""A process of watchers: ``python -m benchmarks.watch_client TARGET WATCHERS CHANNELS``.

Reads the request (hex) from standard input, opens that many streams and prints ``ready`` when each
has its snapshot. From then on every line on standard input asks for what came since the last: one
JSON object with, for every room that ended, when (epoch seconds) each watcher got the step that
said so. A step that many watchers get is decoded once: decoding is not what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import OrderedDict, defaultdict
from typing import Any

import grpc
import numpy as np

from podium.feature.v1.feature_pb2 import WatchEntitiesResponse

METHOD = "/podium.feature.v1.FeatureService/WatchEntities"
_KEPT_STEPS = 64


class Watchers:
    """Streams over some channels, and when each saw which room end."""

    def __init__(self, target: str, channels: int) -> None:
        # A channel of its own is a connection of its own.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(channels)]
        self._decoded: OrderedDict[bytes, tuple[str, list[str]]] = OrderedDict()
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
        ended: set[str] = set()
        begun = False
        try:
            method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
            async for step in method(request):
                now_s = time.time()
                self.steps += 1
                self.steps_bytes += len(step)
                kind, rooms = self._decode(step)
                if kind == "snapshot_end":
                    begun = True
                    self.ready += 1
                for room in rooms:
                    if room not in ended:
                        ended.add(room)
                        self.seen_s[room].append(now_s)
        except grpc.RpcError:
            self.broken += begun
            self.refused += not begun
        return begun

    def _decode(self, data: bytes) -> tuple[str, list[str]]:
        """The kind of a step, and the rooms in its changes that are not live."""
        known = self._decoded.get(data)
        if known is None:
            step = WatchEntitiesResponse.FromString(data)
            rooms = []
            for rows in step.delta.upserts:
                if rows.entity_type == "room":
                    width = len(rows.block.int_features)
                    live = list(rows.block.int_features).index("live")
                    values = np.frombuffer(rows.block.int_values, "<i8").reshape(-1, width)
                    rooms += [rows.ids[at] for at in np.flatnonzero(values[:, live] == 0)]
            known = self._decoded[data] = (step.WhichOneof("step") or "", rooms)
            if len(self._decoded) > _KEPT_STEPS:
                self._decoded.popitem(last=False)
        return known


async def main(target: str, watchers: int, channels: int) -> None:
    """Runs until standard input ends."""
    request = bytes.fromhex(sys.stdin.readline().strip())
    found = Watchers(target, channels)
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
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
