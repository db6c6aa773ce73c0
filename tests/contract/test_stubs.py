"""``podium/`` is what the protos generate, no more and no less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.suffix in {".py", ".pyi"}
    }


def test_generated_stubs_are_current(tmp_path: Path) -> None:
    protos = sorted(
        str(path.relative_to(ROOT))
        for folder in ("protos", "third_party/flagd")
        for path in (ROOT / folder).rglob("*.proto")
    )
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    command = [sys.executable, "-m", "grpc_tools.protoc"]
    for folder in ("protos", "podium/flagd=third_party/flagd", "third_party"):
        command += ["-I", folder]
    command += [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command += [f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--mypy_grpc_out=quiet:{tmp_path}"]
    subprocess.run([*command, *protos], cwd=ROOT, check=True)

    generated, committed = _files(tmp_path / "podium"), _files(ROOT / "podium")

    assert sorted(generated) == sorted(committed)
    assert [name for name in generated if generated[name] != committed[name]] == []
