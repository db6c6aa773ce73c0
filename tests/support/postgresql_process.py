"""The process in which ``tests.support.postgresql`` has its server.

It prints the server's URI, does what each line of standard input says, and stops the server where
that ends. The wheel becomes another user between fork and exec; a process that has gRPC's threads,
as the tests' own has, may break there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Serves from ``directory``, ``crash`` and ``start`` being the lines that are known."""
    private = directory / "run"
    private.mkdir(mode=0o700)
    # Where the wheel keeps its locks; it warns where that is not said.
    os.environ["XDG_RUNTIME_DIR"] = str(private)
    import pgserver

    server = pgserver.get_server(directory / "data", cleanup_mode="stop")
    told = {
        "crash": lambda: pgserver.pg_ctl(
            ["-w", "-m", "immediate", "stop"], pgdata=server.pgdata, user=server.system_user
        ),
        "start": server.ensure_postgres_running,
    }
    try:
        print(server.get_uri(), flush=True)
        for line in sys.stdin:
            told[line.strip()]()
            print("done", flush=True)
    finally:
        server.cleanup()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
