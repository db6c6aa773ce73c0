"""Runs ``podium`` commands as child processes: one after the other, or left running."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.errors import Unavailable

COMMAND = (sys.executable, "-m", "cli.main")


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs one command to its end. Raises ``Unavailable`` naming it when it fails."""
    code = subprocess.run([*_with(environment), *arguments], check=False).returncode
    if code != 0:
        raise Unavailable(f"podium {arguments[0]} ended with exit code {code}")


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Services:
    """Child processes that serve, by name; stopped in reverse order of their start."""

    def __init__(self, environment: Mapping[str, str], log_directory: Path) -> None:
        self._environment = dict(environment)
        self._log_directory = log_directory
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Starts ``podium serve NAME``, its output in a file of that name."""
        self._log_directory.mkdir(parents=True, exist_ok=True)
        with (self._log_directory / f"{name}.log").open("wb") as output:
            self._children[name] = subprocess.Popen(
                [*_with(self._environment), "serve", name],
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C reaches the parent alone, which stops them in order.
                start_new_session=True,
            )

    def wait_ready(self, name: str, target: str, timeout_seconds: float) -> None:
        """Waits until the service says SERVING.

        Raises ``Unavailable`` with the end of its log when it ends or the time is over.
        """
        give_up = time.monotonic() + timeout_seconds
        with grpc.insecure_channel(target) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < give_up:
                if self._children[name].poll() is not None:
                    break
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                except grpc.RpcError:
                    answer = None
                if answer and answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                time.sleep(0.05)
        raise Unavailable(f"{name} did not get ready:\n{self._log_tail(name)}")

    def wait_any(self) -> str:
        """Waits until one of them ends, and names it."""
        while True:
            for name, child in self._children.items():
                if child.poll() is not None:
                    return name
            time.sleep(0.2)

    def stop(self) -> str:
        """Drains and ends them all; says which did not end cleanly, or nothing."""
        codes = {}
        for name, child in reversed(self._children.items()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                codes[name] = child.wait(timeout=60)
            except subprocess.TimeoutExpired:
                child.kill()
                codes[name] = child.wait()
        failed = {name: code for name, code in codes.items() if code != 0}
        self._children.clear()
        if not failed:
            return ""
        tails = "\n".join(self._log_tail(name) for name in failed)
        return f"ended with exit codes {failed}\n{tails}"

    def _log_tail(self, name: str) -> str:
        lines = (self._log_directory / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])


def demo_environment(directory: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Settings of the three services for one directory and the given ports.

    Metrics take any free port, which the service's log names: nothing here reads them.
    """
    environment = {
        "PODIUM_LOG_DIR": str(directory / "log"),
        "PODIUM_STORE_DIR": str(directory / "store"),
        "PODIUM_SPOOL_DIR": str(directory / "spool"),
        "PODIUM_CAPTURE_DIR": str(directory / "captures"),
        "PODIUM_REPLICA_DIR": str(directory / "replica"),
        "PODIUM_BUNDLES_DIR": str(directory / "bundles"),
        "PODIUM_LOGGED_FEATURE_SHARE": "1.0",
        "PODIUM_FEATURE_TARGET": f"localhost:{ports['feature']}",
        "PODIUM_EXPERIMENT_TARGET": f"localhost:{ports['experiment']}",
    }
    for name, port in ports.items():
        environment[f"PODIUM_{name.upper()}_PORT"] = str(port)
        environment[f"PODIUM_{name.upper()}_METRICS_PORT"] = "0"
    return environment


def _with(environment: Mapping[str, str]) -> list[str]:
    """The command under ``env``, which adds to the inherited environment."""
    return ["env", *(f"{name}={value}" for name, value in environment.items()), *COMMAND]
