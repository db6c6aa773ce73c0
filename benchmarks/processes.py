"""Child processes of a benchmark, each on the cores it is given."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cores() -> tuple[set[int], set[int]]:
    """Cores of the server under test and of everything else; the same where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return {available[0]}, set(available[1:2]) or {available[0]}


def give_way() -> None:
    """Lets everything else on this machine go first, for what stands for other machines: this
    process and what it starts from now on get only what is left of a core (SCHED_IDLE, sched(7);
    Linux only). Anybody may."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def child(
    arguments: Sequence[str],
    on: set[int],
    environment: Mapping[str, str],
    *,
    python: Path | None = None,
    is_fed: bool = False,
    is_heard: bool = True,
) -> Iterator[subprocess.Popen[str]]:
    """A Python process on some cores, ended with SIGTERM; its standard output is a pipe while it
    ``is_heard``, its standard input when it ``is_fed``. ``python`` is that of another environment.
    """
    process = subprocess.Popen(
        [python or sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(environment),
        stdin=subprocess.PIPE if is_fed else None,
        stdout=subprocess.PIPE if is_heard else subprocess.DEVNULL,
        text=True,
    )
    os.sched_setaffinity(process.pid, on)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def await_serving(process: subprocess.Popen[str], port: int, seconds: float) -> None:
    """Waits until a service says SERVING. Raises ``RuntimeError`` when it ends or takes longer."""
    deadline_s = time.monotonic() + seconds
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while process.poll() is None and time.monotonic() < deadline_s:
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            time.sleep(0.1)
    raise RuntimeError(f"the service on port {port} did not begin to serve")


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    """Time a process has had on a core so far (user and system), from /proc; Linux only."""
    return _cpu_seconds(process.pid)


def started_cpu_seconds(process: subprocess.Popen[str]) -> float:
    """The same of the processes that it has started and that still run, added up."""
    total_s = 0.0
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for pid in children.read_text().split():
            total_s += _cpu_seconds(int(pid))
    return total_s


def waiting_seconds(process: subprocess.Popen[str]) -> float:
    """Time that a process's threads have been ready to run and waited for a core so far, added up,
    from /proc; Linux only."""
    waited_ns = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        waited_ns += int(task.joinpath("schedstat").read_text().split()[1])
    return waited_ns / 1e9


def memory_bytes(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Resident memory of a process now and at its most, from /proc; Linux only."""
    kib = dict(
        line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
    )
    return int(kib["VmRSS"].split()[0]) * 1024, int(kib["VmHWM"].split()[0]) * 1024


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
