"""Features of users as they were served, from the slates in the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from podium.event.v1 import event_pb2
from services.common.actor import actor_key
from services.common.event_log import read_log
from services.common.log_marks import read_duplicate_marks


@dataclass(frozen=True)
class ServedRow:
    """One user's row: values by feature, as they held at ``time_ms`` from the log before
    ``position``. ``key`` is the user's pseudonym."""

    view_hash: str
    rank_id: str
    key: str
    time_ms: int
    position: int
    values: dict[str, Any]


def served_rows(log_dir: Path) -> Iterator[ServedRow]:
    """Every slate that was logged with the user's features, in order of arrival."""
    marked = read_duplicate_marks(log_dir)
    for arrival, payload in read_log(log_dir):
        try:
            logged = event_pb2.LoggedEvent.FromString(payload)
        except DecodeError:
            continue
        event = logged.event
        slate = event.slate_served
        if logged.duplicate or arrival in marked or not slate.HasField("user_features"):
            continue
        yield ServedRow(
            slate.feature_view_hash,
            event.rank_id,
            actor_key(event.actor.user_id, event.actor.device_id),
            slate.user_features.evaluated_at.ToMilliseconds(),
            slate.feature_log_position,
            _values(slate.user_features),
        )


def _values(served: event_pb2.ServedFeatures) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for names, found in (
        (served.float_features, served.float_values),
        (served.int_features, served.int_values),
        (served.string_features, served.string_values),
    ):
        values |= zip(names, found, strict=True)
    start = 0
    for name, size in zip(served.list_features, served.list_sizes, strict=True):
        values[name] = list(served.list_values[start : start + size])
        start += size
    return values
