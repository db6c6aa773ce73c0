"""Client channels: keepalive, reconnection, balancing and retries, the same everywhere."""

from __future__ import annotations

import json

import grpc

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 1),
)

# Every Podium method may be repeated: reads change nothing, and events are taken once by their id.
# The throttle stops that after five failures that no successes outweigh: a server that is down
# must not cost every caller the backoffs.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}


def channel_options(
    *, max_message_bytes: int = 64 << 20, retries: bool = True
) -> list[tuple[str, int | str]]:
    """Channel arguments; without ``retries`` a failed call is not repeated."""
    config = dict(_SERVICE_CONFIG)
    if not retries:
        del config["methodConfig"], config["retryThrottling"]
    return [
        *_OPTIONS,
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", max_message_bytes),
    ]


def open_channel(target: str, *, retries: bool = True) -> grpc.Channel:
    """A channel for calls from threads; ``target`` is ``HOST:PORT`` or any gRPC target."""
    return grpc.insecure_channel(target, options=channel_options(retries=retries))
