"""Opens the store that the settings name."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from services.common.errors import ConfigError
from services.feature.store.embedded import MAP_BYTES, EmbeddedStore
from services.feature.store.protocol import FeatureStore

StoreKind = Literal["embedded", "redis", "redis_cluster"]

WRITER_TIMEOUT_S: Final = 10.0
"""Longest wait of the applying process for an answer of Redis; nobody waits for it."""


@dataclass(frozen=True)
class StoreOptions:
    """Which store; ``max_bytes`` is for the embedded one, ``redis_*`` for the others."""

    kind: StoreKind = "embedded"
    max_bytes: int = MAP_BYTES
    redis_url: str = field(default="redis://localhost:6379/0", repr=False)
    redis_timeout_s: float = 1.0

    @property
    def shared(self) -> bool:
        """Whether other logs may fill the store too."""
        return self.kind != "embedded"


def open_store(
    options: StoreOptions,
    directory: Path,
    *,
    log_id: str,
    listed: Container[str],
    writes: bool,
) -> FeatureStore:
    """The store; an embedded one lies in ``directory``, others bear its name and know this log by
    ``log_id``. ``listed``: entity types that can be listed.

    Raises ``Unavailable`` for a directory that holds something else, ``ConfigError`` for a wrong
    URL and where the package ``redis`` is missing. A server that does not answer is no error yet.
    """
    if options.kind == "embedded":
        if not writes:
            # The tables have to be there before the first reader comes.
            EmbeddedStore(directory, max_bytes=options.max_bytes).close()
        return EmbeddedStore(directory, max_bytes=options.max_bytes, read_only=not writes)
    try:
        from services.feature.store.redis import RedisStore, connect, loop_server
    except ModuleNotFoundError as error:
        raise ConfigError(
            "environment", 0, "PODIUM_STORE", f"{options.kind} needs podium[redis]: {error}"
        ) from error
    servers = connect(
        options.redis_url,
        cluster=options.kind == "redis_cluster",
        timeout_s=WRITER_TIMEOUT_S if writes else options.redis_timeout_s,
    )
    on_loop = None
    if not writes and options.kind == "redis":
        on_loop = loop_server(options.redis_url, timeout_s=options.redis_timeout_s)
    return RedisStore(servers, name=directory.name, log_id=log_id, listed=listed, on_loop=on_loop)
