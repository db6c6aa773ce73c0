"""The Kubernetes manifests, and what ``deploy/k8s/test`` refuses; no cluster is needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[3] / "deploy" / "k8s"
SERVICES = ("feature", "ranker", "experiment")


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_out_of_balancers_before_it_stops_and_has_time_to_stop(service: str) -> None:
    pod = pod_of(service)
    (container,) = pod["containers"]
    assert {"name": "PODIUM_LAME_DUCK_SECONDS", "value": "3"} in container["env"]
    assert pod["terminationGracePeriodSeconds"] == 45


def test_what_services_write_lies_on_a_volume() -> None:
    image = (K8S.parent / "Dockerfile").read_text()
    settings = ("LOG_DIR", "STORE_DIR", "SPOOL_DIR", "REPLICA_DIR", "CAPTURE_DIR", "EXPERIMENT_DIR")
    for setting in settings:
        assert f"PODIUM_{setting}=/data/" in image
    for service in SERVICES:
        (container,) = pod_of(service)["containers"]
        assert "/data" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_a_namespace_that_exists_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    done, calls = run_on_fake_cluster(tmp_path, 'echo "namespace/podium"')
    assert done.returncode == 2
    assert "has a namespace podium already" in done.stderr
    assert "build" not in calls
    assert "delete" not in calls


def test_a_cluster_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    done, calls = run_on_fake_cluster(tmp_path, "exit 1")
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    assert "delete" not in calls


def pod_of(service: str) -> dict[str, Any]:
    """The pod that the workload of a service makes."""
    first = next(yaml.safe_load_all((K8S / "base" / f"{service}.yaml").read_text()))
    pod: dict[str, Any] = first["spec"]["template"]["spec"]
    return pod


def run_on_fake_cluster(directory: Path, get: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """``deploy/k8s/test`` on a cluster whose images can't be built; ``get`` is what its
    ``kubectl get`` does. Also returns all calls made of the cluster."""
    calls = directory / "calls"
    for name in ("up", "down", "exec", "build", "load-image"):
        script = directory / name
        body = {"build": "exit 1", "exec": f'case "$*" in *" get namespace"*) {get};; esac'}
        script.write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n{body.get(name, "")}\n')
        script.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
    environment |= {"CLUSTER": str(directory), "TMPDIR": str(directory)}
    done = subprocess.run(
        [str(K8S / "test")], env=environment, capture_output=True, text=True, check=False
    )
    return done, calls.read_text()
