"""SIGTERM in a real process: every call the service has begun is answered, and it exits with 0."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from podium.experiment.v1 import experiment_pb2_grpc
from services.common.channels import open_channel
from tests.integration.common.runtime_servers import request

ROOT = Path(__file__).parents[3]
CALLERS = 12


def _slow_service(kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.common.slow_service", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("kind", ["loop", "aio"])
def test_a_signal_stops_it_whichever_thread_is_given_it(kind: str) -> None:
    with _slow_service(kind) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            target = f"127.0.0.1:{int(child.stdout.readline())}"
            with open_channel(target) as channel:
                stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
                stub.Assign(request("ann"), timeout=20, wait_for_ready=True)
            child.stdin.write("stop\n")
            child.stdin.flush()
            assert child.wait(timeout=60) == 0
        finally:
            child.kill()


@pytest.mark.parametrize("kind", ["loop", "aio"])
def test_sigterm_loses_no_accepted_call(kind: str) -> None:
    child = _slow_service(kind)
    assert child.stdin is not None
    assert child.stdout is not None
    answered: set[str] = set()
    refused: dict[str, grpc.StatusCode] = {}
    stopping = threading.Event()

    def call_on(caller: int, target: str) -> None:
        with open_channel(target, retries=False) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            for number in range(1_000):
                user = f"{caller}-{number}"
                try:
                    answer = stub.Assign(request(user), timeout=20, wait_for_ready=number == 0)
                    answered.add(answer.definitions_hash)
                except grpc.RpcError as error:
                    refused[user] = error.code()
                    if stopping.is_set():
                        return

    try:
        target = f"127.0.0.1:{int(child.stdout.readline())}"
        begun: set[str] = set()
        with ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(call_on, caller, target) for caller in range(CALLERS)]
            while len(begun) < 3 * CALLERS:
                begun.add(child.stdout.readline().strip())
            stopping.set()
            child.send_signal(signal.SIGTERM)
            begun.update(line.strip() for line in child.stdout)
            for call in calls:
                call.result(timeout=60)
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    assert begun <= answered
    assert not begun & refused.keys()
    assert set(refused.values()) == {grpc.StatusCode.UNAVAILABLE}
