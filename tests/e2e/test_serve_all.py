"""``podium serve all``: three real services start, take calls, and stop together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.demo.processes import free_port
from services.common.channels import open_channel
from tests.e2e.conftest import ROOT


def _health(port: int) -> int:
    with open_channel(f"127.0.0.1:{port}") as channel:
        asked = health_pb2.HealthCheckRequest()
        status: int = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20).status
        return status


def test_three_services_start_and_stop_together(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("feature", "ranker", "experiment")}
    settings = {f"PODIUM_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    settings |= {f"PODIUM_{name.upper()}_METRICS_PORT": "0" for name in ports}
    settings |= {
        f"PODIUM_{name.upper()}_DIR": str(tmp_path / name)
        for name in ("log", "store", "bundles", "spool", "replica")
    }
    settings["PODIUM_FEATURE_TARGET"] = f"127.0.0.1:{ports['feature']}"
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "serve", "all"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PODIUM_")} | settings,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        awaited = {("feature", "ready"), ("experiment", "ready"), ("ranker", "listening on")}
        for line in process.stderr:
            lines.append(line)
            entry = json.loads(line)
            awaited = {
                (service, text)
                for service, text in awaited
                if service != entry["service"] or not entry["message"].startswith(text)
            }
            if not awaited:
                break
        assert not awaited, "".join(lines)
        assert _health(ports["feature"]) == health_pb2.HealthCheckResponse.SERVING
        assert _health(ports["experiment"]) == health_pb2.HealthCheckResponse.SERVING
        # No bundle was published: the ranker must not pretend to be ready.
        assert _health(ports["ranker"]) == health_pb2.HealthCheckResponse.NOT_SERVING
        process.send_signal(signal.SIGTERM)
        lines += process.stderr.readlines()
        assert process.wait(timeout=60) == 0, "".join(lines)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    stopped = [e["service"] for e in map(json.loads, lines) if e["message"] == "stopped"]
    assert stopped == ["ranker", "experiment", "feature"]
    assert "Traceback" not in "".join(lines)


_COMMAND = """
import typer
from cli import serve
app = typer.Typer()
serve.register(app)
app()
"""
